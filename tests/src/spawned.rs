//! A program that a test started: its output goes to a file, and it never outlives the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::wait;

/// A running program.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Spawned {
    /// Starts `command` with its outputs in `<log>.out` and `<log>.err`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let (out, err) = (log.with_extension("out"), log.with_extension("err"));
        let create = |path: &Path| File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let child = command
            .stdin(Stdio::null())
            .stdout(create(&out))
            .stderr(create(&err))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, out, err }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with what it prints as its result.
    #[must_use]
    pub fn stdout_file(&self) -> &Path {
        &self.out
    }

    /// What it has printed as its result.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it has printed beside its result.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Panics with its output if it has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("ended early ({status}):\n{}{}", self.stdout(), self.stderr());
        }
    }

    /// Asks it to stop (SIGTERM) and waits.
    ///
    /// # Panics
    /// If it is still there after ten seconds.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        wait::until("the program has stopped", Duration::from_secs(10), || self.ended())
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Sends a signal by name to one program.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "cannot signal {pid}");
}
