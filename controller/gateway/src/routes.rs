//! All HTTPRoutes that something of ours takes: read once, and their conditions.

use std::collections::{BTreeMap, HashMap};

use gateway_api::httproutes::HttpRoute;
use portcullis_attachment::{
    binding::Bindings,
    finding::{Finding, Severity},
    object::{self, ListenerRef, ObjectRef},
    snapshot::Snapshot,
    status::{Condition, ConditionStatus, ObjectStatus, Scope, ScopeStatus},
};

use crate::{
    backends::Backends,
    report::{Fault, condition, ignored, sentence},
    route::rule::{Notes, Rule},
};

/// Every bound route, oldest first.
pub(crate) struct Routes {
    pub(crate) all: Vec<Read>,
    /// Positions in `all`, with the hostnames served there.
    by_listener: HashMap<ListenerRef, Vec<(usize, Vec<String>)>>,
}

/// One route.
pub(crate) struct Read {
    pub(crate) object: ObjectRef,
    /// `namespace/name`.
    pub(crate) name: String,
    pub(crate) rules: Vec<Rule>,
    generation: Option<i64>,
    notes: Vec<Notes>,
}

impl Routes {
    /// Reads every route that has a parent of ours.
    pub(crate) fn read(
        snapshot: &Snapshot,
        bindings: &Bindings,
        backends: &mut Backends<'_>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let objects: HashMap<(&str, &str), &HttpRoute> = snapshot
            .http_routes
            .iter()
            .map(|route| {
                let key = (object::namespace(&route.metadata), object::name(&route.metadata));
                (key, route.as_ref())
            })
            .collect();
        let mut routes = Self {
            all: Vec::new(),
            by_listener: HashMap::new(),
        };
        let mut positions: HashMap<&ObjectRef, usize> = HashMap::new();
        for parent in &bindings.parents {
            let key = (parent.route.namespace.as_str(), parent.route.name.as_str());
            let Some(spec) = objects.get(&key) else { continue };
            let position = *positions.entry(&parent.route).or_insert_with(|| {
                routes.all.push(Read::new(&parent.route, spec, backends, findings));
                routes.all.len() - 1
            });
            for bound in &parent.listeners {
                let on = routes.by_listener.entry(bound.listener.clone()).or_default();
                // Two parentRefs may lead to the same listener; those of one route come one after another.
                match on.last_mut().filter(|(other, _)| *other == position) {
                    Some((_, hostnames)) => {
                        for host in &bound.hostnames {
                            if !hostnames.contains(host) {
                                hostnames.push(host.clone());
                            }
                        }
                    }
                    None => on.push((position, bound.hostnames.clone())),
                }
            }
        }
        routes
    }

    /// The routes that a listener takes.
    pub(crate) fn on(&self, listener: &ListenerRef) -> &[(usize, Vec<String>)] {
        self.by_listener.get(listener).map(Vec::as_slice).unwrap_or_default()
    }

    /// The status of every route.
    pub(crate) fn statuses(&self, bindings: &Bindings) -> Vec<ObjectStatus> {
        let mut scopes: BTreeMap<&ObjectRef, Vec<ScopeStatus>> = BTreeMap::new();
        let known: HashMap<&ObjectRef, &Read> = self.all.iter().map(|route| (&route.object, route)).collect();
        for parent in &bindings.parents {
            let Some(route) = known.get(&parent.route) else {
                continue;
            };
            scopes.entry(&parent.route).or_default().push(ScopeStatus {
                scope: Scope::Parent(parent.parent.clone()),
                conditions: route.conditions(&parent.accepted),
                attached_routes: None,
                supported_kinds: Vec::new(),
            });
        }
        self.all
            .iter()
            .map(|route| ObjectStatus {
                object: route.object.clone(),
                observed_generation: route.generation,
                scopes: scopes.remove(&route.object).unwrap_or_default(),
            })
            .collect()
    }
}

impl Read {
    fn new(object: &ObjectRef, spec: &HttpRoute, backends: &mut Backends<'_>, findings: &mut Vec<Finding>) -> Self {
        let mut rules = Vec::new();
        let mut all_notes = Vec::new();
        for (index, rule) in spec.spec.rules.iter().flatten().enumerate() {
            let (rule, notes) = Rule::read(rule, &object.namespace, backends);
            let path = format!("spec.rules[{index}]");
            let located = |fault: &Fault, severity| fault.clone().below(&path).finding(severity, object);
            findings.extend(notes.faults.iter().map(|fault| located(fault, Severity::Error)));
            findings.extend(
                notes
                    .unresolved
                    .iter()
                    .map(|(_, fault)| located(fault, Severity::Error)),
            );
            findings.extend(notes.warnings.iter().map(|fault| located(fault, Severity::Warning)));
            rules.push(rule);
            all_notes.push(notes);
        }
        if rules.is_empty() {
            findings
                .push(ignored("spec.rules", "a route without rules serves nothing").finding(Severity::Warning, object));
        }
        Self {
            object: object.clone(),
            name: format!("{}/{}", object.namespace, object.name),
            rules,
            generation: spec.metadata.generation,
            notes: all_notes,
        }
    }

    fn conditions(&self, bound: &Condition) -> Vec<Condition> {
        let mut conditions = vec![bound.clone()];
        let faulty: Vec<usize> = (0..)
            .zip(&self.notes)
            .filter(|(_, notes)| !notes.faults.is_empty())
            .map(|(index, _)| index)
            .collect();
        let first = self.notes.iter().find_map(|notes| notes.faults.first());
        if let Some(fault) = first.filter(|_| bound.status == ConditionStatus::True) {
            let reason = if fault.code == "incompatible-filters" {
                "IncompatibleFilters"
            } else {
                "UnsupportedValue"
            };
            let message = format!("Rule(s) {faulty:?}: {}", sentence(&fault.message));
            if faulty.len() == self.notes.len() {
                conditions = vec![condition("Accepted", false, reason, message)];
            } else {
                conditions.push(condition("PartiallyInvalid", true, reason, message));
            }
        }
        let unresolved = self.notes.iter().find_map(|notes| notes.unresolved.first());
        conditions.push(match unresolved {
            Some((reason, fault)) => condition("ResolvedRefs", false, reason, sentence(&fault.message)),
            None => condition(
                "ResolvedRefs",
                true,
                "ResolvedRefs",
                "Resolved all the Object references for the Route",
            ),
        });
        let empty: Vec<&str> = self
            .notes
            .iter()
            .flat_map(|notes| notes.empty.iter().map(String::as_str))
            .collect();
        if let Some(first) = empty.first() {
            let message = format!("No ready endpoints behind {first}.");
            conditions.push(condition("BackendsAvailable", false, "EndpointsNotFound", message));
        }
        conditions.sort_by_key(|condition| condition.r#type);
        conditions
    }
}
