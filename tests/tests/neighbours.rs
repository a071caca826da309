//! What one tenant's policies do to another's requests: routes whose policies do not fit into a worker's cache together are
//! asked in turn, so that nearly each request compiles one, while somebody else's client goes on.
//!
//! Every answer must be right. What the other tenant waits is printed and judged by nobody: a time is no test.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    backend::Backend,
    client::{Connection, Request},
    controller::Place,
    envoy::Envoy,
    latency::percentile,
    manifests,
    scratch::{self, Scratch},
    tables,
};
use portcullis_engine::{document::Document, seal};
use serde_json::{Value, json};

/// What compiled policies may take in one worker, in bytes, and what one of them counts: `filter/src/policies.rs`.
const CACHE: usize = 32 * 1024 * 1024;
const WEIGHT_OF_A_BYTE: usize = 4;
/// Address ranges of one of the cycled policies: it is a large one of its kind.
const RANGES: usize = 2_500;
/// How long each of the two loads runs.
const WINDOW: Duration = Duration::from_secs(4);
/// Connections of the tenant that cycles.
const CONNECTIONS: usize = 4;
/// What a tenant's client waits between two requests: a steady load of some hundred requests a second.
const PAUSE: Duration = Duration::from_millis(5);
/// Why no manifest explains what is refused.
const BY_HAND: &str = "the noisy tenant's policies are documents, put into the route table";

#[test]
fn policies_beyond_the_cache_are_decided_right_and_so_are_another_tenants_requests() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let document = cycled(0);
    let fit = CACHE / (WEIGHT_OF_A_BYTE * document.len());
    // Twice what fits: whatever is dropped is dropped before it is asked for again.
    let count = fit * 2;
    let bootstrap = bootstrap(&scratch, &backend, count);
    let envoy = Envoy::start(&scratch, &bootstrap).beside_manifests(BY_HAND);
    let gateway = envoy.listener();

    // The same load on routes that fit, then on all of them: the difference is what the cache does.
    let few = Load::run(gateway, fit / 8);
    let many = Load::run(gateway, count);
    assert!(
        many.cycled > count,
        "the caches were cycled: {} requests to {count} policies",
        many.cycled
    );
    println!(
        "{count} policies of {} bytes, {fit} fit: p99 of the other tenant {:?} instead of {:?} ({:.2} x), {} and {} requests of the cycling one",
        document.len(),
        many.p99,
        few.p99,
        many.p99.as_secs_f64() / few.p99.as_secs_f64(),
        many.cycled,
        few.cycled
    );
}

/// What one window showed.
struct Load {
    p99: Duration,
    cycled: usize,
}

impl Load {
    /// Cycles over the first `count` routes while the other tenant's client asks.
    fn run(gateway: SocketAddr, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
                thread::spawn(move || {
                    let mut connection = Connection::open(gateway);
                    while !stop.load(Ordering::Relaxed) {
                        let route = next.fetch_add(1, Ordering::Relaxed) % count;
                        let response = connection.send(&Request::get("noisy.example.com", &format!("/{route}/")));
                        assert_eq!(response.status, 200, "{}", response.text());
                        thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        let mut connections: Vec<Connection> = (0..4).map(|_| Connection::open(gateway)).collect();
        let request = Request::get("quiet.example.com", "/").header("x-api-key", "key-of-alice");
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < WINDOW {
            for connection in &mut connections {
                let at = Instant::now();
                assert_eq!(connection.send(&request).status, 200);
                times.push(at.elapsed());
            }
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("the cycling tenant is served");
        }
        Self {
            p99: percentile(&mut times, 99),
            cycled: next.load(Ordering::Relaxed),
        }
    }
}

/// `render`'s configuration of the quiet tenant, and a virtual host with the noisy one's routes.
fn bootstrap(scratch: &Scratch, backend: &Backend, count: usize) -> Value {
    let folder = scratch.join("manifests");
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", 18080, None)]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        manifests::route("quiet", &["quiet.example.com"], "/", "echo"),
        manifests::policy("quiet", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
    ];
    scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
    let mut bootstrap = Place::new(scratch, &folder).snippet(scratch);
    tables::on_free_ports(&mut bootstrap);
    let route = tables::route(&mut bootstrap, "/").clone();
    let mut host = json!({"name": "noisy", "domains": ["noisy.example.com"], "routes": []});
    let secrets = json!({"salt": "00".repeat(16)}).to_string();
    let mut routes = Vec::new();
    for number in 0..count {
        let document = cycled(number);
        let hash = seal::hash(document.as_bytes(), secrets.as_bytes());
        let mut route = route.clone();
        route["match"] = json!({"prefix": format!("/{number}/")});
        route["metadata"]["filter_metadata"]["portcullis"]["h"] = hash.clone().into();
        tables::deliver(&mut host, &hash, &document, &secrets);
        routes.push(route);
    }
    host["routes"] = routes.into();
    for manager in tables::managers(&mut bootstrap) {
        tables::array(&mut manager["route_config"]["virtual_hosts"]).push(host.clone());
    }
    bootstrap
}

/// A policy that admits everyone after a long list of ranges.
fn cycled(number: usize) -> String {
    let ranges: Vec<String> = (0..RANGES)
        .map(|range| format!("10.{}.{}.0/24", range / 250, range % 250))
        .chain(["127.0.0.0/8".to_owned()])
        .collect();
    let document = json!({
        "version": 1, "policy": format!("noisy/route-{number}"),
        "authorization": {"defaultAction": "Deny", "rules": [{"name": "office", "action": "Allow", "clientCidrs": ranges}]},
    });
    let _: Document = serde_json::from_value(document.clone()).expect("a document");
    document.to_string()
}

#[test]
fn control_a_request_of_the_noisy_tenant_is_decided_by_its_policy() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let mut bootstrap = bootstrap(&scratch, &backend, 2);
    tables::behind_a_proxy(&mut bootstrap);
    let envoy = Envoy::start(&scratch, &bootstrap).beside_manifests(BY_HAND);
    let request = Request::get("noisy.example.com", "/1/");
    let from = |address: [u8; 4]| {
        let mut connection = Connection::open_as(envoy.listener(), SocketAddr::from((address, 40000)));
        connection.send(&request).status
    };
    assert_eq!((from([127, 0, 0, 1]), from([203, 0, 113, 9])), (200, 403));
}
