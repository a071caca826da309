//! Running curl: for printed lines, TLS and HTTP/2, where a hand-written client would prove less.

use std::process::Command;

/// One answer as curl reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, 0 if there was no answer.
    pub status: u16,
    /// How many new connections it took.
    pub connects: u32,
    /// `1.1` or `2`.
    pub version: String,
    /// The value of `x-backend`, empty for an answer of the gateway itself.
    pub backend: String,
}

/// Runs curl with these arguments and one `--next` part per request, and reports each answer.
///
/// # Panics
/// If curl prints something else.
#[must_use]
pub fn curl(requests: &[Vec<String>]) -> Vec<Answer> {
    let mut command = Command::new("curl");
    for (index, request) in requests.iter().enumerate() {
        if index > 0 {
            command.arg("--next");
        }
        command.args(["--silent", "--max-time", "10", "--output", "/dev/null"]);
        command.args([
            "--write-out",
            "%{http_code} %{num_connects} %{http_version} %header{x-backend}\\n",
        ]);
        command.args(request);
    }
    let output = command.output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<Answer> = text.lines().map(answer).collect();
    assert_eq!(answers.len(), requests.len(), "{command:?} printed {text:?}");
    answers
}

fn answer(line: &str) -> Answer {
    let mut parts = line.split(' ');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (status, connects, version, backend) = (next(), next(), next(), next());
    Answer {
        status: status.parse().unwrap_or_else(|error| panic!("{error}: {line}")),
        connects: connects.parse().unwrap_or_else(|error| panic!("{error}: {line}")),
        version,
        backend,
    }
}
