//! One round of requests, and the processor time that Envoy spent on it.

use std::{fs, process::Command};

use portcullis_e2e::{envoy::Envoy, scratch::Scratch};

use crate::scenarios::Scenario;

/// Connections of the load: enough that a worker finds more than one request when it wakes.
const CONNECTIONS: u32 = 64;

/// Sends `requests` over keep-alive connections, or one for each of the `fresh` tokens over a single one; gives Envoy's processor
/// time for them in microseconds per request.
///
/// # Panics
/// If a request fails: a number for refused requests would be a number for something else.
pub(crate) fn measure(envoy: &Envoy, scenario: &Scenario, requests: u32, fresh: &[String]) -> f64 {
    let url = format!("http://{}{}", envoy.listener(), scenario.path());
    let scratch = Scratch::new();
    let file = scratch.join("urls");
    let urls: String = fresh
        .iter()
        .map(|token| format!("{url}?access_token={token}\n"))
        .collect();
    fs::write(&file, urls).expect("the URLs can be written");
    let before = cpu_nanoseconds(envoy.pid());
    let mut command = Command::new("h2load");
    command.args(["--h1", "-t", "1", "-n", &requests.to_string()]);
    // Every connection goes through the URLs from the first.
    let connections = if fresh.is_empty() { CONNECTIONS.min(requests) } else { 1 };
    command.args(["-c", &connections.to_string()]);
    command.args(["-H", &format!(":method: {}", scenario.method)]);
    for (name, value) in scenario.headers.iter().filter(|_| fresh.is_empty()) {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    if scenario.method == "POST" {
        command.args(["-H", "content-length: 0"]);
    }
    if fresh.is_empty() {
        command.arg(url);
    } else {
        command.arg("-i").arg(file);
    }
    let output = command.output().expect("h2load runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = format!("{requests} succeeded, 0 failed, 0 errored");
    assert!(
        text.contains(&wanted),
        "{}: not every request succeeded:\n{text}\n{}",
        scenario.title,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains(&format!("status codes: {requests} 2xx")),
        "{}: not every answer was 200:\n{text}",
        scenario.title
    );
    let after = cpu_nanoseconds(envoy.pid());
    (after - before) / 1_000.0 / f64::from(requests)
}

/// The time that every thread of a process has run; the scheduler counts it in nanoseconds, `stat` only in ticks of 10 ms.
pub(crate) fn cpu_nanoseconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("Envoy runs");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum()
}
