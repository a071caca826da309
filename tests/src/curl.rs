//! Running curl: for printed lines, TLS and HTTP/2, where a hand-written client would prove less.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    clock,
    denials::{self, Exchange},
    http::{self, Headers},
};

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
    let sent = clock::milliseconds();
    let output = command.output().expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<Answer> = text.lines().map(answer).collect();
    assert_eq!(answers.len(), requests.len(), "{command:?} printed {text:?}");
    for (request, answer) in requests.iter().zip(&answers) {
        if answer.status != 0 && answer.backend.is_empty() {
            denials::record(Exchange {
                sent,
                answered: clock::milliseconds(),
                status: answer.status,
                ..exchange(request)
            });
        }
    }
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

/// The request that curl makes of its arguments; nothing is known of its answer yet. Whatever its name resolves to, curl
/// asks this host.
///
/// # Panics
/// If an argument is one whose meaning is not known here.
#[must_use]
pub fn exchange(arguments: &[String]) -> Exchange {
    let (mut method, mut url, mut headers, mut certificate) = ("GET", None, Headers::new(), None);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().unwrap_or_else(|| panic!("no value of {argument}"));
        let mut line = |name: &str, value: &str| headers.push((name.to_owned(), value.as_bytes().to_vec()));
        match argument {
            "-i" | "-s" | "--silent" | "--http1.1" | "--http2" | "--http2-prior-knowledge" | "--path-as-is" => {}
            "--cacert" | "--key" | "--resolve" => drop(value()),
            "--cert" => certificate = Some(PathBuf::from(value())),
            "-X" => method = value(),
            "-H" | "--header" => {
                let (name, value) = value().split_once(':').expect("a header line");
                line(name, value.trim());
            }
            "-u" => line("authorization", &format!("Basic {}", STANDARD.encode(value()))),
            "-b" => line("cookie", value()),
            _ if argument.starts_with("http") && url.is_none() => url = Some(argument),
            _ => panic!("curl {argument}: not known here"),
        }
    }
    let url = url.expect("a URL");
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = authority.rsplit_once(':').expect("a port");
    if http::values(&headers, "host").is_empty() {
        headers.insert(0, ("host".to_owned(), authority.as_bytes().to_vec()));
    }
    let port: u16 = port.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    Exchange {
        to: SocketAddr::from(([127, 0, 0, 1], port)),
        from: [127, 0, 0, 1].into(),
        server_name: (scheme == "https").then(|| host.to_owned()),
        certificate,
        method: method.to_owned(),
        target: if target.is_empty() {
            "/".to_owned()
        } else {
            target.to_owned()
        },
        headers,
        status: 0,
        sent: 0,
        answered: 0,
    }
}

/// The words of a line of shell without anything but single quotes.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_guide_is_taken_apart() {
        let line = "curl -i -X POST -u a:b -H 'origin: https://a' 'http://127.0.0.1:10080/x?a&b'";
        let exchange = exchange(&words(line)[1..]);
        assert_eq!((exchange.method.as_str(), exchange.target.as_str()), ("POST", "/x?a&b"));
        assert_eq!(exchange.to.to_string(), "127.0.0.1:10080");
        let lines: Vec<String> = exchange
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(
            lines,
            [
                "host: 127.0.0.1:10080",
                "authorization: Basic YTpi",
                "origin: https://a"
            ]
        );
    }
}
