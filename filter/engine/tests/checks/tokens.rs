//! Tokens, key sets and claims of any bytes.

use std::sync::{Arc, OnceLock};

use portcullis_cases as cases;
use portcullis_engine::{
    denial::Reason,
    host::{Fault, Host, Signed},
    jwt::{
        claims,
        json::{self, Value},
        jwk::{KeySet, Source},
        jws::Jws,
        software,
    },
    policy::Policy,
    transaction::{RequestHead, Transaction},
    worker::Worker,
};

const POLICY: &str = "policy: {version: 1, policy: a/b, jwt: {providers: [{name: a, keySet: k}]}}\n\
                      keySets: {k: [{key: rs2048}, {key: es256}, {key: ed25519}, {key: hs256}]}\n\
                      cases: []\n";

struct Proxy;

impl Host for Proxy {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Err(Fault)
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(1_790_000_000_000_000_000)
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        Ok(software::verify(signed))
    }
}

fn policy() -> Arc<Policy> {
    static COMPILED: OnceLock<Arc<Policy>> = OnceLock::new();
    let compile = || {
        let group = cases::parse(POLICY).unwrap().remove(0);
        Arc::new(group.delivered().unwrap().decode().unwrap())
    };
    Arc::clone(COMPILED.get_or_init(compile))
}

/// Any bytes: a token is in one spelling, and nobody who has no key makes one.
pub(crate) fn jws(data: &[u8]) {
    if let Some(jws) = Jws::parse(data) {
        assert!(
            data.iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        );
        assert_eq!(data.iter().filter(|byte| **byte == b'.').count(), 2);
        assert!(data.starts_with(jws.signed) && !jws.signature.is_empty());
        assert_eq!(data.len() - jws.signed.len() - 1, (jws.signature.len() * 4).div_ceil(3));
    }
    let head = RequestHead {
        geography: None,
        headers: vec![
            (b":path".to_vec(), b"/".to_vec()),
            (b"authorization".to_vec(), [b"Bearer ", data].concat()),
        ],
    };
    let mut transaction = Transaction::new(policy());
    let _ = transaction.on_request(&head, &Proxy, &mut Worker::default());
    let reason = transaction.facts().reason;
    assert!(reason != Reason::Allowed && reason != Reason::HostFault, "{reason:?}");
}

/// A key set: what is one here is JSON to others too, and none gains a key by being fetched.
pub(crate) fn jwk(data: &[u8]) {
    let local = KeySet::parse(data, Source::Local);
    let remote = KeySet::parse(data, Source::Remote);
    assert!(local.is_ok() || remote.is_err());
    if local.is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok_and(|set| set["keys"].is_array()));
    }
}

/// `name NUL claims`: JSON is what it is to others, and what is found is one of what can be.
pub(crate) fn claims(data: &[u8]) {
    let (name, text) = super::split(data);
    let Some(value) = json::parse(text) else {
        return;
    };
    assert!(serde_json::from_slice::<serde_json::Value>(text).is_ok());
    let mut written = String::new();
    value.write(&mut written);
    assert_eq!(json::parse(written.as_bytes()).as_ref(), Some(&value));
    let (Value::Object(object), Ok(name)) = (&value, std::str::from_utf8(name)) else {
        return;
    };
    let mut all = Vec::new();
    claims::any(object, name, &mut |claim| {
        all.push(claim);
        false
    });
    assert_eq!(claims::find(object, name), all.first().copied());
    if let Some(claim) = object.get(name) {
        assert_eq!(claims::find(object, name), Some(claim));
    }
    for claim in all {
        let value = claims::header_value(claim);
        assert!(value.is_none_or(|value| !value.is_empty()));
    }
}
