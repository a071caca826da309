//! What one policy may hold, and what it may cost.
#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_engine::{
    denial::Reason,
    document::{ApiClient, Document, MAX_BYTES, Secrets, User},
    host::{Fault, Host, Signed},
    policy::{self, Policy, PolicyError},
    seal,
    transaction::{RequestHead, Transaction},
    worker::Worker,
};
use serde_json::{Value, json};

fn compile(document: Value, api_keys: Vec<ApiClient>) -> Result<Policy, PolicyError> {
    let document: Document = serde_json::from_value(document).unwrap();
    Policy::compile(
        &document,
        &Secrets {
            salt: String::new(),
            api_keys,
            ..Secrets::default()
        },
    )
}

fn origins(count: usize) -> Value {
    let origins: Vec<String> = (0..count)
        .map(|index| format!("https://*.host-{index}.example"))
        .collect();
    json!({"version": 1, "policy": "a/b", "cors": {"allowOrigins": origins}})
}

fn sources(count: usize) -> Value {
    let sources: Vec<Value> = (0..count)
        .map(|index| json!({"param": format!("key-{index}")}))
        .collect();
    json!({"version": 1, "policy": "a/b", "apiKey": {"extractFrom": sources}})
}

fn rules(count: usize, cidrs: usize) -> Value {
    let rules: Vec<Value> = (0..count)
        .map(|rule| {
            let cidrs: Vec<String> = (0..cidrs)
                .map(|index| format!("10.{}.{}.{}/32", rule % 256, index / 256, index % 256))
                .collect();
            json!({"name": format!("rule-{rule}"), "action": "Deny", "clientCidrs": cidrs})
        })
        .collect();
    json!({"version": 1, "policy": "a/b", "authorization": {"defaultAction": "Allow", "rules": rules}})
}

fn expressions(count: usize, pattern: &str) -> Value {
    let rules: Vec<Value> = (0..count)
        .map(|rule| {
            let path = json!({"type": "RegularExpression", "value": pattern});
            json!({"name": format!("rule-{rule}"), "action": "Deny", "path": path})
        })
        .collect();
    json!({"version": 1, "policy": "a/b", "authorization": {"defaultAction": "Allow", "rules": rules}})
}

fn headers(count: usize, values: usize) -> Value {
    let values: Vec<String> = (0..values).map(|value| format!("value-{value}")).collect();
    let rules: Vec<Value> = (0..count)
        .map(|rule| {
            let headers = json!([{"name": format!("x-{rule}"), "values": values}]);
            json!({"name": format!("rule-{rule}"), "action": "Deny", "headers": headers})
        })
        .collect();
    json!({"version": 1, "policy": "a/b", "authorization": {"defaultAction": "Allow", "rules": rules}})
}

fn rule_of(count: usize, part: &Value) -> Value {
    let mut rule = json!({"name": "rule", "action": "Deny"});
    for (field, value) in part.as_object().unwrap() {
        let values: Value = value.as_array().unwrap().iter().cycle().take(count).cloned().collect();
        rule.as_object_mut().unwrap().insert(field.clone(), values);
    }
    json!({"version": 1, "policy": "a/b", "authorization": {"defaultAction": "Allow", "rules": [rule]}})
}

fn clients(count: usize) -> Vec<ApiClient> {
    (0..count)
        .map(|index| ApiClient {
            id: format!("client-{index}"),
            sha256: seal::hash(b"key", format!("{index}").as_bytes()).repeat(2),
            not_after: None,
        })
        .collect()
}

const HASH: &str = "$2y$10$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e";

fn users(count: usize) -> Secrets {
    let user = |index| User {
        name: format!("user-{index}"),
        hash: HASH.to_owned(),
    };
    Secrets {
        users: (0..count).map(user).collect(),
        ..Secrets::default()
    }
}

fn basic_auth() -> Value {
    json!({"version": 1, "policy": "a/b", "basicAuth": {}})
}

