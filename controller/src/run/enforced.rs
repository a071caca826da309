//! Whether policies are enforced: what proxies said, as the condition `Enforced`. Pure.
//!
//! How many proxies there are is in no message: one that comes or goes would rewrite the statuses of all policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use portcullis_attachment::status::{Condition, ConditionStatus, ObjectStatus, ParentRef, Scope, ScopeStatus};

use super::report::{Deliveries, Delivery, Reach, reach};
use crate::load::Evaluation;

/// How long something may be on its way before that is said: what comes through sooner is not worth two writes.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after the start nothing is said of proxies that are not there: they come back in their own time.
const START: Duration = Duration::from_secs(10);

/// Since when each Gateway's configuration is not with its proxies.
#[derive(Debug)]
pub(crate) struct Enforcement {
    began: Instant,
    since: BTreeMap<String, Instant>,
}

impl Enforcement {
    pub(crate) const fn new(began: Instant) -> Self {
        Self {
            began,
            since: BTreeMap::new(),
        }
    }

    /// Whether something that was not said yet will have to be.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        self.since.values().any(|since| self.holds(*since, now))
    }

    fn holds(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) < PATIENCE || now.duration_since(self.began) < START
    }

    /// The Gateways of which nothing is said for now.
    pub(crate) fn held(&mut self, deliveries: &Deliveries, now: Instant) -> BTreeSet<String> {
        self.note(deliveries, now);
        let held = self.since.iter().filter(|(_, since)| self.holds(**since, now));
        held.map(|(gateway, _)| gateway.clone()).collect()
    }

    fn note(&mut self, deliveries: &Deliveries, now: Instant) {
        self.since
            .retain(|gateway, _| deliveries.gateways.contains_key(gateway));
        for (gateway, delivery) in &deliveries.gateways {
            if matches!(delivery, Delivery::Pending | Delivery::NoProxies) {
                self.since.entry(gateway.clone()).or_insert(now);
            } else {
                self.since.remove(gateway);
            }
        }
    }

    /// The statuses of all objects, policies' with `Enforced` where it can be told by now.
    pub(crate) fn statuses(
        evaluation: &Evaluation,
        deliveries: &Deliveries,
        held: &BTreeSet<String>,
    ) -> Vec<ObjectStatus> {
        let reach = reach(&evaluation.attachment);
        let nowhere = Reach::default();
        let mut statuses = evaluation.attachment.statuses.clone();
        for status in &mut statuses {
            let reach = reach.get(&status.object).unwrap_or(&nowhere);
            let name = format!("{}/{}", status.object.namespace, status.object.name);
            let quarantined = deliveries.quarantined.get(&name);
            let degraded = deliveries.degraded.get(&status.object);
            for scope in &mut status.scopes {
                let Scope::Parent(ancestor) = &scope.scope else {
                    continue;
                };
                let gateways = gateways(ancestor, reach);
                let delivery = deliveries.of(gateways.iter().copied());
                let held = gateways.iter().any(|gateway| held.contains(*gateway));
                let condition = condition(scope, reach, &gateways, quarantined, &delivery, held);
                scope.conditions.extend(condition);
                scope.conditions.extend(degraded.map(|why| unavailable(why)));
                scope.conditions.sort_by_key(|condition| condition.r#type);
            }
        }
        statuses.extend(evaluation.translation.statuses.iter().cloned());
        statuses
    }
}

/// The Gateways that an ancestor stands for, of those on which the policy is in force.
fn gateways<'a>(ancestor: &ParentRef, reach: &'a Reach<'_>) -> Vec<&'a str> {
    let name = format!("{}/{}", ancestor.namespace, ancestor.name);
    let of_ancestor = |gateway: &&str| ancestor.kind != "Gateway" || *gateway == name;
    reach.gateways.iter().map(String::as_str).filter(of_ancestor).collect()
}

/// Says that a policy lives on what its last fetch of keys brought.
fn unavailable(why: &str) -> Condition {
    Condition {
        r#type: "Degraded",
        status: ConditionStatus::True,
        reason: "KeySetUnavailable",
        message: format!("{why}."),
    }
}

