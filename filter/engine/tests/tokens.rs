//! What must hold for every token, that another implementation's verify, and what a worker remembers of them.
#![cfg(not(target_family = "wasm"))]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use std::{cell::Cell, sync::Arc};

use portcullis_cases::{self as cases, Group};
use portcullis_engine::{
    denial::Reason,
    host::{Fault, Host, Signed},
    jwt::{algorithm::Algorithm, software},
    policy::Policy,
    transaction::{RequestHead, Transaction},
    worker::Worker,
};

const NOW: u64 = 1_790_000_000;

const KEYS: &[(&str, &str)] = &[
    ("ES256", "es256"),
    ("ES384", "es384"),
    ("ES512", "es512"),
    ("EdDSA", "ed25519"),
    ("HS256", "hs256"),
    ("HS384", "hs384"),
    ("HS512", "hs512"),
    ("PS256", "rs2048"),
    ("PS384", "rs2048"),
    ("PS512", "rs2049"),
    ("RS256", "rs2048"),
    ("RS384", "rs3072"),
    ("RS512", "rs4096"),
];

/// The proxy, with a clock that is set and a count of the signatures that it verified.
struct Proxy {
    now: Cell<u64>,
    verified: Cell<u32>,
}

impl Proxy {
    const fn new() -> Self {
        Self {
            now: Cell::new(NOW),
            verified: Cell::new(0),
        }
    }
}

impl Host for Proxy {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Err(Fault)
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(self.now.get() * 1_000_000_000)
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        self.verified.set(self.verified.get() + 1);
        Ok(software::verify(signed))
    }
}

/// A policy that takes tokens by these keys, and tokens signed by them.
fn group(name: &str, keys: &str, tokens: &str) -> Group {
    let text = format!(
        "policy: {{version: 1, policy: {name}, jwt: {{providers: [{{name: corp, keySet: corp}}]}}}}\n\
         keySets: {{corp: {keys}}}\n\
         tokens: {tokens}\n\
         cases: []\n"
    );
    cases::parse(&text).unwrap().remove(0)
}

fn compiled(group: &Group) -> Arc<Policy> {
    Arc::new(group.delivered().unwrap().decode().unwrap())
}

fn minted(group: &Group, name: &str) -> Vec<u8> {
    let text = format!(
        "policy: {{}}\ncases: [{{name: n, expect: {{}}, request: {{headers: [[authorization, \"${{{name}}}\"]]}}}}]\n"
    );
    let case = cases::parse(&text).unwrap().remove(0).cases.remove(0);
    let request = group.with_tokens(&case, NOW).unwrap().request.unwrap();
    request.headers[0].1.bytes()
}

fn decide(policy: &Arc<Policy>, proxy: &Proxy, worker: &mut Worker, token: &[u8]) -> Reason {
    let head = RequestHead {
        geography: None,
        headers: vec![
            (b":path".to_vec(), b"/".to_vec()),
            (b"authorization".to_vec(), [b"Bearer ", token].concat()),
        ],
    };
    let mut transaction = Transaction::new(Arc::clone(policy));
    let _ = transaction.on_request(&head, proxy, worker);
    transaction.facts().reason
}

fn every_key() -> Group {
    let mut keys: Vec<String> = KEYS.iter().map(|(_, key)| format!("{{key: {key}}}")).collect();
    keys.dedup();
    let token = |(algorithm, key): &(&str, &str)| {
        format!(
            "{algorithm}: {{key: {key}, alg: {algorithm}, claims: {{sub: alice, iss: idp, exp: now+60, list: [1, true, {{a: x}}]}}}}"
        )
    };
    let tokens: Vec<String> = KEYS.iter().map(token).collect();
    group(
        "shop/orders",
        &format!("[{}]", keys.join(", ")),
        &format!("{{{}}}", tokens.join(", ")),
    )
}

