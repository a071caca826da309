//! Keys that proxies fetch: how often, from whom, and what becomes of requests meanwhile.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    artefacts,
    backend::Backend,
    certificate::Certificate,
    client::{Connection, Request, once},
    clock,
    controller::{self, Controller, Place},
    envoy::Envoy,
    key_server::{Answer, KeyServer},
    manifests,
    scratch::{self, Scratch},
    signed,
    wait::{self, PATIENCE},
};
use portcullis_engine::jwt::signing::TestKey;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const PATH: &str = "/keys";
const WHY: &str = "explain does not fetch keys";

/// Three keys, no two alike.
fn keys() -> [TestKey; 3] {
    signed::made([("one", "ES256"), ("two", "ES256"), ("three", "ES256")])
}

fn set(keys: &[&TestKey]) -> Answer {
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    Answer::keys(&json!({ "keys": keys }).to_string())
}

fn request(prefix: &str, key: &TestKey) -> Request {
    let claims = json!({"iss": "https://idp.example.com", "sub": "alice", "exp": "now+600"});
    let token = key
        .token(claims.as_object().expect("claims"), clock::seconds())
        .expect("a token");
    Request::get("shop.example.com", prefix).header("authorization", format!("Bearer {token}"))
}

/// The policy of a route, whose keys come from there.
fn policy(route: &str, remote: &Value) -> Value {
    let provider = json!({"name": "idp", "issuer": "https://idp.example.com", "remoteJWKS": remote});
    manifests::policy(route, json!({"jwt": {"providers": [provider]}}))
}

fn at(server: &KeyServer, interval: &str) -> Value {
    json!({
        "uri": format!("http://{}{PATH}", server.address()), "cacheDuration": interval, "failedRefetchDuration": "500ms",
    })
}

/// A gateway whose routes ask for tokens.
struct Scene {
    scratch: Scratch,
    place: Place,
    controller: Controller,
    gateway: SocketAddr,
}

impl Scene {
    fn start(backend: &Backend, routes: &[(&str, Value)], others: &[Value], filter: Option<&std::path::Path>) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.join("manifests");
        let port = controller::free_port();
        let mut objects = vec![
            manifests::gateway_class(),
            manifests::gateway(&[manifests::http_listener("http", port, None)]),
            manifests::backend("echo", backend.address()),
        ];
        for (name, remote) in routes {
            objects.push(manifests::route(name, &[], &format!("/{name}"), "echo"));
            objects.push(policy(name, remote));
        }
        objects.extend_from_slice(others);
        scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
        let place = Place::new(&scratch, &folder);
        let place = filter.map_or_else(|| place.clone(), |filter| place.clone().with_filter(filter));
        let controller = Controller::start(&place);
        Self {
            scratch,
            place,
            controller,
            gateway: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    /// Starts an Envoy of it, with four workers, and waits until it answers.
    fn envoy(&self) -> Envoy {
        self.envoy_in(&self.scratch)
    }

    /// The same with its log in a folder of its own.
    fn envoy_in(&self, scratch: &Scratch) -> Envoy {
        let envoy = Envoy::start_with(scratch, &self.place.bootstrap(), 4).beside_manifests(WHY);
        wait::until("the gateway's port is open", PATIENCE, || {
            Connection::try_open(self.gateway).ok()
        });
        envoy
    }

    fn until(&self, request: &Request, status: u16) {
        wait::until(&format!("the status is {status}"), PATIENCE, || {
            (once(self.gateway, request).status == status).then_some(())
        });
    }
}

/// Tells whether no more than `most` of these are within `window`.
fn at_most(times: &[Instant], most: usize, window: Duration) -> bool {
    times
        .windows(most + 1)
        .all(|some| some[most].duration_since(some[0]) >= window)
}

#[test]
fn each_envoy_fetches_once_an_interval_and_once_more_for_unknown_keys() {
    let (backend, server, [one, two, three]) = (Backend::start(), KeyServer::start(), keys());
    server.answer(PATH, set(&[&one]));
    let scene = Scene::start(&backend, &[("orders", at(&server, "6s"))], &[], None);
    let other = Scratch::new();
    // They share a port, so that nobody knows in whose log a request is.
    let envoys = [scene.envoy().unwatched(), scene.envoy_in(&other).unwatched()];
    scene.until(&request("/orders", &one), 200);

    let good = request("/orders", &one);
    let mut sent = 0;
    let start = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0;
                    while sent < 1_000 || start.elapsed() < 14 * SECOND {
                        // A new connection now and then, for every worker of both.
                        let mut connection = Connection::open(scene.gateway);
                        for _ in 0..50 {
                            assert_eq!(connection.send(&good).status, 200);
                            sent += 1;
                        }
                        thread::sleep(Duration::from_millis(20));
                    }
                    sent
                })
            })
            .collect();
        sent = clients
            .into_iter()
            .map(|client| client.join().expect("no failure"))
            .sum();
    });
    assert!(sent >= 10_000, "{sent} requests");
    let times = server.asked(PATH);
    assert!(times.len() >= 4, "both renew their keys: {} fetches", times.len());
    assert!(at_most(&times, 2, Duration::from_millis(5_500)), "{times:?}");
    for envoy in &envoys {
        assert!(!envoy.entries().is_empty(), "both got requests");
    }

    // Whatever their number, unknown keys cost one fetch more.
    let before = server.asked(PATH).len();
    let bad = [request("/orders", &two), request("/orders", &three)];
    for index in 0..200 {
        assert_eq!(once(scene.gateway, &bad[index % 2]).status, 401);
    }
    let after = server.asked(PATH);
    assert!(
        (1..=4).contains(&(after.len() - before)),
        "{before} before, {} after",
        after.len()
    );
    assert!(at_most(&after, 4, Duration::from_millis(5_500)), "{after:?}");
}

