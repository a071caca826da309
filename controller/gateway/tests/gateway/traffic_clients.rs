//! Whose address Envoy takes a request for, and what a client cannot make it or a backend believe.

use crate::proxy::{backend, free_port, launch, send_to};

const MANIFESTS: &str = include_str!("traffic-clients.yaml");

const LISTENERS: [&str; 8] = [
    "PEER", "HOPS", "PROXIES", "STRANGER", "HEADER", "CLOSED", "UNKNOWN", "SET",
];

/// A listener, header lines, the status, the address, and what the backend reads; `!` before what it must not.
type Case = (
    &'static str,
    &'static [&'static str],
    u16,
    &'static str,
    &'static [&'static str],
);

const UNKNOWN: &str = "0.0.0.0";

const CASES: &[Case] = &[
    // Without a policy nobody's word is taken.
    ("PEER", &[], 200, "127.0.0.1", &["x-envoy-external-address: 127.0.0.1"]),
    ("PEER", &["x-forwarded-for: 192.0.2.1"], 200, "127.0.0.1", &[]),
    (
        "PEER",
        &["x-forwarded-proto: https", "x-forwarded-host: forged.example.org"],
        200,
        "127.0.0.1",
        &["x-forwarded-proto: http\r", "!forged"],
    ),
    // The entry so many from the right; short, unreadable or absent: no address.
    (
        "HOPS",
        &["x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.3"],
        200,
        "192.0.2.2",
        &[],
    ),
    (
        "HOPS",
        &["x-forwarded-for: 192.0.2.1", "x-forwarded-for: 192.0.2.2"],
        200,
        "192.0.2.1",
        &[],
    ),
    ("HOPS", &["x-forwarded-for: 192.0.2.1"], 200, UNKNOWN, &[]),
    ("HOPS", &[], 200, UNKNOWN, &[]),
    ("HOPS", &["x-forwarded-for: 192.0.2.1:80, 192.0.2.2"], 200, UNKNOWN, &[]),
    (
        "HOPS",
        &["x-forwarded-for: 2001:db8::1, 192.0.2.2"],
        200,
        "2001:db8::1",
        &[],
    ),
    (
        "HOPS",
        &["x-forwarded-for: 192.0.2.1, 192.0.2.2", "x-forwarded-proto: https"],
        200,
        "192.0.2.1",
        &["x-forwarded-proto: https\r"],
    ),
    // The first from the right that no trusted proxy is; all trusted: the leftmost.
    (
        "PROXIES",
        &["x-forwarded-for: 10.9.9.9, 192.0.2.1, 10.0.0.1"],
        200,
        "192.0.2.1",
        &[],
    ),
    (
        "PROXIES",
        &["x-forwarded-for: 10.0.0.2, 10.0.0.1"],
        200,
        "10.0.0.2",
        &[],
    ),
    ("PROXIES", &["x-forwarded-for: junk, 10.0.0.1"], 200, UNKNOWN, &[]),
    ("PROXIES", &[], 200, UNKNOWN, &[]),
    (
        "PROXIES",
        &[
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: outer.example.org",
        ],
        200,
        "192.0.2.1",
        &["x-forwarded-proto: https\r", "x-forwarded-host: outer.example.org\r"],
    ),
    // A peer that is none of the proxies speaks for itself only.
    (
        "STRANGER",
        &[
            "x-forwarded-for: 10.0.0.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: forged.example.org",
        ],
        200,
        "127.0.0.1",
        &[
            "x-forwarded-proto: http\r",
            "!forged",
            "x-envoy-external-address: 127.0.0.1",
        ],
    ),
    // One header, which holds one address.
    ("HEADER", &["cf-connecting-ip: 192.0.2.1"], 200, "192.0.2.1", &[]),
    ("HEADER", &["cf-connecting-ip: 192.0.2.1, 192.0.2.2"], 200, UNKNOWN, &[]),
    ("HEADER", &["x-forwarded-for: 192.0.2.1"], 200, UNKNOWN, &[]),
    ("CLOSED", &["cf-connecting-ip: 192.0.2.1"], 200, "192.0.2.1", &[]),
    ("CLOSED", &["cf-connecting-ip: junk"], 403, "", &[]),
    ("CLOSED", &[], 403, "", &[]),
    // A listener of a ListenerSet, by the set's policy.
    ("SET", &["x-forwarded-for: 192.0.2.1, 192.0.2.2"], 200, "192.0.2.2", &[]),
    // A policy that cannot be followed.
    (
        "UNKNOWN",
        &[
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: forged.example.org",
        ],
        200,
        UNKNOWN,
        &["x-forwarded-proto: http\r", "!forged"],
    ),
];

#[test]
fn a_client_has_the_address_that_its_listener_s_policy_says() {
    let mut manifests = MANIFESTS.replace("BACKEND", &backend("echo").to_string());
    let ports = LISTENERS.map(|name| (name, free_port()));
    for (name, port) in ports {
        manifests = manifests.replace(&format!("port: {name},"), &format!("port: {port},"));
    }
    let _proxy = launch(&manifests, ports[6].1, &["invalid-header-name"]);
    let mut failures = Vec::new();
    for (listener, headers, status, client, wanted) in CASES {
        let port = ports.iter().find(|(name, _)| name == listener).unwrap().1;
        // In every mode, what only Envoy may say is said as well; the filter would remove the second.
        let spoofed = [
            "GET / HTTP/1.1",
            "host: example.org",
            "x-envoy-external-address: 203.0.113.66",
        ];
        let unknown = ["x-envoy-client-address-unknown: 203.0.113.67"];
        let lines: Vec<&str> = spoofed.iter().chain(&unknown).chain(*headers).copied().collect();
        let answer = send_to(port, &lines);
        let as_wanted = wanted.iter().all(|text| match text.strip_prefix('!') {
            Some(text) => !answer.contains(text),
            None => answer.contains(text),
        });
        let as_client = client.is_empty() || answer.contains(&format!("x-client: {client}\r"));
        let spoofs = answer.contains("203.0.113.66");
        if !answer.starts_with(&format!("HTTP/1.1 {status} ")) || !as_wanted || !as_client || spoofs {
            failures.push(format!(
                "{listener} {headers:?}: wanted {status} {client} {wanted:?}, got {answer:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
