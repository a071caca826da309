//! A route that Envoy does not take, in the same route table as everybody else's: it closes itself, and nothing of the
//! others waits for it.

use std::{
    net::SocketAddr,
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
    controller::{self, Controller},
    live::{Live, until_status},
    manifests,
    wait::{self, PATIENCE},
};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

/// A gateway of three tenants: `orders`, which gets poisoned, `bank`, which revokes a key, and `calm`, which does nothing.
struct Scene {
    live: Live,
    gateway: SocketAddr,
    _backend: Backend,
}

impl Scene {
    fn start() -> Self {
        let backend = Backend::start();
        let port = controller::free_port();
        let common = manifests::file(&[
            manifests::gateway_class(),
            manifests::gateway(&[manifests::http_listener("http", port, None)]),
            manifests::backend("echo", backend.address()),
            manifests::route("calm", &["calm.example.com"], "/", "echo"),
        ]);
        let files = [("gateway.yaml", common), ("tenants.yaml", tenants(false, false))];
        let live = Live::start(&files, &[port]);
        let gateway = SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            live,
            gateway,
            _backend: backend,
        }
    }

    fn rejected(&self) -> u64 {
        self.live.envoy.stats().sum("http.", ".update_rejected")
    }

    /// Sends requests to the tenant that does nothing until told to stop; gives how many were answered, all with 200.
    fn calm(&self) -> impl FnOnce() -> usize + use<> {
        let (gateway, stop) = (self.gateway, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let client = thread::spawn(move || {
            let mut connection = Connection::open(gateway);
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let status = connection.send(&Request::get("calm.example.com", "/")).status;
                assert_eq!(status, 200, "request {count} of an uninvolved tenant");
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            count
        });
        move || {
            stop.store(true, Ordering::Relaxed);
            client.join().expect("an uninvolved tenant notices nothing")
        }
    }
}

fn tenants(poison: bool, revoked: bool) -> String {
    let mut clients = vec![("carol", "key-of-carol")];
    if !revoked {
        clients.push(("mallory", "key-of-mallory"));
    }
    let mut orders = manifests::route("orders", &["orders.example.com"], "/", "echo");
    if poison {
        manifests::poison(&mut orders);
    }
    let cors = json!({"cors": {"allowOrigins": ["https://shop.example.com"]}});
    manifests::file(&[
        orders,
        manifests::policy("orders", cors),
        manifests::route("bank", &["bank.example.com"], "/", "echo"),
        manifests::policy("bank", json!({"apiKeyAuth": manifests::api_key_auth("bank")})),
        manifests::secret("shop", "bank", &clients),
    ])
}

fn bank(key: &str) -> Request {
    Request::get("bank.example.com", "/").header("x-api-key", key)
}

#[test]
fn poison_that_is_there_from_the_start_closes_only_its_own_host() {
    let backend = Backend::start();
    let port = controller::free_port();
    // No policy covers it: the route itself must be named.
    let mut poisonous = manifests::route("orders", &["orders.example.com"], "/", "echo");
    manifests::poison(&mut poisonous);
    let all = manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::route("calm", &["calm.example.com"], "/", "echo"),
        poisonous,
    ]);
    let live = Live::start(&[("all.yaml", all)], &[port]);
    let mut connection = Connection::open(SocketAddr::from(([127, 0, 0, 1], port)));
    until_status(&mut connection, &Request::get("calm.example.com", "/"), 200, PATIENCE);
    until_status(&mut connection, &orders(), 500, PATIENCE);
    wait::until("the culprit is named", PATIENCE, || {
        live.controller.output().contains("orders.example.com").then_some(())
    });
    assert_eq!(connection.send(&Request::get("calm.example.com", "/")).status, 200);
}

fn orders() -> Request {
    Request::get("orders.example.com", "/")
}

#[test]
fn a_poisoned_route_does_not_hold_back_a_revocation() {
    let scene = Scene::start();
    let mut connection = Connection::open(scene.gateway);
    assert_eq!(connection.send(&bank("key-of-mallory")).status, 200);
    assert_eq!(connection.send(&orders()).status, 200);
    let calm = scene.calm();

    scene.live.edit("tenants.yaml", &tenants(true, true));
    let (_, took) = until_status(&mut connection, &bank("key-of-mallory"), 401, PATIENCE);
    assert!(scene.rejected() > 0, "Envoy refuses the poison: this test can fail");
    assert!(took < SECOND, "revoked after {took:?}");
    assert_eq!(
        connection.send(&bank("key-of-carol")).status,
        200,
        "the other clients stay"
    );
    assert_eq!(
        connection.send(&orders()).status,
        500,
        "the poisoned host is closed, not open"
    );
    wait::until("the policy at fault is named", PATIENCE, || {
        let output = scene.live.controller.output();
        let mut told = output
            .lines()
            .filter(|line| line.starts_with("policy ") && line.contains("shop/orders"));
        told.next_back()
            .filter(|line| !line.contains(" enforced "))
            .map(str::to_owned)
    });
    assert!(calm() > 0);

    // Mended, the host opens again.
    scene.live.edit("tenants.yaml", &tenants(false, true));
    until_status(&mut connection, &orders(), 200, PATIENCE);
    assert_eq!(connection.send(&bank("key-of-mallory")).status, 401);
    scene.live.assert_listeners_untouched();
}

#[test]
fn a_controller_that_is_killed_remembers_the_poison() {
    let mut scene = Scene::start();
    let mut connection = Connection::open(scene.gateway);
    scene.live.edit("tenants.yaml", &tenants(true, false));
    until_status(&mut connection, &orders(), 500, PATIENCE);
    assert_eq!(
        until_status(&mut connection, &bank("key-of-mallory"), 200, PATIENCE)
            .0
            .status,
        200
    );
    // Let the search come to its end.
    thread::sleep(SECOND);
    let (calm, rejected) = (scene.calm(), scene.rejected());

    scene.live.controller.kill();
    let place = scene.live.controller.place().clone();
    scene.live.controller = Controller::start(&place);
    wait::until("Envoy is connected again", PATIENCE, || {
        (scene.live.envoy.stats().get("control_plane.connected_state") == 1).then_some(())
    });
    scene.live.edit("tenants.yaml", &tenants(true, true));
    let (_, took) = until_status(&mut connection, &bank("key-of-mallory"), 401, PATIENCE);
    assert!(took < SECOND, "revoked after {took:?}");
    assert_eq!(connection.send(&bank("key-of-carol")).status, 200);
    assert_eq!(connection.send(&orders()).status, 500);
    assert_eq!(
        scene.rejected(),
        rejected,
        "nothing that is known to be rejected is sent again"
    );
    assert!(calm() > 0);
    scene.live.assert_listeners_untouched();
}