#[test]
fn users_have_a_cap_and_their_hashes_are_not_printed() {
    let document: Document = serde_json::from_value(basic_auth()).unwrap();
    let secrets = users(4096);
    let policy = Policy::compile(&document, &secrets).unwrap();
    let printed = format!("{policy:?} {secrets:?} {:?}", secrets.users);
    assert!(printed.contains("user-4095"));
    for secret in ["$2y$", "Pp7HPfoAs8I2", "abcdefghijklmnopqrstu"] {
        assert!(!printed.contains(secret), "{secret}");
    }
    let error = Policy::compile(&document, &users(4097)).unwrap_err();
    assert_eq!(
        (error.path.as_str(), error.code),
        ("basicAuth.users", "too-many"),
        "{error}"
    );
}

fn methods(bytes: usize) -> Value {
    json!({"version": 1, "policy": "a/b", "cors": {"allowMethods": ["M".repeat(bytes - 2)]}})
}

fn entries(field: &str, count: usize) -> Value {
    json!({"version": 1, "policy": "a/b", "cors": {field: vec!["a"; count]}})
}

fn csrf(count: usize) -> Value {
    json!({"version": 1, "policy": "a/b", "csrf": {"additionalOrigins": vec!["https://a"; count]}})
}

#[test]
fn every_list_has_a_cap() {
    let key = json!({"version": 1, "policy": "a/b", "apiKey": {"extractFrom": [{"param": "key"}]}});
    for (path, largest, too_large) in [
        (
            "cors.allowOrigins",
            compile(origins(256), vec![]),
            compile(origins(257), vec![]),
        ),
        (
            "cors.allowHeaders",
            compile(entries("allowHeaders", 256), vec![]),
            compile(entries("allowHeaders", 257), vec![]),
        ),
        (
            "csrf.additionalOrigins",
            compile(csrf(16), vec![]),
            compile(csrf(17), vec![]),
        ),
        (
            "cors.allowMethods",
            compile(methods(8192), vec![]),
            compile(methods(8193), vec![]),
        ),
        (
            "apiKeyAuth.extractFrom",
            compile(sources(32), vec![]),
            compile(sources(33), vec![]),
        ),
        (
            "apiKeyAuth.credentialRefs",
            compile(key.clone(), clients(4096)),
            compile(key, clients(4097)),
        ),
        (
            "authorization.rules",
            compile(rules(512, 1), vec![]),
            compile(rules(513, 1), vec![]),
        ),
        (
            "authorization.rules",
            compile(rules(2, 4096), vec![]),
            compile(rules(3, 2731), vec![]),
        ),
        (
            "authorization.rules",
            compile(rule_of(4096, &json!({"methods": ["GET"]})), vec![]),
            compile(rule_of(4097, &json!({"methods": ["GET"]})), vec![]),
        ),
        (
            "authorization.rules",
            compile(headers(512, 8), vec![]),
            compile(headers(512, 9), vec![]),
        ),
        (
            "authorization.rules",
            compile(
                rule_of(512, &json!({"headers": [{"name": "x-a", "values": ["a"]}]})),
                vec![],
            ),
            compile(
                rule_of(513, &json!({"headers": [{"name": "x-a", "values": ["a"]}]})),
                vec![],
            ),
        ),
        (
            "authorization.rules",
            compile(expressions(64, "/a"), vec![]),
            compile(expressions(65, "/a"), vec![]),
        ),
        (
            "authorization.rules",
            compile(expressions(16, "/.{0,100}x"), vec![]),
            compile(expressions(17, "/.{0,100}x"), vec![]),
        ),
    ] {
        assert!(largest.is_ok(), "{path}: {largest:?}");
        let error = too_large.unwrap_err();
        assert_eq!((error.path.as_str(), error.code), (path, "too-many"), "{error}");
    }
}

#[test]
fn a_document_has_a_size() {
    let secrets = br#"{"salt":""}"#;
    let mut document = br#"{"version":1,"policy":"a/b"}"#.to_vec();
    document.resize(MAX_BYTES - secrets.len(), b' ');
    assert!(policy::decode(&seal::hash(&document, secrets), &document, secrets).is_ok());
    document.push(b' ');
    let refused = policy::decode(&seal::hash(&document, secrets), &document, secrets);
    assert_eq!(refused.err(), Some(Reason::PolicyUndecodable));
}

