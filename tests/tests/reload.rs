//! Editing a policy file: the answer changes on a connection that stays, and no listener notices.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

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

/// How an editor may save a file: never by more than some milliseconds without its end.
type Save = fn(&Path, &str);

#[test]
fn no_way_of_saving_a_file_opens_a_route() {
    let in_place: Save = |path, text| {
        let (first, second) = text.split_at(text.rfind("---").expect("two documents"));
        let mut file = fs::File::create(path).expect("the file can be truncated");
        // What is there now is a whole manifest of a route without a policy.
        file.write_all(first.as_bytes()).expect("written");
        thread::sleep(Duration::from_millis(5));
        file.write_all(second.as_bytes()).expect("written");
    };
    let with_backup: Save = |path, text| {
        fs::rename(path, path.with_extension("yaml~")).expect("the old file can be moved");
        thread::sleep(Duration::from_millis(5));
        fs::write(path, text).expect("written");
    };
    let anew: Save = |path, text| {
        fs::remove_file(path).expect("the old file can be removed");
        thread::sleep(Duration::from_millis(5));
        fs::write(path, text).expect("written");
    };

    let backend = Backend::start();
    let port = controller::free_port();
    let common = manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
    ]);
    // The policy stands behind its route, in the same file.
    let guarded = |generation: usize| {
        let mut auth = manifests::api_key_auth("clients");
        auth["forwardClientIDHeader"] = format!("x-client-{generation}").into();
        let route = manifests::route("orders", &[], "/orders", "echo");
        manifests::file(&[route, manifests::policy("orders", json!({"apiKeyAuth": auth}))])
    };
    let live = Live::start(&[("gateway.yaml", common), ("orders.yaml", guarded(0))], &[port]);
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let intruder = thread::spawn(move || {
        let mut connection = Connection::open(gateway);
        while !stopped.load(Ordering::Relaxed) {
            let status = connection.send(&Request::get("shop.example.com", "/orders/1")).status;
            assert!(
                [401, 404, 500].contains(&status),
                "nobody comes in without a key: {status}"
            );
        }
    });

    let path = live.folder().join("orders.yaml");
    let mut connection = Connection::open(gateway);
    let keyed = Request::get("shop.example.com", "/orders/1").header("x-api-key", "key-of-alice");
    let mut generation = 0;
    for save in [in_place, with_backup, anew] {
        for _ in 0..20 {
            generation += 1;
            save(&path, &guarded(generation));
            let name = format!("x-client-{generation}: alice");
            portcullis_e2e::wait::until("the edit is in force", 5 * SECOND, || {
                connection.send(&keyed).text().contains(&name).then_some(())
            });
        }
    }
    stop.store(true, Ordering::Relaxed);
    intruder.join().expect("the route was never open");
    live.assert_listeners_untouched();
}
