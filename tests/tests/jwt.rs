//! Tokens through a real Envoy: claims for the backend, a challenge in every refusal, and keys that are rotated.

use std::{net::SocketAddr, time::Duration};

use portcullis_e2e::{
    backend::Backend,
    client::{Connection, Request, Response},
    clock, controller,
    live::{Live, until_status},
    manifests, signed,
};
use portcullis_engine::jwt::signing::TestKey;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// A key that is trusted, one that follows it, and one that never is.
fn keys() -> [TestKey; 3] {
    signed::made([("old", "RS256"), ("new", "ES256"), ("foreign", "ES256")])
}

/// A token that is right but for these claims.
fn token(key: &TestKey, other: &Value) -> String {
    let mut claims = json!({
        "iss": "https://idp.example.com", "sub": "alice", "aud": "orders", "exp": "now+60",
        "groups": ["sales"], "scope": "read write", "account": 12_345_678_901_234_567_890_u64,
    });
    for (name, value) in other.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let claims = claims.as_object().expect("claims");
    key.token(claims, clock::seconds()).expect("a token")
}

fn key_set(key: &TestKey) -> String {
    manifests::file(&[json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "idp", "namespace": "shop"},
        "data": {"jwks": json!({"keys": [key.public()]}).to_string()},
    })])
}

/// A gateway with one route that asks for tokens by the key set of a ConfigMap, which has a file of its own.
fn start(backend: &Backend, key: &TestKey) -> (Live, SocketAddr) {
    let port = controller::free_port();
    let asked = json!({"provider": "idp", "claims": [{"name": "groups", "valueType": "StringArray", "values": ["sales"]}], "scopes": ["read"]});
    let policy = json!({
        "jwt": {"providers": [{
            "name": "idp", "issuer": "https://idp.example.com", "audiences": ["orders"],
            "localJWKS": {"type": "ValueRef", "valueRef": {"group": "", "kind": "ConfigMap", "name": "idp"}},
            "claimToHeaders": [{"header": "x-user", "claim": "sub"}, {"header": "x-account", "claim": "account"}],
        }]},
        "authorization": {"rules": [{"name": "sales", "action": "Allow", "principal": {"jwt": asked}}]},
    });
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::route("orders", &[], "/orders", "echo"),
        manifests::policy("orders", policy),
    ];
    let files = [("gateway.yaml", manifests::file(&objects)), ("keys.yaml", key_set(key))];
    (Live::start(&files, &[port]), SocketAddr::from(([127, 0, 0, 1], port)))
}

fn with(token: &str) -> Request {
    Request::get("shop.example.com", "/orders/1").header("authorization", format!("Bearer {token}"))
}

fn challenge(response: &Response) -> String {
    response.header("www-authenticate").unwrap_or_default()
}

#[test]
fn a_token_opens_its_route_and_tells_the_backend_who_calls() {
    let backend = Backend::start();
    let [old, _, foreign] = keys();
    let (live, gateway) = start(&backend, &old);
    let mut connection = Connection::open(gateway);

    let request = with(&token(&old, &json!({})))
        .header("x-user", "root")
        .header("x-account", "1");
    assert_eq!(connection.send(&request).status, 200);
    let received = backend.last();
    assert_eq!(received.header("x-user").as_deref(), Some("alice"));
    assert_eq!(received.header("x-account").as_deref(), Some("12345678901234567890"));

    let missing = connection.send(&Request::get("shop.example.com", "/orders/1").header("x-user", "root"));
    assert_eq!(
        (missing.status, challenge(&missing).as_str()),
        (401, "Bearer realm=\"api\"")
    );
    let invalid = "Bearer realm=\"api\", error=\"invalid_token\"";
    let lacking = "Bearer realm=\"api\", error=\"insufficient_scope\"";
    for (what, token, status, expected) in [
        ("a key of nobody", token(&foreign, &json!({})), 401, invalid),
        (
            "a token that ended",
            token(&old, &json!({"exp": "now-61"})),
            401,
            invalid,
        ),
        (
            "another issuer",
            token(&old, &json!({"iss": "https://other.example.com"})),
            401,
            invalid,
        ),
        (
            "another audience",
            token(&old, &json!({"aud": "invoices"})),
            403,
            invalid,
        ),
        ("another group", token(&old, &json!({"groups": ["support"]})), 403, ""),
        ("no scope", token(&old, &json!({"scope": "write"})), 403, lacking),
    ] {
        let response = connection.send(&with(&token));
        assert_eq!(
            (response.status, challenge(&response).as_str()),
            (status, expected),
            "{what}"
        );
    }
    assert_eq!(backend.count(), 1, "nothing else came through");
    live.assert_listeners_untouched();
}

#[test]
fn a_rotated_key_set_is_live_at_once_and_without_a_restart() {
    let backend = Backend::start();
    let [old, new, _] = keys();
    let (live, gateway) = start(&backend, &old);
    let (before, after) = (with(&token(&old, &json!({}))), with(&token(&new, &json!({}))));
    let mut connection = Connection::open(gateway);
    assert_eq!(connection.send(&before).status, 200);
    assert_eq!(connection.send(&after).status, 401);

    live.edit("keys.yaml", &key_set(&new));
    let (_, took) = until_status(&mut connection, &after, 200, 5 * SECOND);
    assert!(took < SECOND, "{took:?}");
    // On every worker: what one of them remembers of the old key counts for nothing.
    for _ in 0..16 {
        let mut connection = Connection::open(gateway);
        until_status(&mut connection, &before, 401, SECOND);
        until_status(&mut connection, &after, 200, SECOND);
    }
    live.assert_listeners_untouched();
}
