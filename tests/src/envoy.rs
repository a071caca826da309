//! A stock Envoy with a given bootstrap.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, ExitStatus},
};

use serde_json::{Value, json};

use crate::{
    access_log::Entry,
    artefacts,
    client::{self, Connection, Request},
    denials::{Summary, Watched},
    scratch::Scratch,
    spawned::Spawned,
    stats::Stats,
    wait::{self, PATIENCE},
};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    // First: what is still to be explained needs it to run.
    watched: Watched,
    spawned: Spawned,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts Envoy with two workers and waits until it is live.
    ///
    /// # Panics
    /// If it does not become live; its log is in the message.
    #[must_use]
    pub fn start(scratch: &Scratch, bootstrap: &Value) -> Self {
        Self::start_with(scratch, bootstrap, 2)
    }

    /// Starts Envoy and waits until it is live. With one worker, faults of single workers would pass by accident.
    #[must_use]
    pub fn start_with(scratch: &Scratch, bootstrap: &Value, concurrency: u32) -> Self {
        assert!(concurrency >= 2, "tests need two workers or more");
        let mut envoy = Self::launch(scratch, bootstrap, concurrency);
        wait::until("Envoy is live", PATIENCE, || {
            envoy.spawned.assert_running();
            // While Envoy starts it may cut a connection.
            let ready = Request::get("admin", "/ready");
            let answer = Connection::try_open(envoy.admin).and_then(|mut admin| admin.try_send(&ready));
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        });
        envoy
    }

    /// Starts Envoy and waits only for its admin interface.
    #[must_use]
    pub fn launch(scratch: &Scratch, bootstrap: &Value, concurrency: u32) -> Self {
        let (mut spawned, admin_file) = spawn(scratch, bootstrap, concurrency);
        let admin = wait::until("Envoy has an admin port", PATIENCE, || {
            spawned.assert_running();
            fs::read_to_string(&admin_file).ok()?.trim().parse().ok()
        });
        Self {
            watched: Watched::envoy(scratch.path(), bootstrap, admin, spawned.stdout_file()),
            spawned,
            admin,
        }
    }

    /// Declares that it does not run what its manifests say, and why: what it refuses is explained by its code alone.
    #[must_use]
    pub fn beside_manifests(self, why: &'static str) -> Self {
        self.watched.beside_manifests(why);
        self
    }

    /// Explains every request that it answered by itself so far.
    ///
    /// # Panics
    /// If one is not explained as it happened.
    #[must_use]
    pub fn explained(&self) -> Summary {
        self.watched.explained()
    }

    /// Declares that nothing needs to be explained of it: it is no test's.
    #[must_use]
    pub fn unwatched(self) -> Self {
        self.watched.ignore();
        self
    }

    /// Starts Envoy with a bootstrap that it must refuse; gives its exit status and its log.
    ///
    /// # Panics
    /// If it keeps running.
    #[must_use]
    pub fn refused(scratch: &Scratch, bootstrap: &Value) -> (ExitStatus, String) {
        let (mut spawned, _) = spawn(scratch, bootstrap, 2);
        let status = wait::until("Envoy refuses its bootstrap", PATIENCE, || spawned.ended());
        (status, spawned.stderr())
    }

    /// Its admin interface.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Asks the admin interface.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        client::once(self.admin, &Request::get("admin", path)).text()
    }

    /// The counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::parse(&self.get("/stats"))
    }

    /// Where the only listener is bound.
    ///
    /// # Panics
    /// If there is more than one or none.
    #[must_use]
    pub fn listener(&self) -> SocketAddr {
        let all = self.listeners();
        assert_eq!(all.len(), 1, "one listener: {all:?}");
        all[0].1
    }

    /// Every listener by name, as bound on IPv4 loopback.
    #[must_use]
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let text = self.get("/listeners?format=json");
        let statuses: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let statuses = statuses["listener_statuses"].as_array().cloned().unwrap_or_default();
        let bound = statuses.iter().filter_map(|status| {
            let port = u16::try_from(status["local_address"]["socket_address"]["port_value"].as_u64()?).ok()?;
            Some((
                status["name"].as_str()?.to_owned(),
                SocketAddr::from(([127, 0, 0, 1], port)),
            ))
        });
        bound.collect()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.spawned.stderr()
    }

    /// Its access log as text.
    #[must_use]
    pub fn access_log(&self) -> String {
        self.spawned.stdout()
    }

    /// Its access log, as far as it is written.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        Entry::parse_all(&self.spawned.stdout())
    }

    /// Waits for the access log's entry number `index`, from 0.
    #[must_use]
    pub fn entry(&self, index: usize) -> Entry {
        wait::until("the access log has the entry", PATIENCE, || {
            self.entries().into_iter().nth(index)
        })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.spawned.pid()
    }

    /// Panics with its log if it has died.
    pub fn assert_running(&mut self) {
        self.spawned.assert_running();
    }

    /// Asks it to stop and waits.
    pub fn stop(&mut self) {
        self.spawned.terminate();
    }
}

fn spawn(scratch: &Scratch, bootstrap: &Value, concurrency: u32) -> (Spawned, std::path::PathBuf) {
    let mut bootstrap = bootstrap.clone();
    bootstrap["admin"] = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
    let config = scratch.write("envoy.json", &bootstrap.to_string());
    let admin_file = scratch.join("admin.address");
    let _ = fs::remove_file(&admin_file);
    let mut command = command(&config);
    command
        .args(["--concurrency", &concurrency.to_string()])
        .arg("--admin-address-path")
        .arg(&admin_file);
    (Spawned::start(command, &scratch.join("envoy")), admin_file)
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(artefacts::envoy());
    command.arg("-c").arg(config);
    command.args([
        // As `portcullis run` and the compose file have it.
        "--component-log-level",
        "config:error,upstream:error",
        "--disable-hot-restart",
        "--file-flush-interval-msec",
        "20",
        "--drain-time-s",
        "5",
    ]);
    command
}

/// Lets Envoy check a bootstrap without running it.
///
/// # Errors
/// What Envoy says against it.
pub fn validate(config: &Path) -> Result<(), String> {
    let output = command(config)
        .args(["--mode", "validate"])
        .output()
        .expect("Envoy runs");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
