//! The status that an object is to have, beside what others wrote into it. Pure.
//!
//! `parents` of a route and `ancestors` of a policy are one value each for an API server (`x-kubernetes-list-type:
//! atomic`): whoever writes an entry writes all of them. Entries of others are therefore written back as they were read,
//! and only onto the version that they were read from.

use portcullis_attachment::status::{
    AddressType, Condition, ConditionStatus, ObjectStatus, ParentRef, Scope, ScopeStatus,
};
use serde_json::{Map, Value as Json, json};

/// The condition that stays as it is where nothing is said about it.
const HELD: &str = "Enforced";

/// How many ancestors a policy may have (`PolicyStatus.ancestors`).
const ANCESTORS: usize = 16;

/// How many parents a route may have (`RouteStatus.parents`).
const PARENTS: usize = 32;

/// The types of conditions that are written on GatewayClasses, Gateways, ListenerSets and their listeners.
const CONDITIONS: &[&str] = &[
    "Accepted",
    "AttachedListenerSets",
    "Conflicted",
    "InsecureFrontendValidationMode",
    "OverlappingTLSConfig",
    "Programmed",
    "Ready",
    "ResolvedRefs",
];

/// What is to be applied as `status` to an object with the status `existing`; nothing if it is as it is to be. An object of which
/// nothing is to be said (`None`) loses the entries of this controller.
pub(crate) fn apply(
    kind: &str,
    wanted: Option<&ObjectStatus>,
    existing: &Json,
    controller: &str,
    now: &str,
) -> Option<Json> {
    let now = Now { controller, now };
    match kind {
        "GatewayClass" | "Gateway" | "ListenerSet" => now.whole(wanted?, existing),
        "HTTPRoute" | "GRPCRoute" | "TCPRoute" => now.listed(("parents", "parentRef", PARENTS), wanted, existing),
        _ => now.listed(("ancestors", "ancestorRef", ANCESTORS), wanted, existing),
    }
}

struct Now<'a> {
    controller: &'a str,
    now: &'a str,
}

