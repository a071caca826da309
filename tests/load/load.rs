//! One round of requests, and the processor time that Envoy spent on it.

use std::{fs, process::Command};

use portcullis_e2e::envoy::Envoy;

use crate::variants;

/// What one round showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Processor time of the Envoy under test, microseconds per request.
    pub(crate) cpu: f64,
}

/// Connections of the load: enough that a worker finds more than one request when it wakes.
const CONNECTIONS: &str = "64";

/// Sends `requests` over keep-alive connections and charges Envoy's threads for them.
///
/// # Panics
/// If a request fails: a number for refused requests would be a number for something else.
pub(crate) fn measure(envoy: &Envoy, requests: u32) -> Round {
    let before = cpu_nanoseconds(envoy.pid());
    let mut command = Command::new("h2load");
    command.args(["--h1", "-c", CONNECTIONS, "-t", "1", "-n", &requests.to_string()]);
    for (name, value) in variants::HEADERS {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    let output = command
        .arg(format!("http://{}/orders", envoy.listener()))
        .output()
        .expect("h2load runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = format!("{requests} succeeded, 0 failed, 0 errored");
    assert!(
        text.contains(&wanted),
        "not every request succeeded:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains(&format!("status codes: {requests} 2xx")),
        "not every answer was 200:\n{text}"
    );
    let after = cpu_nanoseconds(envoy.pid());
    Round {
        cpu: (after - before) / 1_000.0 / f64::from(requests),
    }
}

/// The time that every thread of a process has run; the scheduler counts it in nanoseconds, `stat` only in ticks of 10 ms.
fn cpu_nanoseconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("Envoy runs");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum()
}