#[test]
fn another_name_is_a_mismatch() {
    let (document, secrets) = (br#"{"version":1,"policy":"a/b"}"#, br#"{"salt":""}"#);
    let h = seal::hash(document, secrets);
    assert!(policy::decode(&h, document, secrets).is_ok());
    for wrong in ["", "0", &h.to_uppercase(), &h[..31], &format!("{h}0")] {
        assert_eq!(
            policy::decode(wrong, document, secrets).err(),
            Some(Reason::PolicyMismatch),
            "{wrong}"
        );
    }
    assert_eq!(
        policy::decode(&h, document, br#"{"salt":"0"}"#).err(),
        Some(Reason::PolicyMismatch)
    );
}

#[test]
fn nothing_prints_a_digest() {
    let key = json!({"version": 1, "policy": "a/b", "apiKey": {"extractFrom": [{"param": "key"}]}});
    let clients = clients(1);
    let digest = clients.first().unwrap().sha256.clone();
    let secrets = Secrets {
        salt: "5a17".to_owned(),
        api_keys: clients.clone(),
        ..Secrets::default()
    };
    let policy = compile(key, clients.clone()).unwrap();
    let printed = format!("{policy:?} {clients:?} {secrets:?}");
    assert!(printed.contains("client-0"), "{printed}");
    let bytes: Vec<u8> = (0..digest.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digest[at..at + 2], 16).unwrap())
        .collect();
    for secret in [digest.as_str(), "5a17", &format!("{bytes:?}")] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

/// What an adapter asks first saves it a call for every request.
#[test]
fn a_policy_without_identity_headers_or_cors_is_asked_nothing_more() {
    let asked = |parts: Value| {
        let mut document = json!({"version": 1, "policy": "a/b"});
        document
            .as_object_mut()
            .unwrap()
            .extend(parts.as_object().unwrap().clone());
        let policy = compile(document, vec![]).unwrap();
        (policy.guards_trailers(), policy.edits_responses())
    };
    let forward = json!({"forwardUsernameHeader": "x-user"});
    assert_eq!(asked(json!({})), (false, false));
    assert_eq!(asked(json!({"basicAuth": {}})), (false, false));
    assert_eq!(asked(json!({"basicAuth": forward})), (true, false));
    assert_eq!(asked(json!({"cors": {}})), (false, true));
    let baseline = json!({"version": 1, "policy": "a/c", "basicAuth": forward});
    assert_eq!(asked(json!({"baseline": baseline})), (true, false));
    assert_eq!(asked(json!({"shadow": baseline})), (false, false));
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Policy>();
}

/// Decoding the largest documents must not hold a worker up: twice the document takes about twice the time.
#[test]
fn decoding_takes_time_in_proportion_to_the_document() {
    let keys = |count| Secrets {
        api_keys: clients(count),
        ..Secrets::default()
    };
    let key = || json!({"version": 1, "policy": "a/b", "apiKey": {"extractFrom": [{"param": "key"}]}});
    let none = Secrets::default;
    let pattern = "/[a-z]{1,20}/[0-9a-f]{8}-[0-9a-f]{4}";
    for (what, half, whole) in [
        ("networks", (rules(1, 4096), none()), (rules(2, 4096), none())),
        ("rules", (rules(256, 16), none()), (rules(512, 16), none())),
        ("origins", (origins(128), none()), (origins(256), none())),
        (
            "large expressions",
            (expressions(8, "/.{0,100}x"), none()),
            (expressions(16, "/.{0,100}x"), none()),
        ),
        (
            "expressions",
            (expressions(32, pattern), none()),
            (expressions(64, pattern), none()),
        ),
        ("headers", (headers(256, 8), none()), (headers(512, 8), none())),
        ("clients", (key(), keys(1150)), (key(), keys(2300))),
        ("users", (basic_auth(), users(1300)), (basic_auth(), users(2600))),
    ] {
        let time = |(document, secrets): &(Value, Secrets)| {
            let document = serde_json::to_vec(&document).unwrap();
            let secrets = serde_json::to_vec(&secrets).unwrap();
            let h = seal::hash(&document, &secrets);
            time_of(|| assert!(policy::decode(&h, &document, &secrets).is_ok(), "{what}"))
        };
        in_proportion(what, || time(&half), || time(&whole));
    }
}

/// The dearest expressions that a policy may hold, against the dearest paths: a worker must not stand still. What bounds it
/// is a budget of the request, whose end takes tens of milliseconds on an idle machine; without it, these take seconds.
#[test]
fn matching_the_dearest_expressions_is_bounded() {
    for (count, pattern) in [
        (16, "/.{0,100}x"),
        (64, "/(?:.*.*.*.*.*.*.*.*)+b"),
        (64, "/(a|aa|aaa|aaaa)+b"),
        (64, "/.*/admin/.*"),
    ] {
        let rules: Vec<Value> = (0..count)
            .map(|rule| {
                let path = json!({"type": "RegularExpression", "value": pattern});
                json!({"name": format!("rule-{rule}"), "action": "Deny", "path": path})
            })
            .collect();
        let document =
            json!({"version": 1, "policy": "a/b", "authorization": {"defaultAction": "Allow", "rules": rules}});
        let policy = Arc::new(compile(document, vec![]).unwrap());
        for path in [
            b"a".repeat(100),
            b"a".repeat(1000),
            b"a".repeat(60_000),
            b"%2561;b".repeat(8_000),
        ] {
            let head = RequestHead {
                geography: None,
                headers: vec![(b":path".to_vec(), [b"/", &path[..]].concat())],
            };
            let time = time_of(|| {
                let mut transaction = Transaction::new(Arc::clone(&policy));
                let _ = transaction.on_request(&head, &Nobody, &mut Worker::default());
            });
            println!("{count} times {pattern}: {} bytes in {time:?}", path.len());
            let budget = Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 1000 });
            assert!(time < budget, "{pattern}: {time:?}");
        }
    }
}

