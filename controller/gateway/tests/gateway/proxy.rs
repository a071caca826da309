//! Envoys with a translated configuration, without the filter and its seal, and backends for them.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_gateway::snippet;
use serde_json::{Value, json};

use crate::{
    envoy::{Scratch, envoy},
    world::world,
};

/// An Envoy with one listener, ended with the test.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) port: u16,
    _scratch: Scratch,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The heads that backends received, with the backend's port, in lower case.
pub(crate) static RECEIVED: Mutex<Vec<(u16, &str, String)>> = Mutex::new(Vec::new());

/// Answers every request with its own name and the head that it received. The one named `flaky` answers the first request
/// for a path under `/503` with that status, and waits three seconds before it answers the first for one under `/slow`.
pub(crate) fn backend(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    if connection.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.extend(byte);
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let first = {
                    let mut received = RECEIVED.lock().unwrap();
                    let same = |(of, _, earlier): &(u16, &str, String)| {
                        *of == port && earlier.split(' ').nth(1) == Some(path.as_str())
                    };
                    let first = !received.iter().any(same);
                    received.push((port, name, head.clone()));
                    first && name == "flaky"
                };
                if first && path.starts_with("/slow") {
                    std::thread::sleep(Duration::from_secs(3));
                }
                let status = if first && path.starts_with("/503") { 503 } else { 200 };
                let body = format!("backend {name}\n{head}");
                let answer = format!(
                    "HTTP/1.1 {status} OK\r\nx-up: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = connection.write_all(answer.as_bytes());
            });
        }
    });
    port
}

pub(crate) fn free_port() -> u16 {
    // Below those that the system gives to connections: one of them is taken at any moment, between this look and Envoy's.
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Other runs begin elsewhere.
        let number = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Drops what needs the real filter, and has every answer say whose Envoy takes the request for.
fn without_filter(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(filters)) = fields.get_mut("http_filters") {
                filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
            }
            if fields.contains_key("virtual_hosts") {
                let client = json!({ "key": "x-client", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" });
                fields.insert("response_headers_to_add".to_owned(), json!([{ "header": client }]));
            }
            fields.values_mut().for_each(without_filter);
        }
        Value::Array(items) => items.iter_mut().for_each(without_filter),
        _ => {}
    }
}

/// Starts Envoy with the configuration that manifests give; only findings of some codes are expected.
pub(crate) fn launch(manifests: &str, port: u16, expected: &[&str]) -> Proxy {
    let world = world(manifests, "unused.wasm");
    let findings: Vec<_> = world
        .translation
        .findings
        .iter()
        .filter(|finding| !expected.contains(&finding.code))
        .collect();
    assert!(findings.is_empty(), "{findings:#?}");
    let scratch = Scratch::new("traffic");
    let mut configuration = snippet(&world.translation.configurations[0], true);
    without_filter(&mut configuration);
    configuration["admin"] = json!({ "address": { "pipe": { "path": scratch.path("admin.sock") } } });
    let file = scratch.path("envoy.json");
    std::fs::write(&file, configuration.to_string()).unwrap();
    let log = std::fs::File::create(scratch.path("envoy.log")).unwrap();
    let mut child = Command::new(envoy())
        .args([
            "--concurrency",
            "2",
            "--use-dynamic-base-id",
            "--log-level",
            "warning",
            "-c",
            &file,
        ])
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let exited = child.try_wait().unwrap();
        assert!(
            exited.is_none() && Instant::now() < deadline,
            "{}",
            std::fs::read_to_string(scratch.path("envoy.log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Proxy {
        child,
        port,
        _scratch: scratch,
    }
}

/// Sends a request, given as its first line and header lines, and returns the whole answer.
pub(crate) fn send_to(port: u16, lines: &[&str]) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    connection
        .write_all(format!("{head}connection: close\r\ncontent-length: 0\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