#[test]
fn an_envoy_that_starts_while_the_server_of_keys_is_down_verifies() {
    let (backend, server, [one, two, _]) = (Backend::start(), KeyServer::start(), keys());
    server.answer(PATH, set(&[&one]));
    let scene = Scene::start(&backend, &[("orders", at(&server, "5s"))], &[], None);
    let first = scene.envoy();
    scene.until(&request("/orders", &one), 200);
    server.answer(PATH, Answer::failure());
    drop(first);

    let _second = scene.envoy();
    scene.until(&request("/orders", &one), 200);
    // Beyond the interval too: the keys cannot be renewed.
    thread::sleep(9 * SECOND);
    for _ in 0..20 {
        assert_eq!(once(scene.gateway, &request("/orders", &one)).status, 200);
        assert_eq!(once(scene.gateway, &request("/orders", &two)).status, 401);
    }
    let told = |text: &str| {
        wait::until(&format!("the controller says {text:?}"), PATIENCE, || {
            scene.controller.output().contains(text).then_some(())
        });
    };
    told("not fetched: it answered 503");
    told("serve on");
    let degraded = |output: &str| output.matches("  degraded  ").count();
    let enforced = |output: &str| output.rfind("  enforced  ").unwrap_or_default();
    assert_eq!(degraded(&scene.controller.output()), 1, "{}", scene.controller.output());
    let before = enforced(&scene.controller.output());
    server.answer(PATH, set(&[&one]));
    wait::until("the policy is no longer degraded", PATIENCE, || {
        (enforced(&scene.controller.output()) > before).then_some(())
    });
}

#[test]
fn without_any_keys_the_gateway_says_that_it_is_not_the_clients_fault() {
    let (backend, server, [one, ..]) = (Backend::start(), KeyServer::start(), keys());
    server.answer(PATH, Answer::failure());
    let scene = Scene::start(&backend, &[("orders", at(&server, "60s"))], &[], None);
    let envoy = scene.envoy();
    let answer = once(scene.gateway, &request("/orders", &one));
    assert_eq!(
        (answer.status, answer.header("retry-after").as_deref()),
        (503, Some("1"))
    );
    assert_eq!(
        once(scene.gateway, &Request::get("shop.example.com", "/orders")).status,
        401
    );
    for answer in [
        Answer::keys("<html></html>"),
        Answer::keys(&"x".repeat(200 * 1024)),
        set(&[&one]).after(8 * SECOND),
    ] {
        server.answer(PATH, answer);
        assert_eq!(once(scene.gateway, &request("/orders", &one)).status, 503);
    }
    // No scrape of this is stale by more than a fetch: how old the keys are is for whoever watches to say.
    assert_eq!(metric(&envoy, "portcullis_keys_fetched", &[]), None);
    assert!(metric(&envoy, "portcullis_key_fetches", &["result=\"failed\""]).is_some_and(|count| count >= 1));
    let before = clock::seconds();
    server.answer(PATH, set(&[&one]));
    scene.until(&request("/orders", &one), 200);
    let labels = [format!("server=\"{}\"", server.address()), "source=\"".to_owned()];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let fetched = metric(&envoy, "portcullis_keys_fetched", &labels).expect("a time");
    assert!(
        (before - 10..=clock::seconds()).contains(&fetched),
        "{fetched} since {before}"
    );
}

/// The value of the first line of a metric with these labels.
fn metric(envoy: &Envoy, name: &str, labels: &[&str]) -> Option<u64> {
    let stats = envoy.get("/stats/prometheus");
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    };
    let value = stats.lines().find(is_it)?.rsplit(' ').next()?;
    value.parse().ok()
}

