//! Answers that the proxy makes by itself.

use super::forward::Lines;

/// An answer of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status that the client sees; nothing if it is the backend's.
    pub status: Option<u16>,
    /// The header lines that follow from the configuration, names in lower case; Envoy adds a date.
    pub headers: Vec<(String, String)>,
}

impl Response {
    pub(crate) fn new(status: Option<u16>, lines: &Lines) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status,
            headers: lines
                .iter()
                .map(|(name, value)| (text(name).to_ascii_lowercase(), text(value)))
                .collect(),
        }
    }

    /// The values of a header.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The lines that Envoy gives an answer of its own, and the status; gRPC callers get theirs in a header (gRPC over HTTP/2,
/// `Trailers-Only`).
pub(crate) fn local(status: u16, body: &[u8], grpc: bool) -> (u16, Lines) {
    let line = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
    if grpc {
        let code = match status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        };
        let mut lines = vec![
            line("content-type", "application/grpc".to_owned()),
            line("grpc-status", code.to_string()),
        ];
        if !body.is_empty() {
            lines.push(line("grpc-message", String::from_utf8_lossy(body).into_owned()));
        }
        return (200, lines);
    }
    if body.is_empty() {
        return (status, Vec::new());
    }
    let lines = vec![
        line("content-length", body.len().to_string()),
        line("content-type", "text/plain".to_owned()),
    ];
    (status, lines)
}
