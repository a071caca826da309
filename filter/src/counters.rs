//! `portcullis_decisions` by policy, outcome and reason.
//!
//! Envoy's wasm counters have no labels, so they are written into the name; the bootstrap's `stats_tags` take them out.

use crate::host;
use portcullis_engine::{denial::Reason, step::Outcome};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The counters of one policy.
#[derive(Debug)]
pub(crate) struct Counters {
    policy: Rc<str>,
    /// A policy has a handful of endings, so a scan is the fastest map.
    ids: RefCell<Vec<(Outcome, Reason, u32)>>,
}

thread_local! {
    /// By policy rather than by hash: an edited policy continues its counters, and a counter that is defined twice
    /// leaks an entry of Envoy's table.
    static ALL: RefCell<HashMap<Rc<str>, Rc<Counters>>> = RefCell::default();
}

/// The counters of the policy of that name.
pub(crate) fn of(policy: &str) -> Rc<Counters> {
    ALL.with(|all| {
        let Ok(mut all) = all.try_borrow_mut() else {
            return Rc::new(Counters::new(policy.into()));
        };
        if let Some(counters) = all.get(policy) {
            return Rc::clone(counters);
        }
        let policy: Rc<str> = policy.into();
        let counters = Rc::new(Counters::new(Rc::clone(&policy)));
        all.insert(policy, Rc::clone(&counters));
        counters
    })
}

impl Counters {
    fn new(policy: Rc<str>) -> Self {
        Self {
            policy,
            ids: RefCell::default(),
        }
    }

    /// Counts one decision. A counter that the proxy refuses changes no decision.
    pub(crate) fn count(&self, outcome: Outcome, reason: Reason) {
        let Ok(mut ids) = self.ids.try_borrow_mut() else {
            return;
        };
        let known = ids
            .iter()
            .find(|(o, r, _)| *o == outcome && *r == reason)
            .map(|(_, _, id)| *id);
        let id = match known {
            Some(id) => id,
            None => {
                let Ok(id) = host::define_counter(&name(&self.policy, outcome, reason)) else {
                    return;
                };
                ids.push((outcome, reason, id));
                id
            }
        };
        let _ = host::increment(id);
    }
}

fn name(policy: &str, outcome: Outcome, reason: Reason) -> String {
    // The separator of the labels must not come from a policy's name.
    let policy = policy.replace(';', "_");
    let outcome = match outcome {
        Outcome::Allow => "allow",
        Outcome::Answer => "answer",
        Outcome::Deny => "deny",
    };
    let reason = reason.as_str();
    format!("portcullis_decisions;policy={policy};outcome={outcome};reason={reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_carries_the_labels() {
        assert_eq!(
            name("shop/a;b", Outcome::Deny, Reason::ApiKeyMissing),
            "portcullis_decisions;policy=shop/a_b;outcome=deny;reason=api_key_missing"
        );
    }
}
