//! The built controller: as a server without an Envoy of its own, and as a command.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::{
    artefacts, denials,
    scratch::Scratch,
    spawned::Spawned,
    wait::{self, PATIENCE},
};

/// A running `portcullis run --no-envoy`.
#[derive(Debug)]
pub struct Controller {
    spawned: Spawned,
    place: Place,
}

/// What a controller needs to be started again as the same one.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of manifests.
    pub folder: PathBuf,
    socket: PathBuf,
    state: PathBuf,
    log: PathBuf,
    filter: PathBuf,
    address: Option<SocketAddr>,
}

impl Place {
    /// A controller of `folder` that keeps its socket and state in `scratch`.
    #[must_use]
    pub fn new(scratch: &Scratch, folder: &Path) -> Self {
        let state = scratch.join("state");
        denials::place(scratch.path(), folder, &state);
        Self {
            folder: folder.to_path_buf(),
            socket: scratch.join("xds.sock"),
            state,
            log: scratch.join("controller"),
            filter: artefacts::filter(),
            address: None,
        }
    }

    /// The same with xDS on TCP too.
    #[must_use]
    pub fn on(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The folder of credentials of a Gateway's proxies, `namespace/name`.
    #[must_use]
    pub fn credentials(&self, gateway: &str) -> PathBuf {
        self.state.join("xds").join(gateway)
    }

    /// The bootstrap for an Envoy of a Gateway that reaches the controller on TCP with these credentials.
    ///
    /// # Panics
    /// If the controller is on no address.
    #[must_use]
    pub fn bootstrap_over_tls(&self, gateway: &str, credentials: &Path) -> Value {
        let address = self.address.expect("an address").to_string();
        let mut command = self.command("render");
        command.args([
            "--bootstrap",
            "-o",
            "json",
            "--gateway",
            gateway,
            "--xds-address",
            &address,
        ]);
        command.arg("--xds-credentials").arg(credentials);
        json(&finished(command))
    }

    /// The same with another file of the filter.
    #[must_use]
    pub fn with_filter(mut self, file: &Path) -> Self {
        file.clone_into(&mut self.filter);
        self
    }

    /// The bootstrap for an Envoy of the folder's only Gateway.
    #[must_use]
    pub fn bootstrap(&self) -> Value {
        self.bootstrap_with(&[])
    }

    /// The bootstrap for an Envoy of one Gateway, `namespace/name`.
    #[must_use]
    pub fn bootstrap_of(&self, gateway: &str) -> Value {
        self.bootstrap_with(&["--gateway", gateway])
    }

    fn bootstrap_with(&self, more: &[&str]) -> Value {
        let mut command = self.command("render");
        command.arg("--bootstrap").arg("--xds-socket").arg(&self.socket);
        command.args(["-o", "json"]).args(more);
        json(&finished(command))
    }

    /// The static configuration of the folder's only Gateway, secrets in clear.
    #[must_use]
    pub fn snippet(&self, scratch: &Scratch) -> Value {
        let file = scratch.join("snippet.json");
        let mut command = self.command("render");
        command.args(["--snippet", "-o", "json", "--show-secrets"]).arg(&file);
        finished(command);
        json(&fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    }

    /// What `render` prints without any option.
    #[must_use]
    pub fn render(&self) -> String {
        finished(self.command("render"))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(artefacts::controller());
        command
            .arg(subcommand)
            .arg("-f")
            .arg(&self.folder)
            .arg("--state-dir")
            .arg(&self.state);
        command.arg("--wasm").arg(&self.filter);
        command
    }
}

impl Controller {
    /// Starts it and waits for `ready`.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        let mut command = place.command("run");
        command.arg("--no-envoy").arg("--xds-socket").arg(&place.socket);
        if let Some(address) = place.address {
            command.arg("--xds-address").arg(address.to_string());
        }
        let mut spawned = Spawned::start(command, &place.log);
        wait::until("the controller is ready", PATIENCE, || {
            spawned.assert_running();
            spawned.stdout().lines().any(|line| line == "ready").then_some(())
        });
        Self {
            spawned,
            place: place.clone(),
        }
    }

    /// Everything it has printed, results and diagnostics.
    #[must_use]
    pub fn output(&self) -> String {
        self.spawned.stdout() + &self.spawned.stderr()
    }

    /// Ends it without warning, as `kill -9` does.
    pub fn kill(&mut self) {
        self.spawned.kill();
    }

    /// Asks it to stop.
    pub fn stop(&mut self) {
        self.spawned.terminate();
    }

    /// What it is a controller of.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.spawned.pid()
    }
}

/// Runs the built controller to its end.
#[must_use]
pub fn portcullis(arguments: &[&str]) -> Output {
    Command::new(artefacts::controller())
        .args(arguments)
        .output()
        .expect("the controller runs")
}

/// A port that was free a moment ago, for a Gateway: its port is a number in a manifest.
///
/// It is below those that the system gives to connections: one of them is taken at any moment, between this look and Envoy's.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Other runs begin elsewhere.
        let number = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).expect("it is below 32,000");
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

fn finished(mut command: Command) -> String {
    let output = command.output().expect("the controller runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
