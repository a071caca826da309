//! The built program's `run`: what it starts, what it says, and how it ends. Envoy is a script here: what real Envoys do
//! with what they are given is for the end-to-end tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop the test that they are called from"
)]

mod common;

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use self::common::{PORTCULLIS, edit, manifests};

/// A `run` with a folder of its own.
struct Run {
    root: tempfile::TempDir,
    child: Option<Child>,
}

impl Run {
    /// A folder with manifests for a free port, a filter and a script that is called Envoy.
    fn prepare() -> Self {
        let root = tempfile::tempdir().unwrap();
        let run = Self { root, child: None };
        fs::create_dir(run.path("manifests")).unwrap();
        fs::write(run.path("manifests/orders.yaml"), manifests(free_port(), "10.0.0.0/8")).unwrap();
        fs::write(
            run.path("filter.wasm"),
            filter(r#"{"version":"0.1.0","documents":[1]}"#),
        )
        .unwrap();
        let mut script = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(run.path("envoy"))
            .unwrap();
        script
            .write_all(b"#!/bin/sh\necho $$ >>\"${2%/*}/pids\"\nexec sleep 600\n")
            .unwrap();
        run
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PORTCULLIS);
        command
            .args([
                "run",
                "-f",
                "manifests",
                "--wasm",
                "filter.wasm",
                "--state-dir",
                "state",
            ])
            .args(arguments)
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end: exit code and stderr.
    fn ends(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.stdout, b"", "nothing is served");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn start(&mut self, arguments: &[&str]) {
        let log = |name| fs::File::create(self.path(name)).unwrap();
        let mut command = self.command(arguments);
        command.stdout(log("stdout")).stderr(log("stderr"));
        self.child = Some(command.spawn().unwrap());
    }

    fn stdout(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// Waits until it has said something on stdout or stderr.
    fn says(&self, text: &str) {
        self.until(text, || self.stdout().contains(text) || self.stderr().contains(text));
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(
                Instant::now() < end,
                "waited for {what:?}\nstdout:\n{}\nstderr:\n{}",
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Sends SIGTERM and waits for the exit code.
    fn stop(&mut self) -> i32 {
        self.signal("-TERM");
        let status = self.child.take().unwrap().wait().unwrap();
        status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal\n{}", self.stderr()))
    }

    /// The processes that were started as Envoy, in order.
    fn envoys(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path("run/edge.public/pids")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn lives(pid: u32) -> bool {
    // A dead child that nobody has waited for is a zombie.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A WebAssembly module with nothing but a declaration.
fn filter(declaration: &str) -> Vec<u8> {
    let mut section = b"\x0aportcullis".to_vec();
    section.extend_from_slice(declaration.as_bytes());
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    module.push(u8::try_from(section.len()).unwrap());
    module.extend(section);
    module
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_serves_envoys_of_the_users_own_until_it_is_told_to_stop() {
    let mut run = Run::prepare();
    run.start(&["--no-envoy"]);
    run.says("ready\n");
    let socket = run.path("state/xds.sock");
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&run.path("state")), 0o700);
    assert!(
        run.stdout().contains("listener  edge/public/http  no-proxies"),
        "{}",
        run.stdout()
    );
    assert!(
        run.stdout().contains("policy    edge/orders       no-proxies"),
        "{}",
        run.stdout()
    );

    let (code, stderr) = run.ends(&["--no-envoy"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("state/xds.sock: another controller serves here; stop it, or give another --xds-socket"),
        "{stderr}"
    );
    assert_eq!(run.stop(), 0);
    assert!(!socket.exists());
}

#[test]
fn a_socket_that_a_killed_controller_left_is_taken_over() {
    let mut run = Run::prepare();
    run.start(&["--no-envoy"]);
    run.says("ready\n");
    run.signal("-KILL");
    run.child.take().unwrap().wait().unwrap();
    assert!(run.path("state/xds.sock").exists());
    run.start(&["--no-envoy"]);
    run.says("ready\n");
}

#[test]
fn envoy_is_started_again_when_it_dies_and_stopped_at_the_end() {
    let mut run = Run::prepare();
    run.start(&["--envoy", "./envoy", "--run-dir", "run"]);
    run.until("an Envoy", || run.envoys().len() == 1);
    assert_eq!(mode(&run.path("run/edge.public")), 0o700);
    assert_eq!(mode(&run.path("run/edge.public/bootstrap.yaml")), 0o600);
    let first = run.envoys()[0];
    assert!(
        Command::new("kill")
            .args(["-KILL", &first.to_string()])
            .status()
            .unwrap()
            .success()
    );
    run.says("envoy edge/public: was killed by signal 9");
    run.until("another Envoy", || run.envoys().len() == 2);
    let second = run.envoys()[1];
    assert!(lives(second));
    assert_eq!(run.stop(), 0);
    assert!(!lives(second), "no Envoy is left behind");
}

#[test]
fn no_envoy_outlives_a_killed_controller() {
    let mut run = Run::prepare();
    run.start(&["--envoy", "./envoy", "--run-dir", "run"]);
    run.until("an Envoy", || run.envoys().len() == 1);
    let envoy = run.envoys()[0];
    run.signal("-KILL");
    run.until("the end of Envoy", || !lives(envoy));
}

#[test]
fn an_envoy_goes_with_its_gateway() {
    let mut run = Run::prepare();
    run.start(&["--envoy", "./envoy", "--run-dir", "run"]);
    run.until("an Envoy", || run.envoys().len() == 1);
    let envoy = run.envoys()[0];
    fs::remove_file(run.path("manifests/orders.yaml")).unwrap();
    run.until("the end of Envoy", || !lives(envoy));
    fs::write(run.path("manifests/orders.yaml"), manifests(free_port(), "10.0.0.0/8")).unwrap();
    run.until("another Envoy", || run.envoys().len() == 2);
    assert_eq!(run.stop(), 0);
}

#[test]
fn a_file_that_goes_bad_keeps_what_it_said() {
    let mut run = Run::prepare();
    run.start(&["--no-envoy", "-o", "json"]);
    run.says("\"ready\"");
    let lines = || run.stdout().lines().count();
    let before = lines();
    let path = run.path("manifests/orders.yaml");
    edit(&path, "defaultAction", "defaultAktion");
    run.says("manifests/orders.yaml: has errors; what it said before stays in force");
    run.says("error[unknown-field] SecurityPolicy edge/orders spec.authorization.defaultAktion");
    assert_eq!(lines(), before, "nothing that is served has changed: {}", run.stdout());

    edit(&path, "defaultAktion: Deny", "defaultAction: Allow");
    run.says("manifests/orders.yaml: no longer held back");
    run.until("a line for the new policy", || lines() == before + 1);
    let line: serde_json::Value = serde_json::from_str(run.stdout().lines().last().unwrap()).unwrap();
    assert_eq!(line["kind"], "policy");
    assert_eq!(line["name"], "edge/orders");
}

#[test]
fn nothing_is_served_at_first_from_a_file_that_has_errors() {
    let run = Run::prepare();
    edit(&run.path("manifests/orders.yaml"), "defaultAction", "defaultAktion");
    let (code, stderr) = run.ends(&["--no-envoy"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("error[unknown-field]"), "{stderr}");
    assert!(
        stderr.ends_with("not started: mend manifests/orders.yaml first\n"),
        "{stderr}"
    );
}

#[test]
fn a_filter_that_is_missing_or_cannot_decode_is_refused() {
    let run = Run::prepare();
    for (content, expected) in [
        (
            Some(filter(r#"{"version":"9.0.0","documents":[9]}"#)),
            "upgrade the filter first, then the controller",
        ),
        (
            Some(b"\0asm\x01\0\0\0".to_vec()),
            "give --wasm the portcullis.wasm that came with this controller",
        ),
        (None, "build it with `make build`, or give --wasm FILE"),
    ] {
        fs::remove_file(run.path("filter.wasm")).unwrap();
        if let Some(content) = content {
            fs::write(run.path("filter.wasm"), content).unwrap();
        }
        let (code, stderr) = run.ends(&["--no-envoy"]);
        assert_eq!(code, 2);
        assert!(stderr.trim_end().ends_with(expected), "{stderr}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_its_owner_before_envoy_starts() {
    let run = Run::prepare();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(run.path("manifests/orders.yaml"), manifests(port, "10.0.0.0/8")).unwrap();
    let (code, stderr) = run.ends(&["--envoy", "./envoy", "--run-dir", "run"]);
    assert_eq!(code, 2);
    let expected = format!("port {port} is in use by pid {} (", std::process::id());
    assert!(stderr.contains(&expected), "{stderr}");
    assert_eq!(run.envoys(), [0; 0]);
}

#[test]
fn a_missing_envoy_is_named_with_the_fix() {
    let run = Run::prepare();
    let (code, stderr) = run.ends(&["--envoy", "./nowhere"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("nowhere: no executable file; give --envoy BIN"),
        "{stderr}"
    );
}
