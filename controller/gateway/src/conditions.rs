//! Conditions of Gateways, ListenerSets and their listeners.

use std::collections::BTreeSet;

use gateway_api::gateways::Gateway;
use portcullis_attachment::{
    listener_set::AttachedSet,
    object::{self, ObjectRef},
    status::{Condition, ConditionStatus, ObjectStatus, Scope, ScopeStatus},
};

use crate::{
    addresses::Assigned,
    judged::Judged,
    report::{condition, sentence},
    routes::Routes,
};

/// The status of a Gateway, from its own listeners; the statuses of its ListenerSets are counted.
pub(crate) fn of_gateway(
    gateway: &Gateway,
    judged: &[Judged<'_>],
    sets: &[ObjectStatus],
    routes: &Routes,
    assigned: Assigned,
) -> ObjectStatus {
    let metadata = &gateway.metadata;
    let own: Vec<&Judged<'_>> = judged
        .iter()
        .filter(|each| each.listener.reference.set.is_none())
        .collect();
    let (accepted, mut programmed) = whole(&own, "The Gateway is accepted.", "Invalid");
    if let (ConditionStatus::True, Some((reason, message))) = (programmed.status, assigned.missing) {
        programmed = condition("Programmed", false, reason, message);
    }
    ObjectStatus {
        object: ObjectRef::new("Gateway", object::namespace(metadata), object::name(metadata)),
        observed_generation: metadata.generation,
        scopes: scopes(
            vec![accepted, programmed].into_iter().chain(insecure(judged)).collect(),
            &own,
            routes,
        ),
        addresses: assigned.addresses,
        attached_sets: match sets.iter().filter(|set| is_accepted(set)).count() {
            0 => None,
            accepted => i32::try_from(accepted).ok(),
        },
    }
}

/// Whether the object itself is accepted.
fn is_accepted(status: &ObjectStatus) -> bool {
    let own = status.scopes.iter().filter(|scope| scope.scope == Scope::Object);
    let mut conditions = own.flat_map(|scope| &scope.conditions);
    conditions.any(|condition| condition.r#type == "Accepted" && condition.status == ConditionStatus::True)
}

/// Tells that certificates of clients are taken which nobody can verify (Gateway API, `InsecureFrontendValidationMode`).
fn insecure(judged: &[Judged<'_>]) -> Option<Condition> {
    let lax = |each: &&Judged<'_>| {
        each.validation
            .as_ref()
            .is_some_and(|validation| !validation.verifies())
    };
    let ports: BTreeSet<i32> = judged.iter().filter(lax).map(|each| each.listener.spec.port).collect();
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let message = format!(
        "Clients without a valid certificate are served on the ports {}: no rule on certificates matches there.",
        ports.join(", ")
    );
    let condition = || condition("InsecureFrontendValidationMode", true, "ConfigurationChanged", message);
    (!ports.is_empty()).then(condition)
}

/// The status of a ListenerSet.
pub(crate) fn of_set(
    attached: &AttachedSet<'_>,
    gateway: &Gateway,
    judged: &[Judged<'_>],
    routes: &Routes,
) -> ObjectStatus {
    let metadata = &attached.set.metadata;
    let reference = attached.reference();
    let own: Vec<&Judged<'_>> = judged
        .iter()
        .filter(|each| each.listener.reference.set.as_ref() == Some(&reference))
        .collect();
    let (accepted, programmed) = if attached.allowed {
        whole(&own, "The ListenerSet is accepted.", "ListenersNotValid")
    } else {
        let message = format!(
            "ListenerSet attachment from namespace {} not allowed by Gateway {}/{}",
            reference.namespace,
            object::namespace(&gateway.metadata),
            object::name(&gateway.metadata)
        );
        (
            condition("Accepted", false, "NotAllowed", message.clone()),
            condition("Programmed", false, "NotAllowed", message),
        )
    };
    ObjectStatus::new(
        ObjectRef::new("ListenerSet", reference.namespace, reference.name),
        metadata.generation,
        scopes(vec![accepted, programmed], &own, routes),
    )
}

/// `Accepted` and `Programmed` of an object with listeners; `none` is the reason of the latter where none of them is valid.
fn whole(own: &[&Judged<'_>], message: &str, none: &'static str) -> (Condition, Condition) {
    let up = own.iter().filter(|each| each.down.is_none()).count();
    let all = up == own.len() && own.iter().all(|each| each.unresolved.is_none());
    let accepted = if up == 0 {
        condition("Accepted", false, "ListenersNotValid", "No listener is valid.")
    } else if all {
        condition("Accepted", true, "Accepted", message)
    } else {
        condition("Accepted", true, "ListenersNotValid", "Some listeners are not valid.")
    };
    let programmed = if up == 0 {
        condition("Programmed", false, none, "No listener is valid.")
    } else {
        condition(
            "Programmed",
            true,
            "Programmed",
            "The configuration is sent to the proxies.",
        )
    };
    (accepted, programmed)
}

fn scopes(conditions: Vec<Condition>, own: &[&Judged<'_>], routes: &Routes) -> Vec<ScopeStatus> {
    let mut scopes = vec![ScopeStatus {
        scope: Scope::Object,
        conditions,
        attached_routes: None,
        supported_kinds: Vec::new(),
    }];
    scopes.extend(own.iter().map(|each| ScopeStatus {
        scope: Scope::Listener(each.listener.spec.name.clone()),
        conditions: of_listener(each),
        attached_routes: i32::try_from(routes.on(&each.listener.reference).len()).ok(),
        supported_kinds: each.listener.kinds().collect(),
    }));
    scopes
}

fn of_listener(judged: &Judged<'_>) -> Vec<Condition> {
    let fault = judged.listener.fault;
    let at_odds = judged.down.as_ref().filter(|(reason, _)| *reason == "ProtocolConflict");
    let conflicted = match (fault.filter(|fault| fault.is_conflict()), at_odds) {
        (Some(fault), _) => condition("Conflicted", true, fault.reason(), fault.message()),
        (None, Some((reason, message))) => condition("Conflicted", true, reason, sentence(message)),
        (None, None) => condition(
            "Conflicted",
            false,
            "NoConflicts",
            "The listener conflicts with no other.",
        ),
    };
    let resolved = match &judged.unresolved {
        Some((reason, message)) => condition("ResolvedRefs", false, reason, sentence(message)),
        None => condition(
            "ResolvedRefs",
            true,
            "ResolvedRefs",
            "Listener references have been resolved.",
        ),
    };
    // A certificate that is missing is told by ResolvedRefs; the listener itself is well-formed (Gateway API).
    let refused = judged.down.as_ref().filter(|(reason, _)| *reason != "Invalid");
    let accepted = match refused {
        Some((reason, message)) => condition("Accepted", false, reason, sentence(message)),
        None => condition("Accepted", true, "Accepted", "The listener is accepted."),
    };
    let programmed = match &judged.down {
        Some((reason, message)) => {
            let conflict = matches!(*reason, "HostnameConflict" | "ProtocolConflict");
            condition(
                "Programmed",
                false,
                if conflict { reason } else { "Invalid" },
                sentence(message),
            )
        }
        None => condition(
            "Programmed",
            true,
            "Programmed",
            "The configuration is sent to the proxies.",
        ),
    };
    let mut conditions = vec![accepted, conflicted];
    if let Some(other) = &judged.overlaps {
        let message = format!(
            "Hosts of this listener are also hosts of {other}: a connection for one that asks for the other gets 421."
        );
        conditions.push(condition("OverlappingTLSConfig", true, "OverlappingHostnames", message));
    }
    conditions.extend([programmed, resolved]);
    conditions
}
