//! The compose file, really started: a Docker engine of the test's own, images built here, requests through the published
//! port.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use portcullis_e2e::{
    artefacts,
    client::{self, Request},
    clock, controller, curl,
    denials::{self, Exchange, Watched},
    scratch::Scratch,
    wait,
};

/// A Docker engine that is stopped, with everything in it, when the test ends.
struct Engine {
    folder: Scratch,
    host: String,
    port: u16,
}

impl Engine {
    fn start() -> Self {
        let folder = Scratch::new();
        let output = script("engine.sh")
            .arg("start")
            .arg(folder.path())
            .output()
            .expect("the script runs");
        let engine = Self {
            host: finished("engine.sh", &output).trim().to_owned(),
            folder,
            port: controller::free_port(),
        };
        engine.run(
            script("envoy-image.sh")
                .arg(artefacts::envoy())
                .arg("envoyproxy/envoy:v1.40.0"),
        );
        engine.run(&mut Command::new(artefacts::root().join("tests/make/image.sh")));
        engine
    }

    /// Runs a command against this engine and gives what it printed.
    fn run(&self, command: &mut Command) -> String {
        let version = env!("CARGO_PKG_VERSION");
        command
            .env("DOCKER_HOST", &self.host)
            .env("PORTCULLIS_VERSION", version);
        command
            .env("PORTCULLIS_PORT", self.port.to_string())
            .current_dir(artefacts::root());
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        finished(&format!("{command:?}"), &output)
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker-compose");
        command
            .args(["-p", "portcullis-e2e", "-f", "envoy-config/docker-compose.yaml"])
            .args(arguments);
        self.run(&mut command)
    }

    fn docker(&self, arguments: &[&str]) -> String {
        self.run(Command::new("docker").args(arguments))
    }

    /// The health of each service's container, `starting` until it is known.
    fn health(&self) -> Vec<String> {
        let containers = self.compose(&["ps", "-q"]);
        let ids: Vec<&str> = containers.lines().collect();
        assert_eq!(ids.len(), 3, "controller, envoy, echo");
        let mut arguments = vec![
            "inspect",
            "--format",
            "{{.Name}} {{.Config.User}} {{.State.Health.Status}}",
        ];
        arguments.extend(ids);
        self.docker(&arguments).lines().map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut down = Command::new("docker-compose");
        down.args([
            "-p",
            "portcullis-e2e",
            "-f",
            "envoy-config/docker-compose.yaml",
            "down",
            "-v",
        ]);
        let _ = down
            .env("DOCKER_HOST", &self.host)
            .current_dir(artefacts::root())
            .output();
        let _ = script("engine.sh").arg("stop").arg(self.folder.path()).status();
    }
}

fn script(name: &str) -> Command {
    let path: PathBuf = artefacts::root().join("tests/compose").join(name);
    Command::new(path)
}

fn finished(what: &str, output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[test]
fn compose_file_serves_the_quickstart() {
    let engine = Engine::start();
    engine.compose(&["down", "-v"]);
    engine.compose(&["up", "-d"]);
    let healthy = |line: &String| line.ends_with(" healthy");
    let mut last = Vec::new();
    let patience = Duration::from_secs(60);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait::until("every container is healthy", patience, || {
            last = engine.health();
            last.iter().all(healthy).then_some(())
        });
    }));
    if result.is_err() {
        panic!("{last:?}\n{}", engine.compose(&["logs", "--no-color"]));
    }

    // One numeric user everywhere: the socket is 0600.
    assert!(last.iter().all(|line| line.contains(" 65532:65532 ")), "{last:?}");

    let gateway = SocketAddr::from(([127, 0, 0, 1], engine.port));
    // What Envoy logs is written there at the end.
    let logs = Scratch::new();
    let (folder, log) = (
        artefacts::root().join("manifests/examples/quickstart"),
        logs.join("access.log"),
    );
    let watched = Watched::other(&[(engine.port, 10080)], &folder, &logs.join("state"), &log);
    // The engine's proxy stands before the published port.
    watched.translated();
    let orders = || Request::get("shop.example.com", "/orders/1");

    let refused = client::once(gateway, &orders());
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (401, "Client authentication failed.")
    );

    let admitted = client::once(gateway, &orders().header("x-api-key", "quickstart-key-of-alice"));
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    let lines: Vec<String> = admitted.text().lines().map(str::to_owned).collect();
    assert!(lines.contains(&"x-client-id: alice".to_owned()), "{lines:?}");
    assert!(
        !admitted.text().contains("x-api-key"),
        "the key stays at the gateway: {lines:?}"
    );

    let preflight = Request::new("OPTIONS", "shop.example.com", "/orders/1")
        .header("origin", "https://shop.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-api-key");
    let preflight = client::once(gateway, &preflight);
    assert_eq!(preflight.status, 200);
    assert_eq!(
        preflight.header("access-control-allow-origin").as_deref(),
        Some("https://shop.example.com")
    );
    assert_eq!(preflight.header("access-control-max-age").as_deref(), Some("600"));

    assert_eq!(
        client::once(gateway, &Request::get("shop.example.com", "/admin")).status,
        403
    );
    assert_eq!(
        client::once(gateway, &Request::get("shop.example.com", "/public")).status,
        200
    );

    // What `make up` prints holds here too.
    let lines = std::fs::read_to_string(artefacts::root().join("manifests/examples/quickstart/curl.txt"));
    for line in lines
        .expect("the quickstart's requests")
        .lines()
        .filter(|line| line.starts_with("curl "))
    {
        let (command, expected) = line.rsplit_once('#').expect("the expected answer");
        let command = command.replace("127.0.0.1:10080", &gateway.to_string());
        let sent = clock::milliseconds();
        let output = Command::new("bash").args(["-c", &command]).output().expect("bash runs");
        let status = String::from_utf8_lossy(&output.stdout)
            .split(' ')
            .nth(1)
            .map(str::to_owned);
        assert_eq!(status.as_deref(), expected.split_whitespace().next(), "{command}");
        denials::record(Exchange {
            sent,
            answered: clock::milliseconds(),
            status: status.and_then(|status| status.parse().ok()).expect("a status"),
            ..curl::exchange(&curl::words(command.trim())[1..])
        });
    }

    // A controller that is gone changes nothing for traffic.
    engine.compose(&["stop", "controller"]);
    assert_eq!(client::once(gateway, &orders()).status, 401);
    assert_eq!(
        client::once(gateway, &orders().header("x-api-key", "quickstart-key-of-bob")).status,
        200
    );

    let text = engine.compose(&["logs", "--no-color", "--no-log-prefix", "envoy"]);
    std::fs::write(&log, text).expect("the log can be written");
    drop(watched);
    engine.compose(&["down", "-v"]);
    assert_eq!(engine.docker(&["ps", "-a", "-q"]), "");
}
