//! `portcullis drain`: a pod of Envoy that is told to stop sends its clients away, cuts off nobody, and waits no longer than it may.

use std::{
    net::SocketAddr,
    process::{Command, Output},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use portcullis_e2e::{
    artefacts,
    backend::Backend,
    client::{Connection, Request},
    controller,
    live::Live,
    manifests,
    wait::{self, PATIENCE},
};
use serde_json::json;

fn gateway() -> (Live, Backend, SocketAddr) {
    let backend = Backend::start();
    let port = controller::free_port();
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::route("orders", &[], "/", "echo"),
        manifests::policy("orders", json!({"authorization": {"defaultAction": "Allow"}})),
    ];
    let live = Live::start(&[("all.yaml", manifests::file(&objects))], &[port]);
    (live, backend, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn drain(live: &Live, least: u32, most: u32) -> JoinHandle<(Output, Duration)> {
    let mut command = Command::new(artefacts::controller());
    command.arg("drain").arg(format!("http://{}", live.envoy.admin()));
    command
        .arg(format!("--at-least={least}"))
        .arg(format!("--at-most={most}"));
    thread::spawn(move || {
        let start = Instant::now();
        (command.output().expect("the controller runs"), start.elapsed())
    })
}

/// Connections of clients, by worker.
fn connections(live: &Live) -> usize {
    let text = live.envoy.get("/stats?filter=downstream_cx_active");
    let workers = text
        .lines()
        .filter(|line| line.starts_with("listener.") && line.contains(".worker_"));
    let counts = workers.filter_map(|line| line.rsplit_once(": ")?.1.parse::<usize>().ok());
    counts.sum()
}

#[test]
fn whoever_is_connected_is_answered_and_sent_away() {
    let (live, _backend, address) = gateway();
    let mut client = Connection::open(address);
    let request = Request::get("shop.example.com", "/");
    let before = client.send(&request);
    assert_eq!((before.status, before.header("connection")), (200, None));

    let draining = drain(&live, 1, 60);
    wait::until("Envoy says that it is not ready", PATIENCE, || {
        (!live.envoy.get("/ready").starts_with("LIVE")).then_some(())
    });
    // Who has not heard of it yet is served too: load balancers take their time.
    let mut late = Connection::open(address);
    assert_eq!(late.send(&request).status, 200);
    thread::sleep(Duration::from_millis(1500));
    assert!(!draining.is_finished(), "clients are connected");
    let mut last = client.send(&request);
    assert_eq!(last.status, 200, "nobody is cut off");
    assert_eq!(
        last.header("connection").as_deref(),
        Some("close"),
        "but asked to leave"
    );
    drop((client, late));
    last.body.clear();
    let (output, passed) = draining.join().expect("it ends");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        passed >= Duration::from_secs(1) && passed < Duration::from_secs(30),
        "{passed:?}"
    );
}

#[test]
fn a_client_that_never_leaves_holds_up_nobody_for_ever() {
    let (live, _backend, address) = gateway();
    let client = Connection::open(address);
    wait::until("Envoy has the client", PATIENCE, || {
        (connections(&live) > 0).then_some(())
    });
    let (output, passed) = drain(&live, 0, 2).join().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "one is left");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 connections are left"));
    assert!(
        passed >= Duration::from_secs(2) && passed < Duration::from_secs(10),
        "{passed:?}"
    );
    drop(client);
}

#[test]
fn a_pod_without_its_envoy_ends_at_once() {
    let output = controller::portcullis(&["drain", "unix:/nowhere/admin.sock", "--at-least=60"]);
    assert_eq!(output.status.code(), Some(2));
    let output = controller::portcullis(&["drain", "/run/xds.sock"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("write unix:/run/xds.sock"), "{error}");
}
