//! TLS on both sides of Envoy: which certificate a name gets, and which backends are believed.

use crate::proxy::{backend, free_port, launch, send_to};

const MANIFESTS: &str = include_str!("traffic-tls.yaml");

/// A path, the host, the status, and what the answer holds.
const CASES: [(&str, &str, u16, &str); 6] = [
    // The chain for the name, its certificate, its table.
    ("/valid", "api.example.com", 200, "backend strict"),
    ("/other", "www.example.com", 200, "backend wide"),
    // A connection for one listener that asks for another's host.
    ("/crossed", "api.example.com", 421, ""),
    // Whoever does not prove itself gets nothing.
    ("/wrong-ca", "api.example.com", 503, ""),
    ("/wrong-name", "api.example.com", 503, ""),
    // Nor does what speaks no TLS.
    ("/plain", "api.example.com", 503, ""),
];

#[test]
fn a_backend_proves_itself_or_gets_no_request() {
    let port = free_port();
    let manifests = MANIFESTS
        .replace("LISTENER", &port.to_string())
        .replace("SECURE", &free_port().to_string())
        .replace("STRICT", &backend("strict").to_string())
        .replace("WIDE", &backend("wide").to_string());
    let _proxy = launch(&manifests, port, &[]);
    let mut failures = Vec::new();
    for (path, host, status, wanted) in CASES {
        let answer = send_to(port, &[&format!("GET {path} HTTP/1.1"), &format!("host: {host}")]);
        if !answer.starts_with(&format!("HTTP/1.1 {status} ")) || !answer.contains(wanted) {
            failures.push(format!("{path} {host}: wanted {status} {wanted:?}, got {answer:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
