//! What ClientTrafficPolicies say about certificates of clients.

use portcullis_attachment::object::{self, ListenerRef};
use serde_json::Value;

use super::{ClientPolicies, Fate, Place, Policy, Slot, places};

/// What the policy of a listener says about certificates of clients.
pub(crate) enum Holder<'a> {
    /// Nothing.
    Silent,
    /// That they are to be verified, and how.
    Asks {
        namespace: &'a str,
        name: &'a str,
        settings: &'a Value,
    },
    /// That cannot be told, and why.
    Unclear(String),
}

impl Policy<'_> {
    fn client_validation(&self) -> Option<&Value> {
        self.spec?.tls.as_ref()?.get("clientValidation")
    }

    /// Whether one of its targets is what is said and has come to that.
    fn is_at(&self, fate: Fate, at: impl Fn(&Slot) -> bool) -> bool {
        self.hits.iter().any(|hit| hit.fate == fate && at(&hit.slot))
    }
}

impl ClientPolicies<'_> {
    /// What a listener's policy says about certificates of clients.
    pub(crate) fn client_validation(&self, listener: &ListenerRef) -> Holder<'_> {
        for Place { object, section } in places(listener) {
            if let Some(section) = section {
                if let Some(holder) = self.slots.get(&section) {
                    return self.said(*holder, &section);
                }
                // This listener may be the one that was meant. A policy that asks for nothing does not end the search: what is
                // wider may ask, and must not be silenced by a name that leads nowhere.
                let of_object = |slot: &Slot| {
                    let whole = (slot.kind, &slot.namespace, &slot.name);
                    whole == (object.kind, &object.namespace, &object.name)
                };
                let lost = |policy: &&Policy<'_>| {
                    policy.is_at(Fate::SectionNotFound, of_object)
                        && (policy.spec.is_none() || policy.client_validation().is_some())
                };
                if let Some(policy) = self.policies.iter().find(lost) {
                    return Holder::Unclear(format!("{} names a listener that does not exist", policy.object));
                }
            }
            if let Some(holder) = self.slots.get(&object) {
                return self.said(*holder, &object);
            }
        }
        Holder::Silent
    }

    /// What the policy that holds a slot says.
    fn said(&self, holder: usize, slot: &Slot) -> Holder<'_> {
        let Some(policy) = self.policies.get(holder) else {
            return Holder::Silent;
        };
        if policy.spec.is_none() {
            return Holder::Unclear(format!("{} cannot be read", policy.object));
        }
        if let Some(settings) = policy.client_validation() {
            return Holder::Asks {
                namespace: object::namespace(policy.metadata),
                name: object::name(policy.metadata),
                settings,
            };
        }
        // Whoever came too late for a target must not leave it more open than it asked for.
        let too_late =
            |other: &&Policy<'_>| other.is_at(Fate::Conflicted, |at| at == slot) && other.client_validation().is_some();
        match self.policies.iter().find(too_late) {
            Some(other) => Holder::Unclear(format!("{} has lost its target to {}", other.object, policy.object)),
            None => Holder::Silent,
        }
    }
}
