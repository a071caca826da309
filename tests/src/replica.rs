//! A controller that reads a cluster: `portcullis run --kubernetes`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    artefacts,
    cluster::Cluster,
    controller::{Place, free_port},
    envoy::Envoy,
    scratch::{self, Scratch},
    spawned::Spawned,
    wait::{self, PATIENCE},
};

/// A running replica, with the Envoy that it may serve.
#[derive(Debug)]
pub struct Replica {
    spawned: Spawned,
    health: SocketAddr,
    scratch: Scratch,
    name: String,
}

impl Replica {
    /// Starts it; what it calls itself in the Lease begins with `name`.
    #[must_use]
    pub fn start(cluster: &Cluster, name: &str, arguments: &[&str]) -> Self {
        Self::launch(cluster, name, arguments, None)
    }

    fn launch(cluster: &Cluster, name: &str, arguments: &[&str], kubeconfig: Option<&Path>) -> Self {
        let scratch = Scratch::new();
        let health = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = command(cluster, name, &scratch, health);
        command.args(arguments);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        Self {
            spawned: Spawned::start(command, &scratch.join("controller")),
            health,
            scratch,
            name: name.to_owned(),
        }
    }

    /// Starts it once more in the same place after it was ended: its Envoys find it there again.
    pub fn restart(&mut self, cluster: &Cluster) {
        let command = command(cluster, &self.name, &self.scratch, self.health);
        self.spawned = Spawned::start(command, &self.scratch.join("controller"));
    }

    /// Starts it with another kubeconfig than the administrator's.
    #[must_use]
    pub fn start_as(cluster: &Cluster, kubeconfig: &Path, arguments: &[&str]) -> Self {
        Self::launch(cluster, "other", arguments, Some(kubeconfig))
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn ready(cluster: &Cluster, name: &str) -> Self {
        let mut replica = Self::start(cluster, name, &[]);
        replica.until_ready();
        replica
    }

    /// Waits until it is ready.
    pub fn until_ready(&mut self) {
        wait::until("the replica is ready", PATIENCE, || {
            self.spawned.assert_running();
            (self.get("/readyz").0 == 200).then_some(())
        });
    }

    /// Asks it about its health; status 0 if nobody answers.
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask(path).unwrap_or_default()
    }

    /// What it refuses to say is no refused request, so the client that looks for those does not ask.
    fn ask(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.health).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: health\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// An Envoy of the only Gateway in `manifests`, connected to this replica.
    #[must_use]
    pub fn envoy(&self, manifests: &str, edit: impl FnOnce(&mut Value)) -> Envoy {
        let mut bootstrap = self.bootstrap(manifests);
        edit(&mut bootstrap);
        Envoy::start(&self.scratch, &bootstrap).unwatched()
    }

    /// The bootstrap of an Envoy of the only Gateway in `manifests`, for this replica.
    #[must_use]
    pub fn bootstrap(&self, manifests: &str) -> Value {
        let folder = self.scratch.join("manifests");
        scratch::write(&folder.join("all.yaml"), manifests);
        Place::new(&self.scratch, &folder).bootstrap()
    }

    /// Where Envoys of this machine find it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("xds.sock")
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.spawned.pid()
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.spawned.stdout() + &self.spawned.stderr()
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.spawned.kill();
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(&mut self) {
        self.spawned.terminate();
    }
}

fn command(cluster: &Cluster, name: &str, scratch: &Scratch, health: SocketAddr) -> Command {
    let mut command = cluster.command(&artefacts::controller());
    command
        .args(["run", "--kubernetes", "--state-dir"])
        .arg(scratch.join("state"));
    command.arg("--xds-socket").arg(scratch.join("xds.sock"));
    command.arg("--wasm").arg(artefacts::filter());
    // Several run at once.
    command.args(["--xds-address", "127.0.0.1:0"]);
    command.arg("--health-address").arg(health.to_string());
    command.env("POD_NAME", name);
    command
}

/// Runs a command of the controller against a cluster.
#[must_use]
pub fn portcullis(cluster: &Cluster, arguments: &[&str]) -> Output {
    let controller: PathBuf = artefacts::controller();
    let mut command: Command = cluster.command(&controller);
    command.args(arguments).output().expect("the controller runs")
}
