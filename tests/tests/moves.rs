//! Routes that move while requests are under way: clusters come before the routes that need them and go after.

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
    controller,
    live::Live,
    manifests,
    wait::{self, PATIENCE},
};
use serde_json::json;

fn objects(port: u16, backend: &Backend, name: &str) -> String {
    let policy = json!({"apiKeyAuth": manifests::api_key_auth("clients")});
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        // Each move makes a cluster and removes one: nothing of the last generation is left.
        manifests::backend(name, backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        manifests::route("orders", &[], "/", name),
        manifests::policy("orders", policy),
    ])
}

/// The same with a Service, whose endpoints change.
fn service(port: u16, backend: &Backend, _: &str) -> String {
    let mut route = manifests::route("orders", &[], "/", "echo");
    route["spec"]["rules"][0]["backendRefs"] = json!([{"name": "echo", "port": 80}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "namespace": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "echo-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "echo"}},
        "ports": [{"name": "http", "port": backend.address().port()}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
    });
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        service,
        slice,
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        route,
        manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
    ])
}

#[test]
fn a_route_that_moves_to_new_backends_loses_no_request() {
    moves(objects);
}

#[test]
fn a_service_whose_endpoints_change_loses_no_request() {
    moves(service);
}

fn moves(objects: fn(u16, &Backend, &str) -> String) {
    let backends = [Backend::named("even"), Backend::named("odd")];
    let port = controller::free_port();
    let live = Live::start(&[("all.yaml", objects(port, &backends[0], "b0"))], &[port]);
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    let stop = Arc::new(AtomicBool::new(false));
    let client = |_| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let request = Request::get("shop.example.com", "/").header("x-api-key", "key-of-alice");
            let mut connection = Connection::open(gateway);
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let response = connection.send(&request);
                assert_eq!(response.status, 200, "request {count}: {}", response.text());
                count += 1;
                thread::sleep(Duration::from_millis(1));
            }
            count
        })
    };
    let clients: Vec<thread::JoinHandle<usize>> = (0..8).map(client).collect();
    for generation in 1..=40 {
        let backend = &backends[generation % 2];
        let before = backend.count();
        live.edit("all.yaml", &objects(port, backend, &format!("b{generation}")));
        wait::until("the new backend is used", PATIENCE, || {
            (backend.count() > before + 10).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    let count: usize = clients
        .into_iter()
        .map(|client| client.join().expect("no request is lost"))
        .sum();
    assert!(count > 1000, "{count} requests");
    let clusters = live.envoy.stats().get("cluster_manager.active_clusters");
    assert_eq!(clusters, 2, "the controller's and one backend's: the others are gone");
    live.assert_listeners_untouched();
}
