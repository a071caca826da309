//! Everything that an AccessPolicy can do, and listeners of a ListenerSet, as a user runs them: `portcullis run -f` with its
//! own Envoy, edits while requests flow, and the lines that it prints.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use portcullis_e2e::{
    backend::Backend,
    client::{Connection, Request},
    controller, manifests,
    run::Run,
    scratch::{self, Scratch},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

fn access_policy(namespace: &str, name: &str, kind: &str, target: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": kind, "name": target}]);
    json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "AccessPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

fn deny_header(name: &str, header: &str) -> Value {
    json!({"defaultAction": "Allow", "rules": [{
        "name": name, "action": "Deny", "principal": {"headers": [{"name": header, "values": ["yes"]}]},
    }]})
}

struct Ports {
    gateway: u16,
    set: u16,
}

fn common(ports: &Ports, backend: &Backend) -> String {
    let mut gateway = manifests::gateway(&[manifests::http_listener("http", ports.gateway, None)]);
    gateway["spec"]["allowedListeners"] = json!({"namespaces": {"from": "All"}});
    let set = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet",
        "metadata": {"name": "more", "namespace": "shop"},
        "spec": {
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "edge"},
            "listeners": [{"name": "extra", "protocol": "HTTP", "port": ports.set, "allowedRoutes": {"namespaces": {"from": "Same"}}}],
        },
    });
    let mut partners = manifests::route("partners", &[], "/partners", "echo");
    partners["spec"]["parentRefs"] =
        json!([{"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": "more"}]);
    manifests::file(&[
        manifests::gateway_class(),
        gateway,
        set,
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        manifests::route("orders", &[], "/orders", "echo"),
        partners,
    ])
}

/// The policies of one generation: the baseline's header is the generation's.
fn policies(generation: usize) -> String {
    let key = json!({"apiKeyAuth": manifests::api_key_auth("clients")});
    let merged = json!({"mergeType": "StrategicMerge", "authorization": deny_header("sealed", "x-sealed")});
    let shadow = json!({"shadow": true, "authorization": {"defaultAction": "Deny"}});
    manifests::file(&[
        access_policy(
            "edge",
            "house",
            "Gateway",
            "public",
            json!({"baseline": true, "authorization": deny_header("house-rule", &format!("x-blocked-{generation}"))}),
        ),
        access_policy(
            "edge",
            "keys",
            "Gateway",
            "public",
            json!({"cors": {"allowOrigins": ["https://shop.example.com"]}}),
        ),
        access_policy("shop", "orders", "HTTPRoute", "orders", merged),
        access_policy("shop", "partners", "ListenerSet", "more", key),
        access_policy("shop", "trial", "HTTPRoute", "orders", shadow),
    ])
}

/// A client that asks without a break until it is told to stop; any refusal or cut connection is a failure.
fn load(gateway: SocketAddr, stop: &Arc<AtomicBool>, count: &Arc<AtomicUsize>) -> thread::JoinHandle<()> {
    let (stop, count) = (Arc::clone(stop), Arc::clone(count));
    thread::spawn(move || {
        let mut connection = Connection::open(gateway);
        while !stop.load(Ordering::Relaxed) {
            let response = connection.send(&Request::get("shop.example.com", "/orders/1"));
            assert_eq!(response.status, 200, "{}", response.text());
            count.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
        }
    })
}

#[test]
fn every_kind_of_policy_is_edited_while_requests_flow() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let ports = Ports {
        gateway: controller::free_port(),
        set: controller::free_port(),
    };
    let folder = scratch.join("manifests");
    scratch::write(&folder.join("common.yaml"), &common(&ports, &backend));
    scratch::write(&folder.join("policies.yaml"), &policies(0));
    let run = Run::start(&scratch, &folder, &[ports.gateway, ports.set]);

    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (gateway, set) = (at(ports.gateway), at(ports.set));
    let orders = Request::get("shop.example.com", "/orders/1");
    let partners = Request::get("shop.example.com", "/partners/1");
    let mut to_gateway = Connection::open(gateway);
    let mut to_set = Connection::open(set);
    // The Gateway's policy is merged into the route's: its CORS is there, the route's rule too.
    let answer = to_gateway.send(&orders.clone().header("origin", "https://shop.example.com"));
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin").as_deref(),
        Some("https://shop.example.com")
    );
    assert_eq!(to_gateway.send(&orders.clone().header("x-sealed", "yes")).status, 403);
    // The set's listener has its policy, and the Gateway's baseline as well.
    assert_eq!(to_set.send(&partners).status, 401);
    let known = partners.header("x-api-key", "key-of-alice");
    assert_eq!(to_set.send(&known).status, 200);
    assert_eq!(to_set.send(&known.clone().header("x-blocked-0", "yes")).status, 403);

    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8).map(|_| load(gateway, &stop, &count)).collect();
    for generation in 1..=20 {
        scratch::write(&folder.join("policies.yaml"), &policies(generation));
        let blocked = format!("x-blocked-{generation}");
        let (orders, known) = (
            orders.clone().header(&blocked, "yes"),
            known.clone().header(&blocked, "yes"),
        );
        wait::until(
            "the baseline of this generation decides on both listeners",
            PATIENCE,
            || (to_gateway.send(&orders).status == 403 && to_set.send(&known).status == 403).then_some(()),
        );
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("nobody is refused, and no connection is cut");
    }
    assert!(count.load(Ordering::Relaxed) > 200, "requests flowed");

    let printed = run.stdout();
    for (policy, state) in [
        ("shop/orders", "enforced"),
        ("shop/partners", "enforced"),
        // Another policy is merged into it, so it is in force there.
        ("edge/keys", "enforced"),
        ("edge/house", "enforced"),
        ("shop/trial", "shadow"),
    ] {
        let told = printed.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.starts_with(&["policy", policy, state])
        });
        assert!(told, "{policy} {state}: {printed}{}", run.stderr());
    }
}
