//! How long the texts of one policy may be.

use portcullis_engine::policy::Policy;
use serde_json::{Value, json};

const HASH: &str = "$2y$10$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e";

/// The longest text of each kind is taken, and one byte more is refused.
#[test]
fn every_text_has_a_cap() {
    let policy = |parts: Value| {
        let mut document = json!({"version": 1, "policy": "a/b"});
        document
            .as_object_mut()
            .unwrap()
            .extend(parts.as_object().unwrap().clone());
        document
    };
    let rule = |parts: Value| {
        let mut rule = json!({"name": "a", "action": "Deny", "methods": ["GET"]});
        rule.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        policy(json!({"authorization": {"defaultAction": "Allow", "rules": [rule]}}))
    };
    let source = |source: &str, text: String| policy(json!({"apiKey": {"extractFrom": [{source: text}]}}));
    let none = || json!({"salt": ""});
    type Delivered<'a> = &'a dyn Fn(String) -> (Value, Value);
    let kinds: [(usize, &str, Delivered<'_>); 14] = [
        (512, "invalid-policy-name", &|text| {
            (json!({"version": 1, "policy": text}), none())
        }),
        (256, "invalid-salt", &|text| (policy(json!({})), json!({"salt": text}))),
        (256, "invalid-header-name", &|text| (source("header", text), none())),
        (256, "invalid-param-name", &|text| (source("param", text), none())),
        (256, "invalid-cookie-name", &|text| (source("cookie", text), none())),
        (256, "invalid-header-name", &|text| {
            (policy(json!({"basicAuth": {"forwardUsernameHeader": text}})), none())
        }),
        (253, "invalid-client-id", &|text| {
            let clients = json!([{"id": text, "sha256": "0".repeat(64)}]);
            (
                source("param", "key".to_owned()),
                json!({"salt": "", "apiKeys": clients}),
            )
        }),
        (255, "invalid-user-name", &|text| {
            (
                policy(json!({"basicAuth": {}})),
                json!({"salt": "", "users": [{"name": text, "hash": HASH}]}),
            )
        }),
        (512, "invalid-rule-name", &|text| (rule(json!({"name": text})), none())),
        (64, "invalid-method", &|text| (rule(json!({"methods": [text]})), none())),
        (256, "invalid-header-name", &|text| {
            (rule(json!({"headers": [{"name": text, "values": ["a"]}]})), none())
        }),
        (4096, "invalid-header-value", &|text| {
            (rule(json!({"headers": [{"name": "a", "values": [text]}]})), none())
        }),
        (1023, "invalid-path", &|text| {
            (
                rule(json!({"path": {"type": "Exact", "value": format!("/{text}")}})),
                none(),
            )
        }),
        (245, "invalid-origin", &|text| {
            (
                policy(json!({"cors": {"allowOrigins": [format!("https://{text}")]}})),
                none(),
            )
        }),
    ];
    for (longest, code, delivered) in kinds {
        let compile = |length: usize| {
            let (document, secrets) = delivered("a".repeat(length));
            let (document, secrets) = (
                serde_json::from_value(document).unwrap(),
                serde_json::from_value(secrets).unwrap(),
            );
            Policy::compile(&document, &secrets).map_err(|error| error.code)
        };
        assert_eq!(compile(longest).err(), None, "{longest} bytes: {code}");
        assert_eq!(compile(longest + 1).err(), Some(code), "{longest} bytes and one");
        if !["invalid-salt", "invalid-path", "invalid-header-value"].contains(&code) {
            assert!(compile(0).is_err(), "none: {code}");
        }
    }
}
