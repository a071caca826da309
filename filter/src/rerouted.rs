//! The requests of this VM that their claims sent to another route, by the contexts that decided them first: the second instance
//! of this filter has contexts of its own.

use crate::host::{self, HostError};
use crate::root::state;
use portcullis_engine::policy::Policy;
use portcullis_engine::rerouted::Rerouted;
use std::cell::RefCell;
use std::collections::HashMap;

/// A request on its way.
#[derive(Debug)]
struct Waiting {
    /// The policy that decided it first.
    hash: String,
    /// Nothing, once the policy of its new route decides it.
    rerouted: Option<Rerouted>,
}

thread_local! {
    static REROUTED: RefCell<HashMap<u32, Waiting>> = RefCell::default();
}

/// Sends a request on its way; from then on its verified headers may select a route.
pub(crate) fn insert(id: u32, hash: &str, policy: &Policy, rerouted: Rerouted) -> Result<(), HostError> {
    let mut claims = format!("{id},").into_bytes();
    for name in policy.verified_headers() {
        claims.extend_from_slice(&name);
        claims.push(b',');
    }
    REROUTED.with(|all| {
        let waiting = Waiting {
            hash: hash.to_owned(),
            rerouted: Some(rerouted),
        };
        all.try_borrow_mut().map_err(|_| HostError)?.insert(id, waiting);
        host::set_property(state::CLAIMS, &claims)
    })
}

/// Takes the request of this stream to be decided by the policy of that hash; `None` if that policy has decided it, or if no claim
/// selected its route.
///
/// # Errors
/// The request was rerouted and is not known.
pub(crate) fn take(hash: &str) -> Result<Option<Rerouted>, HostError> {
    let Some(claims) = host::property(state::CLAIMS.as_bytes())? else {
        return Ok(None);
    };
    let id = claims.split(|byte| *byte == b',').next().unwrap_or_default();
    let id: u32 = std::str::from_utf8(id)
        .ok()
        .and_then(|id| id.parse().ok())
        .ok_or(HostError)?;
    REROUTED.with(|all| {
        let mut all = all.try_borrow_mut().map_err(|_| HostError)?;
        let waiting = all.get_mut(&id).ok_or(HostError)?;
        if waiting.hash != hash {
            return waiting.rerouted.take().map(Some).ok_or(HostError);
        }
        // A stream may live for hours, and its head is large.
        all.remove(&id);
        Ok(None)
    })
}

/// Tells whether another policy decides the request, and what it does to the response.
pub(crate) fn is_taken(id: u32) -> bool {
    REROUTED.with(|all| {
        all.try_borrow()
            .is_ok_and(|all| all.get(&id).is_some_and(|waiting| waiting.rerouted.is_none()))
    })
}

/// Forgets a request that has ended.
pub(crate) fn remove(id: u32) {
    REROUTED.with(|all| {
        // Asked at the end of every request, and nearly always there is none.
        if let Ok(mut all) = all.try_borrow_mut()
            && !all.is_empty()
        {
            all.remove(&id);
        }
    });
}
