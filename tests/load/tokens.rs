//! Policies that ask for tokens, and the same for Envoy's own filters.

use portcullis_e2e::{clock, signed};
use portcullis_engine::jwt::signing::TestKey;
use serde_json::{Map, Value, json};

use crate::{native, scenarios::Scenario};

const ISSUER: &str = "https://idp.example.com";

/// What is signed: with its header and signature, 600 bytes of token.
const CLAIMS: &str = r#"{"iss": "https://idp.example.com", "sub": "alice", "aud": "orders", "exp": "now+36000", "groups": ["sales", "support"], "scope": "read write", "tenant": "acme"}"#;

/// The scenarios: a token that was seen before, one that never was, and rules on claims beside none.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let claims = json!([{"name": "sales", "action": "Allow", "principal": {"jwt": {
        "provider": "idp", "claims": [{"name": "tenant", "values": ["acme"]}]}}}]);
    let text = "request.method == 'GET' && metadata.filter_metadata['envoy.filters.http.jwt_authn']['idp']['tenant'] == 'acme'";
    let cel = json!([{"name": "sales", "action": "Allow", "cel": text}]);
    let tenant = native::path(&[
        "metadata",
        "filter_metadata",
        "[envoy.filters.http.jwt_authn",
        "[idp",
        "[tenant",
    ]);
    let conditions = native::both(
        &native::equal(&native::path(&["request", "method"]), "GET"),
        &native::equal(&tenant, "acme"),
    );
    vec![
        scenario("jwt", "JWT, RS256, seen before", None, None),
        Scenario {
            fresh: true,
            ..scenario("jwt-first", "JWT, RS256, never seen before", None, None)
        },
        scenario(
            "claims",
            "JWT and a rule on a claim",
            Some(claims),
            Some(native::rbac(&[native::matcher(
                &native::claim("idp", "tenant", "acme"),
                "ALLOW",
            )])),
        ),
        scenario(
            "cel",
            "JWT and an expression on a claim",
            Some(cel),
            Some(native::condition(&conditions)),
        ),
    ]
}

fn key() -> TestKey {
    let [key] = signed::made([("bench", "RS256")]);
    key
}

fn token(key: &TestKey, id: u32) -> String {
    let mut claims: Map<String, Value> = serde_json::from_str(CLAIMS).expect("claims");
    claims.insert("jti".to_owned(), format!("{id:08}").into());
    key.token(&claims, clock::seconds()).expect("a token")
}

/// Tokens that no two rounds have in common.
pub(crate) fn fresh(round: u32, count: u32) -> Vec<String> {
    let key = key();
    (0..count)
        .map(|index| token(&key, (round + 1) * 1_000_000 + index))
        .collect()
}

/// The public keys, as Envoy's own filter has them in the chain.
pub(crate) fn key_set() -> String {
    json!({"keys": [key().public()]}).to_string()
}

/// The provider of every scenario, as Envoy's own filter has it in the chain.
pub(crate) fn provider() -> Value {
    json!({
        "issuer": ISSUER, "audiences": ["orders"], "forward": true, "payload_in_metadata": "idp",
        "claim_to_headers": [{"header_name": "x-user", "claim_name": "sub"}],
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope", "scp"]},
        "local_jwks": {"inline_string": key_set()},
    })
}

fn scenario(
    key: &'static str,
    title: &'static str,
    rules: Option<Value>,
    rbac: Option<(&'static str, Value)>,
) -> Scenario {
    let mut spec = json!({"jwt": {"providers": [{
        "name": "idp", "issuer": ISSUER, "audiences": ["orders"],
        "claimToHeaders": [{"header": "x-user", "claim": "sub"}],
        "localJWKS": {"type": "Inline", "inline": key_set()},
    }]}});
    if let Some(rules) = rules {
        spec["authorization"] = json!({"defaultAction": "Deny", "rules": rules});
    }
    let filters: Vec<_> = std::iter::once(native::jwt()).chain(rbac).collect();
    Scenario {
        key,
        title,
        method: "GET",
        headers: vec![("authorization", format!("Bearer {}", token(&self::key(), 1)))],
        fresh: false,
        refused: (Vec::new(), 401),
        spec,
        secret: None,
        native: Some(native::filters(&filters)),
    }
}