fn condition(
    scope: &ScopeStatus,
    reach: &Reach<'_>,
    gateways: &[&str],
    quarantined: Option<&String>,
    delivery: &Delivery,
    held: bool,
) -> Option<Condition> {
    let has = |r#type: &str, status: ConditionStatus| {
        let mut conditions = scope.conditions.iter();
        conditions.any(|condition| condition.r#type == r#type && condition.status == status)
    };
    let (status, reason, message) = if has("Accepted", ConditionStatus::False) {
        (
            ConditionStatus::False,
            "NotAccepted",
            "The policy is not accepted here.".to_owned(),
        )
    } else if let Some(why) = quarantined {
        let message = format!("Envoy refused routes of this policy, they answer 500: {why}");
        (ConditionStatus::False, "Rejected", message)
    } else if gateways.is_empty() && has("Overridden", ConditionStatus::True) {
        let message = "More specific policies cover all that it targets.".to_owned();
        (ConditionStatus::False, "Overridden", message)
    } else if gateways.is_empty() {
        let message = "No route is under it here.".to_owned();
        (ConditionStatus::Unknown, "NoRoutes", message)
    } else {
        match delivery {
            Delivery::Rejected(why) => {
                let message = format!("Envoy refused its configuration and keeps what it had: {why}");
                (ConditionStatus::False, "Rejected", message)
            }
            Delivery::FilterTooOld => {
                let message = "A connected Envoy runs a filter that cannot decode it; upgrade the filter.".to_owned();
                (ConditionStatus::False, "FilterTooOld", message)
            }
            Delivery::Pending | Delivery::NoProxies if held => return None,
            Delivery::Pending => {
                let message = "It is on its way to Envoy.".to_owned();
                (ConditionStatus::Unknown, "Pending", message)
            }
            Delivery::NoProxies => {
                let message = "No Envoy is connected.".to_owned();
                (ConditionStatus::Unknown, "NoProxies", message)
            }
            Delivery::Acknowledged if reach.shadow => {
                let message = "Every connected Envoy evaluates it, without effect.".to_owned();
                (ConditionStatus::False, "Shadow", message)
            }
            Delivery::Acknowledged => {
                let message = "Every connected Envoy enforces it.".to_owned();
                (ConditionStatus::True, "Enforced", message)
            }
        }
    };
    Some(Condition {
        r#type: "Enforced",
        status,
        reason,
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(accepted: ConditionStatus) -> ScopeStatus {
        ScopeStatus {
            scope: Scope::Object,
            conditions: vec![Condition {
                r#type: "Accepted",
                status: accepted,
                reason: "Because",
                message: String::new(),
            }],
            attached_routes: None,
            supported_kinds: Vec::new(),
        }
    }

    fn told(accepted: ConditionStatus, delivery: &Delivery, held: bool) -> Option<(ConditionStatus, &'static str)> {
        let mut reach = Reach::default();
        reach.gateways.insert("edge/public".to_owned());
        let condition = condition(&scope(accepted), &reach, &["edge/public"], None, delivery, held);
        condition.map(|condition| (condition.status, condition.reason))
    }

    #[test]
    fn a_policy_is_enforced_when_all_have_it_and_never_by_not_hearing_of_it() {
        use ConditionStatus::{False, True, Unknown};
        let rejected = Delivery::Rejected("Route.match: no".to_owned());
        assert_eq!(told(True, &Delivery::Acknowledged, false), Some((True, "Enforced")));
        assert_eq!(told(True, &Delivery::NoProxies, false), Some((Unknown, "NoProxies")));
        assert_eq!(told(True, &Delivery::Pending, false), Some((Unknown, "Pending")));
        assert_eq!(
            told(True, &Delivery::FilterTooOld, false),
            Some((False, "FilterTooOld"))
        );
        assert_eq!(told(True, &rejected, false), Some((False, "Rejected")));
        assert_eq!(
            told(False, &Delivery::Acknowledged, false),
            Some((False, "NotAccepted"))
        );
        // What may be over in a moment is not said, what is known is.
        assert_eq!(told(True, &Delivery::Pending, true), None);
        assert_eq!(told(True, &rejected, true), Some((False, "Rejected")));
        let nowhere = condition(&scope(True), &Reach::default(), &[], None, &Delivery::NoProxies, true);
        assert_eq!(nowhere.unwrap().reason, "NoRoutes");
    }

    #[test]
    fn what_is_on_its_way_for_long_is_said() {
        let start = Instant::now();
        let mut enforcement = Enforcement::new(start);
        let later = |seconds: u64| start + Duration::from_secs(seconds);
        enforcement.since.insert("edge/public".to_owned(), later(0));
        assert!(enforcement.waits(later(9)), "proxies come back after a start");
        assert!(!enforcement.waits(later(11)));
        enforcement.since.insert("edge/public".to_owned(), later(20));
        assert!(enforcement.waits(later(21)));
        assert!(!enforcement.waits(later(22)));
    }
}