/// Rules about headers read sixty kilobytes of them once, whatever their number.
#[test]
fn long_headers_take_time_in_proportion() {
    let policy = |count: usize| {
        let rules: Vec<Value> = (0..count)
            .map(|rule| {
                json!({"name": format!("rule-{rule}"), "action": "Deny", "headers": [{"name": "x-a", "values": ["1", "2", "3"]}]})
            })
            .collect();
        let document =
            json!({"version": 1, "policy": "a/b", "authorization": {"defaultAction": "Allow", "rules": rules}});
        Arc::new(compile(document, vec![]).unwrap())
    };
    let time = |policy: &Arc<Policy>, lines: Vec<Vec<u8>>| {
        let head = RequestHead {
            geography: None,
            headers: lines.into_iter().map(|line| (b"x-a".to_vec(), line)).collect(),
        };
        time_of(|| {
            let mut transaction = Transaction::new(Arc::clone(policy));
            let _ = transaction.on_request(&head, &Nobody, &mut Worker::default());
        })
    };
    let (one, all) = (policy(1), policy(512));
    for lines in [
        |size: usize| vec![b"a,".repeat(15_000 * size)],
        |size: usize| vec![b"a".repeat(30_000 * size)],
        |size: usize| vec![vec![b'a']; 1_000 * size],
    ] {
        in_proportion("lines", || time(&all, lines(1)), || time(&all, lines(2)));
        in_proportion("rules", || time(&one, lines(2)), || time(&all, lines(2)));
    }
}

/// Fails if the second takes more than three times what the first does, each time that both are measured: what is quadratic
/// takes four times as long for twice the size, and a busy machine is busy for a while only.
fn in_proportion(what: &str, half: impl Fn() -> Duration, whole: impl Fn() -> Duration) {
    let mut times = (Duration::ZERO, Duration::MAX);
    for _ in 0..10 {
        times = (half(), whole());
        if times.1 < times.0 * 3 + SLACK {
            return;
        }
    }
    panic!("{what}: {times:?}");
}

/// What no comparison of two times looks at.
const SLACK: Duration = Duration::from_micros(500);

/// The least time of twenty runs: a machine that is busy with something else rarely lengthens all of them.
fn time_of(mut run: impl FnMut()) -> Duration {
    let times = (0..20).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    times.min().unwrap()
}

struct Nobody;

impl Host for Nobody {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Err(Fault)
    }

    fn now(&self) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn random(&self) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn verify_signature(&self, _signed: &Signed<'_>) -> Result<bool, Fault> {
        Err(Fault)
    }
}
