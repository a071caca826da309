//! Routes that claims select (`recomputeRoute`), through a real Envoy: what a client wrote selects none of them, and the policy of
//! the selected route decides too.

use std::{net::SocketAddr, thread, time::Duration};

use portcullis_e2e::{
    artefacts,
    backend::Backend,
    client::{Connection, Request},
    clock,
    controller::{self, Place},
    envoy::Envoy,
    live::{Live, until_status},
    manifests,
    scratch::{self, Scratch},
    signed, tables,
};
use portcullis_engine::jwt::signing::TestKey;
use serde_json::{Value, json};

/// How Envoy names the refusal of a request without the seal of its route.
const SEALED: &str = "rbac_access_denied_matched_policy[none]";

const SECOND: Duration = Duration::from_secs(1);

fn key() -> TestKey {
    let [key] = signed::made([("idp", "ES256")]);
    key
}

fn token(key: &TestKey, claims: &Value) -> String {
    let claims = claims.as_object().expect("claims");
    format!("Bearer {}", key.token(claims, clock::seconds()).expect("a token"))
}

/// A policy on one rule of the route.
fn policy(name: &str, spec: Value) -> Value {
    let mut policy = manifests::policy(name, spec);
    policy["spec"]["targetRefs"] = json!([{
        "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders", "sectionName": name,
    }]);
    policy
}

/// A route whose rules stand under policies of their own: `everyone` asks for a token whose claim may lead to `tenant`, which asks
/// for an API key, and `client` is for those that claim to be a client as well.
fn objects(port: u16, backends: [&Backend; 3], key: &TestKey) -> String {
    let mut route = manifests::route("orders", &[], "/", "everyone");
    let rule = |name: &str, headers: &[(&str, &str)]| {
        let headers: Vec<Value> = headers
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        json!({"name": name, "matches": [{"headers": headers}], "backendRefs": [manifests::backend_ref(name)]})
    };
    route["spec"]["rules"] = json!([
        rule("client", &[("x-tenant", "acme"), ("x-client", "root")]),
        rule("tenant", &[("x-tenant", "acme")]),
        rule("everyone", &[]),
    ]);
    let mut api_key = manifests::api_key_auth("clients");
    api_key["forwardClientIDHeader"] = "x-client".into();
    let [everyone, tenant, client] = backends;
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("everyone", everyone.address()),
        manifests::backend("tenant", tenant.address()),
        manifests::backend("client", client.address()),
        manifests::secret("shop", "clients", &[("robot", "k1")]),
        route,
        policy(
            "everyone",
            json!({"jwt": {"providers": [{
                "name": "idp", "issuer": "https://idp.example.com", "recomputeRoute": true,
                "claimToHeaders": [{"header": "x-tenant", "claim": "tenant"}],
                "localJWKS": {"type": "Inline", "inline": json!({"keys": [key.public()]}).to_string()},
            }]}}),
        ),
        policy("tenant", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
        policy("client", json!({"apiKeyAuth": api_key})),
    ])
}

struct Tokens {
    acme: String,
    globex: String,
}

impl Tokens {
    fn new(key: &TestKey) -> Self {
        let of = |tenant: &str| {
            token(
                key,
                &json!({"iss": "https://idp.example.com", "sub": "alice", "exp": "now+600", "tenant": tenant}),
            )
        };
        Self {
            acme: of("acme"),
            globex: of("globex"),
        }
    }
}

fn get() -> Request {
    Request::get("shop.example.com", "/orders")
}

#[test]
fn a_claim_leads_to_a_route_whose_policy_decides_too() {
    let (everyone, tenant, client) = (Backend::start(), Backend::start(), Backend::start());
    let key = key();
    let tokens = Tokens::new(&key);
    let port = controller::free_port();
    let live = Live::start(
        &[("all.yaml", objects(port, [&everyone, &tenant, &client], &key))],
        &[port],
    );
    let mut connection = Connection::open(SocketAddr::from(([127, 0, 0, 1], port)));
    let mut send = |request: &Request| connection.send(request).status;
    let with = |token: &str| get().header("authorization", token);

    assert_eq!(send(&with(&tokens.globex)), 200);
    assert_eq!(everyone.last().header("x-tenant").as_deref(), Some("globex"));
    assert_eq!(send(&with(&tokens.acme)), 401, "the tenant's route asks for a key");
    assert_eq!(send(&with(&tokens.acme).header("x-api-key", "k1")), 200);
    assert_eq!(tenant.last().header("x-tenant").as_deref(), Some("acme"));

    // What a client writes leads nowhere.
    let spoofed = || get().header("x-tenant", "acme");
    assert_eq!(send(&spoofed()), 401);
    assert_eq!(
        send(&spoofed().header("x-api-key", "k1")),
        401,
        "no key spares the token"
    );
    assert_eq!(send(&spoofed().header("authorization", tokens.globex.as_str())), 200);
    assert_eq!(everyone.last().header("x-tenant").as_deref(), Some("globex"));
    assert_eq!((everyone.count(), tenant.count(), client.count()), (2, 1, 0));
    live.assert_listeners_untouched();
}

