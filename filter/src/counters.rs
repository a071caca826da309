//! `portcullis_decisions` by policy, outcome and reason, and `portcullis_shadow` by those, the enforced outcome and the rule.
//!
//! Envoy's wasm counters have no labels, so they are written into the name; the bootstrap's `stats_tags` take them out.

use crate::host;
use portcullis_engine::{
    denial::Reason,
    step::{Facts, Outcome},
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The counters of one policy.
#[derive(Debug)]
pub(crate) struct Counters {
    policy: Rc<str>,
    /// A policy has a handful of endings, so a scan is the fastest map.
    ids: RefCell<Vec<(Outcome, Reason, u32)>>,
    shadow: RefCell<Vec<(Disagreement, u32)>>,
}

/// What the policy would have done in shadow, beside what was done.
#[derive(Debug, PartialEq, Eq)]
struct Disagreement {
    enforced: Outcome,
    outcome: Outcome,
    reason: Reason,
    /// The rule's label, where it makes a difference.
    rule: Option<Box<str>>,
}

/// The most counters of one policy in shadow: further rules are counted as one.
const MAX_SHADOW: usize = 64;
/// The name of all rules that are not counted apart. No rule's label ends so.
const OTHER_RULES: &str = "other*";
/// The longest label of a rule, in characters.
const MAX_RULE: usize = 128;

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
            shadow: RefCell::default(),
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

    /// Counts what the policy would have done in shadow; by rule where that differs from what was done.
    pub(crate) fn count_shadow(&self, enforced: Outcome, shadow: &Facts<'_>) {
        let Ok(mut ids) = self.shadow.try_borrow_mut() else {
            return;
        };
        let mut seen = Disagreement::new(enforced, shadow);
        let id = |ids: &[(Disagreement, u32)], seen: &Disagreement| {
            ids.iter().find(|(known, _)| known == seen).map(|(_, id)| *id)
        };
        let mut known = id(&ids, &seen);
        if known.is_none() && ids.len() >= MAX_SHADOW {
            seen.rule = seen.rule.map(|_| OTHER_RULES.into());
            known = id(&ids, &seen);
        }
        let id = match known {
            Some(id) => id,
            None => {
                let Ok(id) = host::define_counter(&seen.name(&self.policy)) else {
                    return;
                };
                ids.push((seen, id));
                id
            }
        };
        let _ = host::increment(id);
    }
}

fn name(policy: &str, outcome: Outcome, reason: Reason) -> String {
    // The separator of the labels must not come from a policy's name.
    let policy = policy.replace(';', "_");
    let (outcome, reason) = (label(outcome), reason.as_str());
    format!("portcullis_decisions;policy={policy};outcome={outcome};reason={reason}")
}

const fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "allow",
        Outcome::Answer => "answer",
        Outcome::Deny => "deny",
    }
}

impl Disagreement {
    fn new(enforced: Outcome, shadow: &Facts<'_>) -> Self {
        let differs = enforced != shadow.outcome;
        Self {
            enforced,
            outcome: shadow.outcome,
            reason: shadow.reason,
            rule: shadow.rule.filter(|_| differs).map(rule_label),
        }
    }

    fn name(&self, policy: &str) -> String {
        let policy = policy.replace(';', "_");
        let outcome = match self.reason {
            // Nobody looked, so nobody can say that it would have been refused.
            Reason::BasicBusy | Reason::HostFault => "undecided",
            _ => label(self.outcome),
        };
        let (enforced, reason) = (label(self.enforced), self.reason.as_str());
        let mut name =
            format!("portcullis_shadow;policy={policy};enforced={enforced};outcome={outcome};reason={reason}");
        if let Some(rule) = &self.rule {
            name.push_str(";rule=");
            name.push_str(rule);
        }
        name
    }
}

/// A rule's name as a label: only what can end neither a label nor a name.
fn rule_label(rule: &str) -> Box<str> {
    rule.chars().take(MAX_RULE).map(plain).collect()
}

const fn plain(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '/' | '_' => character,
        _ => '_',
    }
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

    fn shadow(outcome: Outcome, reason: Reason, rule: Option<&'static str>) -> Facts<'static> {
        Facts {
            policy: "edge/next",
            outcome,
            reason,
            rule,
            principal: None,
        }
    }

    #[test]
    fn a_disagreement_is_named_by_its_rule() {
        let name = |enforced, facts| Disagreement::new(enforced, &facts).name("edge/next");
        let denied = shadow(Outcome::Deny, Reason::AuthorizationDenied, Some("a;policy=b\n\u{e9} c"));
        assert_eq!(
            name(Outcome::Allow, denied.clone()),
            "portcullis_shadow;policy=edge/next;enforced=allow;outcome=deny;reason=authorization_denied;rule=a_policy_b___c"
        );
        assert_eq!(
            name(Outcome::Deny, denied),
            "portcullis_shadow;policy=edge/next;enforced=deny;outcome=deny;reason=authorization_denied"
        );
        assert_eq!(
            name(Outcome::Allow, shadow(Outcome::Deny, Reason::BasicBusy, None)),
            "portcullis_shadow;policy=edge/next;enforced=allow;outcome=undecided;reason=basic_busy"
        );
    }
}