impl Now<'_> {
    /// A status with entries by controller.
    fn listed(&self, names: (&str, &str, usize), wanted: Option<&ObjectStatus>, existing: &Json) -> Option<Json> {
        let (list, reference, most) = names;
        let entries = existing.get(list).and_then(Json::as_array).into_iter().flatten();
        let (own, others): (Vec<&Json>, Vec<&Json>) =
            entries.partition(|entry| entry.get("controllerName").and_then(Json::as_str) == Some(self.controller));
        let scopes = wanted.map(|status| status.scopes.as_slice()).unwrap_or_default();
        let generation = wanted.and_then(|status| status.observed_generation);
        let mut entries = Vec::new();
        for scope in scopes {
            let Scope::Parent(parent) = &scope.scope else { continue };
            let parent = named(parent);
            let former = own.iter().copied().find(|entry| entry.get(reference) == Some(&parent));
            entries.push(json!({
                reference: parent,
                "controllerName": self.controller,
                "conditions": self.conditions(scope, generation, former),
            }));
        }
        entries.truncate(most.saturating_sub(others.len()));
        if entries.iter().eq(own) {
            return None;
        }
        let mut all: Vec<Json> = others.into_iter().cloned().collect();
        all.extend(entries);
        Some(json!({ list: all }))
    }

    /// A status that is all this controller's.
    fn whole(&self, wanted: &ObjectStatus, existing: &Json) -> Option<Json> {
        let generation = wanted.observed_generation;
        let mut status = Map::new();
        let mut listeners = Vec::new();
        let mut same = true;
        for scope in &wanted.scopes {
            match &scope.scope {
                Scope::Object => {
                    let conditions = self.conditions(scope, generation, Some(existing));
                    same &= agrees(&conditions, existing);
                    status.insert("conditions".to_owned(), Json::Array(conditions));
                }
                Scope::Listener(name) => {
                    let former = listener(existing, name);
                    let conditions = self.conditions(scope, generation, former);
                    let kinds = scope.supported_kinds.iter();
                    let kinds: Vec<Json> = kinds
                        .map(|kind| json!({"group": "gateway.networking.k8s.io", "kind": kind}))
                        .collect();
                    let entry = json!({
                        "name": name,
                        "attachedRoutes": scope.attached_routes.unwrap_or_default(),
                        "supportedKinds": kinds,
                        "conditions": conditions,
                    });
                    let is = |field: &str| former.and_then(|former| former.get(field)) == entry.get(field);
                    let no_kinds =
                        kinds.is_empty() && former.is_some_and(|former| former.get("supportedKinds").is_none());
                    same &= former.is_some_and(|former| agrees(&conditions, former))
                        && is("attachedRoutes")
                        && (is("supportedKinds") || no_kinds);
                    listeners.push(entry);
                }
                Scope::Parent(_) => {}
            }
        }
        let length = |list: &str| existing.get(list).and_then(Json::as_array).map_or(0, Vec::len);
        let addresses = addresses(wanted);
        same &= length("listeners") == listeners.len();
        same &= match existing.get("addresses").and_then(Json::as_array) {
            Some(known) => *known == addresses,
            None => addresses.is_empty(),
        };
        let sets = existing
            .get("attachedListenerSets")
            .and_then(Json::as_i64)
            .unwrap_or_default();
        let wanted_sets = wanted.attached_sets.map_or(0, i64::from);
        if same && sets == wanted_sets {
            return None;
        }
        // Definitions from before there were ListenerSets do not have the field.
        if sets != 0 || wanted_sets != 0 {
            status.insert("attachedListenerSets".to_owned(), json!(wanted_sets));
        }
        // An empty list takes away what somebody else wrote, which would say for ever where this Gateway was.
        if !addresses.is_empty() || length("addresses") > 0 {
            status.insert("addresses".to_owned(), Json::Array(addresses));
        }
        if !listeners.is_empty() {
            status.insert("listeners".to_owned(), Json::Array(listeners));
        }
        Some(Json::Object(status))
    }

    /// Conditions as they are written; one whose status is as it was keeps the time of its last change.
    fn conditions(&self, scope: &ScopeStatus, generation: Option<i64>, former: Option<&Json>) -> Vec<Json> {
        let mut conditions: Vec<Json> = Vec::new();
        for condition in &scope.conditions {
            let former = former.and_then(|former| of_type(former, condition.r#type));
            conditions.push(self.condition(condition, generation, former));
        }
        let says = scope.conditions.iter().any(|condition| condition.r#type == HELD);
        if !says && let Some(held) = former.and_then(|former| of_type(former, HELD)) {
            conditions.push(held.clone());
        }
        conditions.sort_by(|one, other| type_of(one).cmp(&type_of(other)));
        conditions
    }

    fn condition(&self, condition: &Condition, generation: Option<i64>, former: Option<&Json>) -> Json {
        let status = match condition.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        let text = |former: &Json, name: &str| former.get(name).and_then(Json::as_str).map(str::to_owned);
        let since = former
            .filter(|former| text(former, "status").as_deref() == Some(status))
            .and_then(|former| text(former, "lastTransitionTime"));
        let mut written = json!({
            "type": condition.r#type,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": since.unwrap_or_else(|| self.now.to_owned()),
        });
        if let (Some(generation), Some(fields)) = (generation, written.as_object_mut()) {
            fields.insert("observedGeneration".to_owned(), json!(generation));
        }
        written
    }
}

fn type_of(condition: &Json) -> Option<&str> {
    condition.get("type").and_then(Json::as_str)
}

fn of_type<'a>(owner: &'a Json, r#type: &str) -> Option<&'a Json> {
    let conditions = owner.get("conditions").and_then(Json::as_array)?;
    conditions.iter().find(|condition| type_of(condition) == Some(r#type))
}

fn listener<'a>(status: &'a Json, name: &str) -> Option<&'a Json> {
    let listeners = status.get("listeners").and_then(Json::as_array)?;
    let mut listeners = listeners.iter();
    listeners.find(|listener| listener.get("name").and_then(Json::as_str) == Some(name))
}

/// Whether an owner has these conditions, and no other one that this controller writes. Conditions of others stay.
fn agrees(conditions: &[Json], owner: &Json) -> bool {
    let known = owner.get("conditions").and_then(Json::as_array);
    let known = known.map(Vec::as_slice).unwrap_or_default();
    let ours = known
        .iter()
        .filter(|condition| type_of(condition).is_some_and(|name| CONDITIONS.contains(&name)));
    conditions.iter().all(|condition| known.contains(condition)) && ours.count() == conditions.len()
}

fn addresses(wanted: &ObjectStatus) -> Vec<Json> {
    let addresses = wanted.addresses.iter().map(|address| {
        let r#type = match address.r#type {
            AddressType::IpAddress => "IPAddress",
            AddressType::Hostname => "Hostname",
        };
        json!({"type": r#type, "value": address.value})
    });
    addresses.collect()
}

/// A parentRef or an ancestorRef.
fn named(parent: &ParentRef) -> Json {
    let mut reference = json!({
        "group": parent.group,
        "kind": parent.kind,
        "namespace": parent.namespace,
        "name": parent.name,
    });
    if let Some(fields) = reference.as_object_mut() {
        if let Some(section) = &parent.section_name {
            fields.insert("sectionName".to_owned(), json!(section));
        }
        if let Some(port) = parent.port {
            fields.insert("port".to_owned(), json!(port));
        }
    }
    reference
}

#[cfg(test)]
mod tests {
    use portcullis_attachment::{object::ObjectRef, status::Address};

    use super::*;

    const OURS: &str = "a.example/controller";

    fn condition(r#type: &'static str, status: ConditionStatus) -> Condition {
        Condition {
            r#type,
            status,
            reason: "Because",
            message: "It is so.".to_owned(),
        }
    }

    fn parent(name: &str) -> ParentRef {
        ParentRef {
            group: "gateway.networking.k8s.io".to_owned(),
            kind: "Gateway".to_owned(),
            namespace: "edge".to_owned(),
            name: name.to_owned(),
            section_name: None,
            port: None,
        }
    }

    fn scope(scope: Scope, conditions: Vec<Condition>) -> ScopeStatus {
        ScopeStatus {
            scope,
            conditions,
            attached_routes: None,
            supported_kinds: Vec::new(),
        }
    }

    fn policy(generation: i64, scopes: Vec<ScopeStatus>) -> ObjectStatus {
        ObjectStatus::new(
            ObjectRef::new("SecurityPolicy", "shop", "orders"),
            Some(generation),
            scopes,
        )
    }

    fn accepted(gateway: &str, status: ConditionStatus) -> ScopeStatus {
        scope(Scope::Parent(parent(gateway)), vec![condition("Accepted", status)])
    }

    fn of_policy(wanted: Option<&ObjectStatus>, existing: &Json, now: &str) -> Option<Json> {
        apply("SecurityPolicy", wanted, existing, OURS, now)
    }

    #[test]
    fn what_was_written_is_not_written_again_and_keeps_its_time() {
        let wanted = policy(1, vec![accepted("public", ConditionStatus::True)]);
        let first = of_policy(Some(&wanted), &Json::Null, "t1").unwrap();
        assert_eq!(of_policy(Some(&wanted), &first, "t2"), None);

        let edited = policy(2, vec![accepted("public", ConditionStatus::True)]);
        let second = of_policy(Some(&edited), &first, "t2").unwrap();
        let condition = &second["ancestors"][0]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "t1", "its status is as it was");
        assert_eq!(condition["observedGeneration"], 2);

        let refused = policy(2, vec![accepted("public", ConditionStatus::False)]);
        let third = of_policy(Some(&refused), &second, "t3").unwrap();
        assert_eq!(third["ancestors"][0]["conditions"][0]["lastTransitionTime"], "t3");
    }

    #[test]
    fn entries_of_others_are_written_back_untouched_and_onto_their_version_only() {
        let foreign = json!({"ancestorRef": {"name": "theirs"}, "controllerName": "b.example/other", "odd": [1]});
        let existing = json!({"ancestors": [foreign]});
        let wanted = policy(1, vec![accepted("public", ConditionStatus::True)]);
        let applied = of_policy(Some(&wanted), &existing, "t1").unwrap();
        assert_eq!(applied["ancestors"][0], foreign);
        assert_eq!(applied["ancestors"].as_array().map(Vec::len), Some(2));
        // Another order is none of our business.
        let mut turned = applied.clone();
        turned["ancestors"].as_array_mut().unwrap().reverse();
        assert_eq!(of_policy(Some(&wanted), &turned, "t2"), None);
        let gone = of_policy(None, &applied, "t2").unwrap();
        assert_eq!(gone, existing);
        assert_eq!(of_policy(None, &gone, "t3"), None);
    }

    #[test]
    fn entries_of_ours_that_nothing_calls_for_go() {
        let both = policy(
            1,
            vec![
                accepted("public", ConditionStatus::True),
                accepted("internal", ConditionStatus::True),
            ],
        );
        let first = of_policy(Some(&both), &Json::Null, "t1").unwrap();
        let one = policy(1, vec![accepted("internal", ConditionStatus::True)]);
        let second = of_policy(Some(&one), &first, "t2").unwrap();
        let ancestors = second["ancestors"].as_array().unwrap();
        assert_eq!(ancestors.len(), 1);
        assert_eq!(ancestors[0]["ancestorRef"]["name"], "internal");
        assert_eq!(ancestors[0]["conditions"][0]["lastTransitionTime"], "t1");
        let none = of_policy(None, &second, "t3").unwrap();
        assert_eq!(none, json!({"ancestors": []}));
        assert_eq!(of_policy(None, &none, "t4"), None);
        assert_eq!(of_policy(None, &Json::Null, "t4"), None, "nothing was ever written");
    }

    #[test]
    fn a_status_holds_no_more_entries_than_an_api_server_takes() {
        let foreign: Vec<_> = (0..15)
            .map(|number| json!({"ancestorRef": {"name": format!("g{number}")}, "controllerName": "b.example/other"}))
            .collect();
        let both = policy(
            1,
            vec![
                accepted("public", ConditionStatus::True),
                accepted("internal", ConditionStatus::True),
            ],
        );
        let applied = of_policy(Some(&both), &json!({"ancestors": foreign}), "t1").unwrap();
        assert_eq!(applied["ancestors"].as_array().map(Vec::len), Some(16));
        assert_eq!(of_policy(Some(&both), &applied, "t2"), None);
    }

    #[test]
    fn whether_a_policy_is_enforced_stays_as_it_was_while_nothing_is_said_of_it() {
        let mut told = accepted("public", ConditionStatus::True);
        told.conditions.push(condition("Enforced", ConditionStatus::True));
        let first = of_policy(Some(&policy(1, vec![told])), &Json::Null, "t1").unwrap();
        let untold = policy(2, vec![accepted("public", ConditionStatus::True)]);
        let second = of_policy(Some(&untold), &first, "t2").unwrap();
        let conditions = &second["ancestors"][0]["conditions"];
        assert_eq!(conditions[0]["observedGeneration"], 2);
        assert_eq!(
            conditions[1], first["ancestors"][0]["conditions"][1],
            "of the first generation"
        );
    }

    #[test]
    fn a_gateway_loses_listeners_and_conditions_that_are_gone_and_no_others() {
        let gateway = |listeners: &[&str]| {
            ObjectStatus::new(
                ObjectRef::new("Gateway", "edge", "public"),
                Some(1),
                std::iter::once(scope(Scope::Object, vec![condition("Accepted", ConditionStatus::True)]))
                    .chain(listeners.iter().map(|name| ScopeStatus {
                        attached_routes: Some(1),
                        supported_kinds: vec!["HTTPRoute"],
                        ..scope(
                            Scope::Listener((*name).to_owned()),
                            vec![condition("Programmed", ConditionStatus::True)],
                        )
                    }))
                    .collect(),
            )
        };
        let apply = |wanted: &ObjectStatus, existing: &Json| super::apply("Gateway", Some(wanted), existing, OURS, "t");
        let mut first = apply(&gateway(&["http", "https"]), &Json::Null).unwrap();
        assert_eq!(first["listeners"][0]["supportedKinds"][0]["kind"], "HTTPRoute");
        let foreign = json!({"type": "Billed", "status": "True"});
        first["conditions"].as_array_mut().unwrap().push(foreign);
        assert_eq!(apply(&gateway(&["http", "https"]), &first), None);
        assert!(apply(&gateway(&["http"]), &first).is_some());
        let stale = json!({"type": "ResolvedRefs", "status": "False"});
        first["conditions"].as_array_mut().unwrap().push(stale);
        assert!(apply(&gateway(&["http", "https"]), &first).is_some());
    }

    #[test]
    fn a_gateway_says_how_many_sets_of_listeners_it_has() {
        let gateway = |attached_sets| ObjectStatus {
            object: ObjectRef::new("Gateway", "edge", "public"),
            observed_generation: Some(1),
            scopes: vec![scope(Scope::Object, vec![condition("Accepted", ConditionStatus::True)])],
            addresses: Vec::new(),
            attached_sets,
        };
        let apply = |wanted: &ObjectStatus, existing: &Json| super::apply("Gateway", Some(wanted), existing, OURS, "t");
        let first = apply(&gateway(None), &Json::Null).unwrap();
        assert_eq!(first.get("attachedListenerSets"), None);
        let two = apply(&gateway(Some(2)), &first).unwrap();
        assert_eq!(two["attachedListenerSets"], 2);
        assert_eq!(apply(&gateway(Some(2)), &two), None);
        assert_eq!(apply(&gateway(None), &two).unwrap()["attachedListenerSets"], 0);
    }

    #[test]
    fn a_gateway_is_where_its_services_are_and_nowhere_else() {
        let gateway = |addresses: &[(AddressType, &str)]| ObjectStatus {
            object: ObjectRef::new("Gateway", "edge", "public"),
            observed_generation: Some(1),
            scopes: vec![scope(Scope::Object, vec![condition("Accepted", ConditionStatus::True)])],
            attached_sets: None,
            addresses: addresses
                .iter()
                .map(|(r#type, value)| Address::new(*r#type, value))
                .collect(),
        };
        let apply = |wanted: &ObjectStatus, existing: &Json| super::apply("Gateway", Some(wanted), existing, OURS, "t");
        let here = gateway(&[
            (AddressType::IpAddress, "192.0.2.1"),
            (AddressType::Hostname, "a.example.com"),
        ]);
        let first = apply(&here, &Json::Null).unwrap();
        assert_eq!(
            first["addresses"],
            json!([{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "Hostname", "value": "a.example.com"}])
        );
        assert_eq!(apply(&here, &first), None);
        let moved = gateway(&[(AddressType::IpAddress, "192.0.2.2")]);
        assert_eq!(apply(&moved, &first).unwrap()["addresses"][0]["value"], "192.0.2.2");
        let nowhere = apply(&gateway(&[]), &first).unwrap();
        assert_eq!(
            nowhere["addresses"],
            json!([]),
            "an address that is left out may be another manager's and stay"
        );
        assert_eq!(apply(&gateway(&[]), &nowhere), None);
    }
}