#[test]
fn a_token_with_one_byte_changed_is_refused() {
    let group = every_key();
    let policy = compiled(&group);
    let proxy = Proxy::new();
    let mut worker = Worker::default();
    for (algorithm, _) in KEYS {
        let token = minted(&group, algorithm);
        assert_eq!(
            decide(&policy, &proxy, &mut worker, &token),
            Reason::Allowed,
            "{algorithm}"
        );
        for at in 0..token.len() {
            let changes: Vec<u8> = match *algorithm {
                // Every other byte where that costs little.
                "HS256" => (0..=u8::MAX).filter(|byte| *byte != token[at]).collect(),
                _ => (0..8).map(|bit| token[at] ^ (1 << bit)).collect(),
            };
            for byte in changes {
                let mut changed = token.clone();
                changed[at] = byte;
                let reason = decide(&policy, &proxy, &mut worker, &changed);
                assert_ne!(reason, Reason::Allowed, "{algorithm}: byte {at} as {byte:#04x}");
            }
        }
        for end in 0..token.len() {
            assert_ne!(decide(&policy, &proxy, &mut worker, &token[..end]), Reason::Allowed);
        }
    }
}

/// The keys and algorithms of these tests agree with another implementation, whose signatures are not made here.
#[test]
fn tokens_that_openssl_signed_are_accepted_by_their_key_alone() {
    let vectors = include_str!("vectors/tokens.txt");
    let (proxy, mut worker, mut count) = (Proxy::new(), Worker::default(), 0);
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.split(' ').collect();
        let (algorithm, key, token) = (parts[0], parts[1], parts[2].as_bytes());
        let policy = |key: &str| compiled(&group("shop/orders", &format!("[{{key: {key}}}]"), "{}"));
        assert_eq!(
            decide(&policy(key), &proxy, &mut worker, token),
            Reason::Allowed,
            "{algorithm} {key}"
        );
        let other = match &algorithm[..2] {
            "RS" | "PS" => "rs2048-other",
            "ES" => "es256-other",
            "Ed" => "ed25519-other",
            _ => "hs384",
        };
        if other != key {
            assert_ne!(
                decide(&policy(other), &proxy, &mut worker, token),
                Reason::Allowed,
                "{algorithm} {key}"
            );
        }
        count += 1;
    }
    assert!(count > 40, "only {count} tokens");
}

#[test]
fn every_algorithm_has_a_token_here() {
    for algorithm in Algorithm::ALL {
        assert!(KEYS.iter().any(|(name, _)| *name == algorithm.name()), "{algorithm:?}");
    }
}

#[test]
fn a_token_is_verified_once_and_no_longer_than_it_lasts() {
    let group = group(
        "shop/orders",
        "[{key: es256}]",
        "{alice: {key: es256, claims: {nbf: now, exp: now+100}}}",
    );
    let (policy, proxy, mut worker) = (compiled(&group), Proxy::new(), Worker::default());
    let token = minted(&group, "alice");
    for (now, expected) in [
        (NOW, Reason::Allowed),
        (NOW + 1, Reason::Allowed),
        (NOW + 160, Reason::Allowed),
        (NOW + 161, Reason::JwtExpired),
        (NOW + 100_000, Reason::JwtExpired),
        // The clock was set back.
        (NOW + 160, Reason::Allowed),
        (NOW - 60, Reason::Allowed),
        (NOW - 61, Reason::JwtNotYet),
    ] {
        proxy.now.set(now);
        assert_eq!(decide(&policy, &proxy, &mut worker, &token), expected, "{now}");
    }
    assert_eq!(proxy.verified.get(), 1);
}