#[test]
fn a_rotation_under_load_refuses_no_good_token_and_ends_the_removed_key() {
    let (backend, server, [one, two, _]) = (Backend::start(), KeyServer::start(), keys());
    server.answer(PATH, set(&[&one]));
    let scene = Scene::start(&backend, &[("orders", at(&server, "5s"))], &[], None);
    let _envoy = scene.envoy();
    let (old, new) = (request("/orders", &one), request("/orders", &two));
    scene.until(&old, 200);

    server.answer(PATH, set(&[&two]));
    let rotated = Instant::now();
    let mut ended = None;
    while rotated.elapsed() < 20 * SECOND {
        assert_eq!(once(scene.gateway, &new).status, 200, "{:?} after", rotated.elapsed());
        let status = once(scene.gateway, &old).status;
        assert!(matches!(status, 200 | 401), "{status}");
        if status == 200 {
            ended = None;
        } else {
            ended.get_or_insert_with(|| rotated.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let ended = ended.expect("the removed key ends");
    println!("the removed key was last accepted {ended:?} after it was removed");
    assert!(ended < 10 * SECOND, "{ended:?}");
}

#[test]
fn one_issuer_and_one_address_but_two_backends_are_two_servers() {
    let (backend, [one, two, _]) = (Backend::start(), keys());
    let (here, there) = (KeyServer::start(), KeyServer::start());
    here.answer(PATH, set(&[&one]));
    there.answer(PATH, set(&[&two]));
    let from =
        |name: &str| json!({"uri": "http://idp.example.com/keys", "backendRefs": [manifests::backend_ref(name)]});
    let backends = [
        manifests::backend("here", here.address()),
        manifests::backend("there", there.address()),
    ];
    let scene = Scene::start(
        &backend,
        &[("orders", from("here")), ("bills", from("there"))],
        &backends,
        None,
    );
    let _envoy = scene.envoy();
    scene.until(&request("/orders", &one), 200);
    scene.until(&request("/bills", &two), 200);
    for _ in 0..20 {
        assert_eq!(once(scene.gateway, &request("/orders", &two)).status, 401);
        assert_eq!(once(scene.gateway, &request("/bills", &one)).status, 401);
    }
}

#[test]
fn a_server_of_keys_proves_its_name() {
    let (backend, [one, ..]) = (Backend::start(), keys());
    let scratch = Scratch::new();
    let right = Certificate::new(&scratch, "right", &["idp.example.com"]);
    let wrong = Certificate::new(&scratch, "wrong", &["other.example.com"]);
    let servers = [("orders", &right), ("bills", &wrong)].map(|(name, certificate)| {
        let server = KeyServer::start_tls(certificate);
        server.answer(PATH, set(&[&one]));
        (name, server)
    });
    let mut objects = Vec::new();
    let routes: Vec<(&str, Value)> = servers
        .iter()
        .map(|(name, server)| {
            let idp = format!("idp-{name}");
            objects.push(manifests::backend(&idp, server.address()));
            objects.push(json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
                "metadata": {"name": idp, "namespace": "shop"},
                "spec": {
                    "targetRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": idp}],
                    "validation": {"hostname": "idp.example.com", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]},
                },
            }));
            (*name, json!({"uri": "https://idp.example.com/keys", "backendRefs": [manifests::backend_ref(&idp)]}))
        })
        .collect();
    objects.push(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca", "namespace": "shop"},
        "data": {"ca.crt": format!("{}{}", right.certificate, wrong.certificate)},
    }));
    let scene = Scene::start(&backend, &routes, &objects, None);
    let _envoy = scene.envoy();
    scene.until(&request("/orders", &one), 200);
    for _ in 0..3 {
        assert_eq!(once(scene.gateway, &request("/bills", &one)).status, 503);
    }
    assert!(servers[1].1.asked(PATH).is_empty(), "nothing is asked of a stranger");
    assert!(
        scene.controller.output().contains("not fetched"),
        "{}",
        scene.controller.output()
    );
}

#[test]
fn a_worker_that_dies_while_it_fetches_holds_nobody_up() {
    let (backend, server, [one, ..]) = (Backend::start(), KeyServer::start(), keys());
    server.answer(PATH, Answer::failure());
    let filter = artefacts::faults_filter();
    let scene = Scene::start(&backend, &[("orders", at(&server, "10s"))], &[], Some(&filter));
    let _envoy = scene.envoy();
    // A fetch that takes long, and under it every worker dies.
    server.answer(PATH, set(&[&one]).after(4 * SECOND));
    let begun = server.asked(PATH).len();
    let waiting = thread::spawn({
        let (gateway, request) = (scene.gateway, request("/orders", &one));
        move || Connection::open(gateway).try_send(&request)
    });
    wait::until("a fetch is underway", PATIENCE, || {
        (server.asked(PATH).len() > begun).then_some(())
    });
    for _ in 0..40 {
        let trap = Request::get("shop.example.com", "/orders").header("x-fault", "trap");
        let _ = Connection::open(scene.gateway).try_send(&trap);
    }
    server.answer(PATH, set(&[&one]));
    let died = Instant::now();
    scene.until(&request("/orders", &one), 200);
    assert!(died.elapsed() < 20 * SECOND, "{:?}", died.elapsed());
    drop(waiting);
}