#[test]
fn a_policy_at_fault_opens_no_rule_that_its_claims_lead_to() {
    let (everyone, tenant, client) = (Backend::start(), Backend::start(), Backend::start());
    let key = key();
    let port = controller::free_port();
    let objects = objects(port, [&everyone, &tenant, &client], &key);
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    let refused = || {
        let mut connection = Connection::open(gateway);
        until_status(&mut connection, &get(), 500, 10 * SECOND);
        let spoofed = get().header("x-tenant", "acme").header("x-api-key", "k1");
        assert_eq!(connection.send(&spoofed).status, 500);
        // Where its rule is shut rather than guarded, its policy takes `x-client` away first, and the seal refuses.
        let status = connection.send(&spoofed.header("x-client", "root")).status;
        assert!([403, 500].contains(&status), "{status}");
        assert_eq!((tenant.count(), client.count()), (0, 0));
    };

    // It cannot be enforced.
    let keys = json!({"keys": [key.public()]}).to_string();
    let faulty = objects.replace(&keys.replace('"', "\\\""), "no key set");
    assert_ne!(objects, faulty);
    let live = Live::start(&[("all.yaml", faulty)], &[port]);
    refused();
    drop(live);

    // It comes with a file that cannot be read.
    let is_it = |object: &&str| object.contains("\"SecurityPolicy\"") && object.contains("recomputeRoute");
    let (it, others): (Vec<&str>, Vec<&str>) = objects.split("---\n").partition(is_it);
    let live = Live::start(&[("all.yaml", others.join("---\n"))], &[port]);
    live.edit(
        "new.yaml",
        &it.concat().replace("\"recomputeRoute\": true", "\"recomputeRoute\": 7"),
    );
    refused();
    let _ = live
        .envoy
        .beside_manifests("no command takes a file that cannot be read");
}

#[test]
fn a_request_is_sent_on_once() {
    let (everyone, tenant, client) = (Backend::start(), Backend::start(), Backend::start());
    let key = key();
    let tokens = Tokens::new(&key);
    let port = controller::free_port();
    let live = Live::start(
        &[("all.yaml", objects(port, [&everyone, &tenant, &client], &key))],
        &[port],
    );
    let mut connection = Connection::open(SocketAddr::from(([127, 0, 0, 1], port)));
    let logged = live.envoy.entries().len();
    // The policy of `client` replaces the header that led there: the route of before is not asked a third time.
    let request = get()
        .header("authorization", tokens.acme.as_str())
        .header("x-client", "root")
        .header("x-api-key", "k1");
    assert_eq!(connection.send(&request).status, 403);
    assert_eq!(live.envoy.entry(logged).get("details").as_deref(), Some(SEALED));
    assert_eq!((everyone.count(), tenant.count(), client.count()), (0, 0, 0));
}

#[test]
fn both_instances_share_their_memory_after_a_crash_too() {
    let scratch = Scratch::new();
    let (everyone, tenant, client) = (Backend::start(), Backend::start(), Backend::start());
    let key = key();
    let tokens = Tokens::new(&key);
    let folder = scratch.join("manifests");
    scratch::write(
        &folder.join("all.yaml"),
        &objects(18080, [&everyone, &tenant, &client], &key),
    );
    let mut bootstrap = Place::new(&scratch, &folder).snippet(&scratch);
    tables::on_free_ports(&mut bootstrap);
    tables::use_filter(&mut bootstrap, &artefacts::faults_filter());
    let envoy = Envoy::start_with(&scratch, &bootstrap, 2).beside_manifests("the filter breaks on demand");
    let (_, gateway) = envoy.listeners().remove(0);
    let send = |request: &Request| {
        Connection::open(gateway)
            .try_send(request)
            .map_or(0, |response| response.status)
    };
    let good = get()
        .header("authorization", tokens.acme.as_str())
        .header("x-api-key", "k1");
    assert_eq!(send(&good), 200);
    // Connections are spread over the workers by chance.
    for _ in 0..8 {
        assert_ne!(send(&get().header("x-fault", "trap")), 200);
    }
    let back = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        (0..16).all(|_| send(&good) == 200)
    });
    assert!(back, "the new machines decide as the old ones did");
    assert_eq!(send(&get().header("authorization", tokens.acme.as_str())), 401);
    assert_eq!(client.count() + everyone.count(), 0);
}
