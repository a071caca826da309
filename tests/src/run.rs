//! `portcullis run` with an Envoy of its own, as a user has it.

use std::{fs, path::Path, process::Command, thread};

use crate::{
    artefacts,
    denials::Watched,
    scratch::Scratch,
    spawned::Spawned,
    wait::{self, PATIENCE},
};

/// A running `portcullis run` of one Gateway, `edge/public`.
#[derive(Debug)]
pub struct Run {
    watched: Option<Watched>,
    spawned: Spawned,
}

impl Run {
    /// Starts it on a folder, with its files in `scratch`, and waits for `ready`; clients use these ports.
    #[must_use]
    pub fn start(scratch: &Scratch, folder: &Path, ports: &[u16]) -> Self {
        let (run_dir, state) = (scratch.join("run"), scratch.join("state"));
        fs::create_dir(&run_dir).unwrap_or_else(|error| panic!("{}: {error}", run_dir.display()));
        let mut command = Command::new(artefacts::controller());
        command.arg("run").arg("-f").arg(folder);
        command.arg("--envoy").arg(artefacts::envoy());
        command.arg("--wasm").arg(artefacts::filter());
        command.arg("--run-dir").arg(&run_dir).arg("--state-dir").arg(&state);
        command.args(["--concurrency", "4"]);
        let mut spawned = Spawned::start(command, &scratch.join("controller"));
        wait::until("everything is in place", PATIENCE, || {
            spawned.assert_running();
            spawned.stdout().lines().any(|line| line == "ready").then_some(())
        });
        let ports: Vec<(u16, u16)> = ports.iter().map(|port| (*port, *port)).collect();
        let log = run_dir.join("edge.public/access.log");
        Self {
            watched: Some(Watched::other(&ports, folder, &state, &log)),
            spawned,
        }
    }

    /// What it has printed as its result.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.spawned.stdout()
    }

    /// What it has printed beside its result.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.spawned.stderr()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // What it refused is explained while it runs; then it takes Envoy with it.
        self.watched.take();
        if thread::panicking() {
            self.spawned.kill();
        } else {
            self.spawned.terminate();
        }
    }
}