#[test]
fn what_is_remembered_serves_no_other_policy_and_no_other_keys() {
    let token = "{alice: {key: es256, claims: {sub: alice}}}";
    let own = group("shop/orders", "[{key: es256}]", token);
    let (proxy, mut worker) = (Proxy::new(), Worker::default());
    let alice = minted(&own, "alice");
    assert_eq!(decide(&compiled(&own), &proxy, &mut worker, &alice), Reason::Allowed);
    for (other, expected) in [
        (group("shop/other", "[{key: es256}]", token), Reason::Allowed),
        (
            group("shop/orders", "[{key: es256-other}]", token),
            Reason::JwtSignature,
        ),
        (group("shop/orders", "[{key: es256, kid: a}]", token), Reason::Allowed),
        (group("shop/orders", "[{key: rs2048}]", token), Reason::JwtKey),
    ] {
        let before = proxy.verified.get();
        assert_eq!(decide(&compiled(&other), &proxy, &mut worker, &alice), expected);
        let asked = u32::from(expected != Reason::JwtKey);
        assert_eq!(proxy.verified.get(), before + asked, "it was looked at anew");
    }
}

#[test]
fn what_does_not_verify_is_not_remembered() {
    let group = group(
        "shop/orders",
        "[{key: es256}]",
        "{mallory: {key: es256-other, claims: {sub: alice}}}",
    );
    let (policy, proxy, mut worker) = (compiled(&group), Proxy::new(), Worker::default());
    let token = minted(&group, "mallory");
    for _ in 0..3 {
        assert_eq!(decide(&policy, &proxy, &mut worker, &token), Reason::JwtSignature);
    }
    assert_eq!(remembered(&worker), 0);
}

#[test]
fn what_is_remembered_has_a_bound() {
    let group = group("shop/orders", "[{key: hs256}]", "{}");
    let (policy, proxy, mut worker) = (compiled(&group), Proxy::new(), Worker::default());
    for index in 0..2500 {
        let text = format!(
            "policy: {{}}\ncases: []\ntokens: {{t: {{key: hs256, claims: {{sub: \"{index}\", a: \"{}\"}}}}}}\n",
            "x".repeat(8000)
        );
        let token = minted(&cases::parse(&text).unwrap().remove(0), "t");
        assert_eq!(decide(&policy, &proxy, &mut worker, &token), Reason::Allowed);
    }
    let count = remembered(&worker);
    assert!((500..1049).contains(&count), "{count} tokens of 8 KB");
}

#[test]
fn one_request_verifies_only_so_many_signatures() {
    let keys = vec!["{key: es256-other}"; 60].join(", ");
    let group = group(
        "shop/orders",
        &format!("[{keys}, {{key: es256}}]"),
        "{alice: {key: es256, claims: {sub: alice}}}",
    );
    let (policy, proxy, mut worker) = (compiled(&group), Proxy::new(), Worker::default());
    let token = minted(&group, "alice");
    assert_eq!(decide(&policy, &proxy, &mut worker, &token), Reason::JwtSignature);
    assert_eq!(proxy.verified.get(), 32);
}

#[test]
fn a_policy_has_only_so_many_keys() {
    let refusal = |sets: usize, keys: usize| {
        let set = format!("[{}]", vec!["{key: ed25519}"; keys].join(", "));
        let providers: Vec<String> = (0..sets)
            .map(|set| format!("{{name: p{set}, keySet: k{set}}}"))
            .collect();
        let sets: Vec<String> = (0..sets).map(|at| format!("k{at}: {set}")).collect();
        let text = format!(
            "policy: {{version: 1, policy: a/b, jwt: {{providers: [{}]}}}}\nkeySets: {{{}}}\ncases: []\n",
            providers.join(", "),
            sets.join(", ")
        );
        let group = cases::parse(&text).unwrap().remove(0);
        let secrets = serde_json::from_slice(&group.delivered().unwrap().secrets).unwrap();
        Policy::compile(&group.document().unwrap(), &secrets)
            .err()
            .map(|error| error.code)
    };
    assert_eq!(refusal(2, 64), None);
    assert_eq!(refusal(1, 65), Some("invalid-key-set"));
    assert_eq!(refusal(3, 43), Some("too-many"));
    assert_eq!(refusal(16, 8), None);
    assert_eq!(refusal(17, 1), Some("too-many"));
}

fn remembered(worker: &Worker) -> usize {
    let text = format!("{worker:?}");
    let (_, count) = text.split_once("tokens: ").unwrap();
    let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}
