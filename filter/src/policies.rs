//! The compiled policies of this VM, by hash, and where they come from: the request's own virtual host.

use crate::cache::Cache;
use crate::counters::{self, Counters};
use crate::host::{self, HostError};
use portcullis_engine::denial::Reason;
use portcullis_engine::policy::{self, Policy};
use portcullis_engine::seal::{METADATA_NAMESPACE, SECRETS_KEY_PREFIX};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The most that compiled policies may take in one VM, in bytes.
const LIMIT: usize = 32 * 1024 * 1024;

/// How long a delivered policy that cannot decide is refused without another look, in nanoseconds.
///
/// What does not match its hash may be replaced under the same hash, so the refusal must end; and until then a flood of
/// requests must not hash or compile 256 KiB each.
const REFUSAL_KEPT: u64 = 1_000_000_000;

/// What a refusal weighs in the cache.
const REFUSAL_WEIGHT: usize = 256;

/// The path of the route's policy hash, for [`host::property`].
const HASH_PATH: &[u8] = b"xds\0route_metadata\0filter_metadata\0portcullis\0h";

/// A policy that can decide.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) policy: Arc<Policy>,
    pub(crate) counters: Rc<Counters>,
}

#[derive(Debug)]
enum Known {
    Ready(Ready),
    Refused { reason: Reason, until: u64 },
}

thread_local! {
    static POLICIES: RefCell<Cache<Known>> = RefCell::new(Cache::new(LIMIT));
}

/// The hash in the selected route's metadata.
///
/// # Errors
/// [`Reason::PolicyMissing`] if there is no route or it names no policy.
pub(crate) fn route_hash() -> Result<String, Reason> {
    let hash = host::property(HASH_PATH)
        .map_err(|HostError| Reason::HostFault)?
        .ok_or(Reason::PolicyMissing)?;
    String::from_utf8(hash).map_err(|_| Reason::PolicyUnknown)
}

/// The policy of that hash.
///
/// # Errors
/// Why there is none: such a request is refused.
pub(crate) fn get(hash: &str) -> Result<Ready, Reason> {
    let key = key(hash).ok_or(Reason::PolicyUnknown)?;
    POLICIES.with(|policies| {
        let mut policies = policies.try_borrow_mut().map_err(|_| Reason::HostFault)?;
        match policies.get(key) {
            Some(Known::Ready(ready)) => return Ok(ready.clone()),
            Some(Known::Refused { reason, until }) if host::now().is_ok_and(|now| now < *until) => return Err(*reason),
            Some(Known::Refused { .. }) | None => {}
        }
        // An absent body is not remembered: looking for it costs little, and it may come with the next update.
        let document = read(&["filter_metadata", METADATA_NAMESPACE, hash])?;
        let secrets_key = format!("{SECRETS_KEY_PREFIX}{hash}");
        let secrets = read(&["typed_filter_metadata", &secrets_key, "secret", "inline_bytes"])?;
        let bytes = document.len().saturating_add(secrets.len());
        match policy::decode(hash, &document, &secrets) {
            Ok(policy) => {
                let ready = Ready {
                    counters: counters::of(policy.name()),
                    policy: Arc::new(policy),
                };
                let weight = weight(bytes).saturating_add(ready.policy.regex_bytes());
                policies.insert(key, Known::Ready(ready.clone()), weight);
                Ok(ready)
            }
            Err(reason) => {
                if let Ok(now) = host::now() {
                    let until = now.saturating_add(REFUSAL_KEPT);
                    policies.insert(key, Known::Refused { reason, until }, REFUSAL_WEIGHT);
                }
                Err(reason)
            }
        }
    })
}

/// An upper bound for what a policy of that many serialized bytes takes once compiled, its regular expressions apart.
///
/// Measured per shape: clients take 1.5 times their text, address ranges half, rules and origins up to 4 times.
const fn weight(bytes: usize) -> usize {
    bytes.saturating_mul(4).saturating_add(1024)
}

fn read(path: &[&str]) -> Result<Vec<u8>, Reason> {
    let path = format!("xds\0virtual_host_metadata\0{}", path.join("\0"));
    let value = host::property(path.as_bytes()).map_err(|HostError| Reason::HostFault)?;
    value.ok_or(Reason::PolicyUnknown)
}

/// A hash as a number. Exactly one text gives each number, so that no two texts share an entry.
fn key(hash: &str) -> Option<u128> {
    let canonical = hash.len() == 32 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if canonical {
        u128::from_str_radix(hash, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_hashes_are_keys() {
        assert_eq!(key("000000000000000000000000000000ff"), Some(0xff));
        for hash in [
            "",
            "ff",
            "000000000000000000000000000000FF",
            "+00000000000000000000000000000ff",
            "0000000000000000000000000000000ff",
            "00000000000000000000000000000\0ff",
        ] {
            assert_eq!(key(hash), None, "{hash:?}");
        }
    }

    #[test]
    fn the_path_of_the_hash_is_in_the_engines_namespace() {
        let path = format!("xds\0route_metadata\0filter_metadata\0{METADATA_NAMESPACE}\0h");
        assert_eq!(path.as_bytes(), HASH_PATH);
    }
}
