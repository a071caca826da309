//! Editing a policy file: the answer changes on a connection that stays, and no listener notices.

use std::{net::SocketAddr, thread, time::Duration};

use portcullis_e2e::{
    backend::Backend,
    client::{Connection, Request},
    controller,
    live::{Live, until_status},
    manifests,
};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// A gateway with one route, whose policy has a file of its own.
fn start(backend: &Backend) -> (Live, SocketAddr) {
    let port = controller::free_port();
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        manifests::route("orders", &[], "/orders", "echo"),
    ];
    let files = [("gateway.yaml", manifests::file(&objects)), ("policy.yaml", keys())];
    (Live::start(&files, &[port]), SocketAddr::from(([127, 0, 0, 1], port)))
}

fn keys() -> String {
    policy(json!({"apiKeyAuth": manifests::api_key_auth("clients")}))
}

fn from(cidr: &str) -> String {
    let rule = json!({"name": "office", "action": "Allow", "principal": {"clientCIDRs": [cidr]}});
    policy(json!({"authorization": {"defaultAction": "Deny", "rules": [rule]}}))
}

fn policy(spec: Value) -> String {
    manifests::file(&[manifests::policy("orders", spec)])
}

#[test]
fn an_edit_changes_the_answer_within_a_second_on_the_same_connection() {
    let backend = Backend::start();
    let (live, gateway) = start(&backend);
    let mut connection = Connection::open(gateway);
    let request = Request::get("shop.example.com", "/orders/1");
    assert_eq!(connection.send(&request).status, 401);

    for (text, expected) in [(from("127.0.0.0/8"), 200), (from("192.0.2.0/24"), 403), (keys(), 401)] {
        live.edit("policy.yaml", &text);
        let (_, took) = until_status(&mut connection, &request, expected, 5 * SECOND);
        assert!(took < SECOND, "{expected} after {took:?}");
    }
    live.assert_listeners_untouched();
}

#[test]
fn a_bad_file_keeps_the_last_good_state() {
    let backend = Backend::start();
    let (live, gateway) = start(&backend);
    let mut connection = Connection::open(gateway);
    let request = Request::get("shop.example.com", "/orders/1");
    let keyed = request.clone().header("x-api-key", "key-of-alice");
    assert_eq!(
        (connection.send(&request).status, connection.send(&keyed).status),
        (401, 200)
    );

    let half = keys().split_at(40).0.to_owned();
    for bad in [
        "{ not: [yaml",
        &half,
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nspec: 7\n",
    ] {
        live.edit("policy.yaml", bad);
        let until = std::time::Instant::now() + SECOND;
        while std::time::Instant::now() < until {
            assert_eq!(
                (connection.send(&request).status, connection.send(&keyed).status),
                (401, 200),
                "{bad}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        assert!(
            live.controller.output().contains("policy.yaml"),
            "the controller names the file"
        );
    }

    live.edit("policy.yaml", &from("127.0.0.0/8"));
    until_status(&mut connection, &request, 200, SECOND);
    live.assert_listeners_untouched();
}
