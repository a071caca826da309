//! ClientTrafficPolicies: which one a listener has, and what their authors are told.
//!
//! The most specific policy of a listener applies whole, the oldest of those with one target. A policy that cannot be read,
//! whose settings are wrong, or that names a listener which does not exist leaves no address known where it would have
//! applied: rules that deny addresses match there, rules that allow them do not.

mod certificates;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub(crate) use self::certificates::Holder;
use self::settings::{read, unused};
use crate::{
    detection::Detection,
    report::{Fault, condition, sentence},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_api::{
    client_traffic_policy::ClientTrafficPolicySpec,
    security_policy::{NamespacesFrom, TargetSelector},
};
use portcullis_attachment::{
    finding::{Finding, Severity},
    object::{self, GATEWAY_GROUP, ListenerRef, ObjectRef},
    selector,
    snapshot::{PolicyTarget, Snapshot},
    status::{Condition, ObjectStatus, ParentRef, Scope, ScopeStatus},
};

/// A Gateway or a ListenerSet, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Slot {
    kind: &'static str,
    namespace: String,
    name: String,
    section: Option<String>,
}

/// An object that can be targeted.
pub(crate) struct Target<'a> {
    pub(crate) kind: &'static str,
    pub(crate) metadata: &'a ObjectMeta,
    /// The Gateway whose listeners it has: its own name, or its parent's.
    pub(crate) gateway: (&'a str, &'a str),
    pub(crate) listeners: Vec<&'a str>,
}

/// One policy.
struct Policy<'a> {
    object: ObjectRef,
    metadata: &'a ObjectMeta,
    spec: Option<&'a ClientTrafficPolicySpec>,
    detection: Detection,
    /// What is wrong with it, for its condition.
    invalid: Option<String>,
    hits: Vec<Hit>,
}

/// One target of a policy.
struct Hit {
    slot: Slot,
    path: String,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Holds,
    Conflicted,
    SectionNotFound,
}

/// All policies with their targets.
pub(crate) struct ClientPolicies<'a> {
    policies: Vec<Policy<'a>>,
    /// Who holds what.
    slots: HashMap<Slot, usize>,
    /// Objects one of whose listeners a policy looks for and does not find.
    lost: HashSet<Slot>,
    /// Listeners by the Gateway that they belong to.
    gateways: BTreeMap<(String, String), BTreeSet<Slot>>,
    /// Policies on listeners that share a port and differ.
    at_odds: BTreeMap<usize, String>,
}

impl<'a> ClientPolicies<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, targets: &[Target<'_>], findings: &mut Vec<Finding>) -> Self {
        let mut known = Self {
            policies: Vec::new(),
            slots: HashMap::new(),
            lost: HashSet::new(),
            gateways: BTreeMap::new(),
            at_odds: BTreeMap::new(),
        };
        for target in targets {
            let (namespace, name) = target.gateway;
            let of_gateway = known
                .gateways
                .entry((namespace.to_owned(), name.to_owned()))
                .or_default();
            of_gateway.extend(target.listeners.iter().map(|listener| slot(target, Some(listener))));
            of_gateway.insert(slot(target, None));
        }
        // Those that cannot be read come first: they take a slot from whoever can.
        let mut broken: Vec<_> = snapshot.broken_client_traffic_policies.iter().collect();
        broken.sort_by(|one, other| object::age(&one.metadata).cmp(&object::age(&other.metadata)));
        for policy in broken {
            let hits = policy
                .targets
                .iter()
                .enumerate()
                .map(|(index, target)| (target.clone(), format!("spec.targetRefs[{index}]")))
                .collect();
            let selected = select(&policy.selectors, &policy.metadata, targets);
            known.add(&policy.metadata, None, hits, selected, targets, findings);
            if let Some(last) = known.policies.last_mut() {
                last.detection = Detection::Unknown;
                last.invalid = Some(policy.message.clone());
            }
        }
        let mut whole: Vec<_> = snapshot.client_traffic_policies.iter().collect();
        whole.sort_by(|one, other| object::age(&one.metadata).cmp(&object::age(&other.metadata)));
        for policy in whole {
            let spec = &policy.spec;
            let named = PolicyTarget::named(spec.target_ref.as_ref(), &spec.target_refs);
            let selected = select(&spec.target_selectors, &policy.metadata, targets);
            known.add(
                &policy.metadata,
                Some(spec),
                named.collect(),
                selected,
                targets,
                findings,
            );
        }
        known
    }

    fn add(
        &mut self,
        metadata: &'a ObjectMeta,
        spec: Option<&'a ClientTrafficPolicySpec>,
        named: Vec<(PolicyTarget, String)>,
        selected: Vec<(Slot, String)>,
        targets: &[Target<'_>],
        findings: &mut Vec<Finding>,
    ) {
        let namespace = object::namespace(metadata);
        let object = ObjectRef::new("ClientTrafficPolicy", namespace, object::name(metadata));
        let index = self.policies.len();
        let mut hits: Vec<Hit> = Vec::new();
        let mut tell = |severity, fault: Fault| findings.push(fault.finding(severity, &object));
        let mut claims: Vec<(Slot, String)> = selected;
        for (target, path) in named {
            let found = targets.iter().find(|candidate| {
                candidate.kind == target.kind
                    && object::namespace(candidate.metadata) == namespace
                    && object::name(candidate.metadata) == target.name
            });
            let Some(found) = found.filter(|_| target.group == GATEWAY_GROUP) else {
                let message = format!("no {} {namespace}/{} is served here", target.kind, target.name);
                tell(
                    Severity::Error,
                    Fault::new("target-not-found", format!("{path}.name"), message),
                );
                continue;
            };
            let at = slot(found, target.section_name.as_deref());
            let missing = target
                .section_name
                .as_deref()
                .filter(|section| !found.listeners.contains(section));
            if let Some(section) = missing {
                let message = format!(
                    "{} {namespace}/{} has no listener {section:?}: at those that no policy names no client's address is known",
                    target.kind, target.name
                );
                tell(
                    Severity::Error,
                    Fault::new("section-not-found", format!("{path}.sectionName"), message),
                );
                self.lost.insert(Slot {
                    section: None,
                    ..at.clone()
                });
                hits.push(Hit {
                    slot: at,
                    path,
                    fate: Fate::SectionNotFound,
                });
            } else {
                claims.push((at, path));
            }
        }
        for (at, path) in claims {
            if hits.iter().any(|hit| hit.slot == at) {
                continue;
            }
            let holder = *self.slots.entry(at.clone()).or_insert(index);
            let fate = if holder == index { Fate::Holds } else { Fate::Conflicted };
            if fate == Fate::Conflicted {
                let older = self.policies.get(holder).map(|holder| holder.object.to_string());
                let message = format!(
                    "{} already has {}, which applies",
                    describe(&at),
                    older.unwrap_or_default()
                );
                tell(Severity::Error, Fault::new("policy-conflict", path.clone(), message));
            }
            hits.push(Hit { slot: at, path, fate });
        }
        let mut invalid = None;
        let mut detection = Detection::default();
        if let Some(spec) = spec {
            for fault in unused(spec) {
                tell(Severity::Warning, fault);
            }
            for (at, selector) in spec.target_selectors.iter().enumerate() {
                let namespaces = selector.namespaces.as_ref();
                if namespaces.is_some_and(|namespaces| namespaces.from != NamespacesFrom::Same) {
                    let path = format!("spec.targetSelectors[{at}].namespaces");
                    let message = "only objects of the policy's own namespace are selected";
                    tell(Severity::Error, Fault::new("unsupported-field", path, message));
                }
            }
            if spec.target_ref.is_some() {
                let fault = Fault::new("deprecated-field", "spec.targetRef", "is deprecated").fix("write targetRefs");
                tell(Severity::Warning, fault);
            }
            match read(spec.client_ip_detection.as_ref()) {
                Ok(read) => detection = read,
                Err(fault) => {
                    let fault = fault.below("spec.clientIPDetection");
                    invalid = Some(format!("{}: {}", fault.path, fault.message));
                    tell(Severity::Error, fault);
                    detection = Detection::Unknown;
                }
            }
        }
        self.policies.push(Policy {
            object,
            metadata,
            spec,
            detection,
            invalid,
            hits,
        });
    }

    /// The policy of a listener: the most specific one. None can be told where a narrower one may have meant it.
    fn holder(&self, listener: &ListenerRef) -> Result<Option<usize>, ()> {
        for Place { object, section } in places(listener) {
            if let Some(section) = section {
                if let Some(holder) = self.slots.get(&section) {
                    return Ok(Some(*holder));
                }
                if self.lost.contains(&object) {
                    return Err(());
                }
            }
            if let Some(holder) = self.slots.get(&object) {
                return Ok(Some(*holder));
            }
        }
        Ok(None)
    }

    /// How a listener finds out the address of a client.
    pub(crate) fn detection(&self, listener: &ListenerRef) -> Detection {
        match self.holder(listener) {
            Err(()) => Detection::Unknown,
            Ok(holder) => holder
                .and_then(|holder| self.policies.get(holder))
                .map(|policy| policy.detection.clone())
                .unwrap_or_default(),
        }
    }

    /// How the listeners of a port that share one connection manager find it out.
    pub(crate) fn shared_detection(&mut self, port: u16, listeners: &[&ListenerRef]) -> Detection {
        let mut found: Vec<Detection> = listeners.iter().map(|listener| self.detection(listener)).collect();
        found.dedup();
        if found.len() > 1 {
            let names: Vec<&str> = listeners.iter().map(|listener| listener.listener.as_str()).collect();
            let message = format!(
                "ClientTrafficPolicy is being applied to multiple http (non https) listeners ({}) on the same port {port}, which is not allowed",
                names.join(", ")
            );
            let holders = listeners
                .iter()
                .filter_map(|listener| self.holder(listener).ok().flatten());
            // A Gateway's policy still serves its other listeners.
            let narrow = |index: &usize| {
                let hits = self.policies.get(*index).map(|policy| policy.hits.as_slice());
                let of_gateway = |hit: &Hit| hit.slot.kind == "Gateway" && hit.slot.section.is_none();
                !hits.unwrap_or_default().iter().any(of_gateway)
            };
            for holder in holders.filter(narrow).collect::<Vec<_>>() {
                self.at_odds.entry(holder).or_insert_with(|| message.clone());
            }
            return Detection::Unknown;
        }
        found.pop().unwrap_or_default()
    }

    /// Why the peers of a TCP listener's connections are not its clients, or may not be.
    pub(crate) fn hides_peers(&self, listener: &ListenerRef) -> Option<&'static str> {
        let Ok(holder) = self.holder(listener) else {
            return Some("is invalid or in conflict, so nobody can tell who its clients are");
        };
        let spec = self.policies.get(holder?)?.spec;
        let Some(spec) = spec else {
            return Some("cannot be read, so nobody can tell who its clients are");
        };
        let asked = spec.enable_proxy_protocol == Some(true) || spec.proxy_protocol.is_some();
        asked.then_some("asks for the PROXY protocol, which is not supported yet")
    }

    /// The status of every policy that targets something of ours, and what listeners at odds are told.
    pub(crate) fn statuses(&self, findings: &mut Vec<Finding>) -> Vec<ObjectStatus> {
        for (index, message) in &self.at_odds {
            if let Some(policy) = self.policies.get(*index) {
                let message = format!("{message}: no client's address is known there");
                let fault = Fault::new("policy-conflict", "spec.targetRefs", message);
                findings.push(fault.finding(Severity::Error, &policy.object));
            }
        }
        let of_ours = (0..).zip(&self.policies).filter(|(_, policy)| !policy.hits.is_empty());
        of_ours
            .map(|(index, policy)| {
                ObjectStatus::new(
                    policy.object.clone(),
                    policy.metadata.generation,
                    policy.hits.iter().map(|hit| self.scope(index, policy, hit)).collect(),
                )
            })
            .collect()
    }

    fn scope(&self, index: usize, policy: &Policy<'_>, hit: &Hit) -> ScopeStatus {
        let slot = &hit.slot;
        let fault = policy.invalid.as_ref().or_else(|| self.at_odds.get(&index));
        let mut conditions: Vec<Condition> = Vec::new();
        conditions.push(match (hit.fate, fault) {
            (Fate::SectionNotFound, _) => condition(
                "Accepted",
                false,
                "TargetNotFound",
                format!(
                    "No section name {} found for {} {}/{}",
                    slot.section.as_deref().unwrap_or_default(),
                    slot.kind,
                    slot.namespace,
                    slot.name
                ),
            ),
            (Fate::Conflicted, _) => condition(
                "Accepted",
                false,
                "Conflicted",
                format!(
                    "Unable to target {}, another ClientTrafficPolicy has already attached to it",
                    describe(slot)
                ),
            ),
            (Fate::Holds, Some(message)) => condition("Accepted", false, "Invalid", sentence(message)),
            (Fate::Holds, None) => condition("Accepted", true, "Accepted", "Policy has been accepted."),
        });
        let overriding = self.overriding(slot);
        if hit.fate == Fate::Holds && !overriding.is_empty() {
            let message = format!(
                "This policy is being overridden by other clientTrafficPolicies for these listeners: [{}]",
                overriding.join(" ")
            );
            conditions.push(condition("Overridden", true, "Overridden", message));
        }
        if hit.fate == Fate::Holds && hit.path == "spec.targetRef" {
            let message = "spec.targetRef is deprecated, use spec.targetRefs instead";
            conditions.push(condition("Warning", true, "DeprecatedField", message));
        }
        ScopeStatus {
            scope: Scope::Parent(ParentRef {
                group: GATEWAY_GROUP.to_owned(),
                kind: slot.kind.to_owned(),
                namespace: slot.namespace.clone(),
                name: slot.name.clone(),
                section_name: slot.section.clone(),
                port: None,
            }),
            conditions,
            attached_routes: None,
            supported_kinds: Vec::new(),
        }
    }

    /// The listeners and ListenerSets of an object that have a policy of their own.
    fn overriding(&self, slot: &Slot) -> Vec<String> {
        if slot.section.is_some() {
            return Vec::new();
        }
        let key = (slot.namespace.clone(), slot.name.clone());
        let all = if slot.kind == "Gateway" {
            self.gateways.get(&key)
        } else {
            None
        };
        let own = self
            .slots
            .keys()
            .filter(|other| other.kind == slot.kind && other.namespace == slot.namespace && other.name == slot.name);
        let within: BTreeSet<&Slot> = all
            .into_iter()
            .flatten()
            .filter(|other| self.slots.contains_key(other))
            .chain(own)
            .filter(|other| *other != slot)
            .collect();
        let name = |other: &&Slot| {
            let section = other.section.iter().map(|section| format!("/{section}"));
            format!("{}/{}{}", other.namespace, other.name, section.collect::<String>())
        };
        within.iter().map(name).collect()
    }
}

fn slot(target: &Target<'_>, section: Option<&str>) -> Slot {
    Slot {
        kind: target.kind,
        namespace: object::namespace(target.metadata).to_owned(),
        name: object::name(target.metadata).to_owned(),
        section: section.map(str::to_owned),
    }
}

/// An object that has a listener.
struct Place {
    object: Slot,
    /// The listener in it, where policies of the object can name it.
    section: Option<Slot>,
}

/// Where policies of a listener can be, the most specific place first.
fn places(listener: &ListenerRef) -> impl Iterator<Item = Place> {
    let gateway = Slot {
        kind: "Gateway",
        namespace: listener.namespace.clone(),
        name: listener.gateway.clone(),
        section: None,
    };
    let set = listener.set.as_ref().map(|set| Slot {
        kind: "ListenerSet",
        namespace: set.namespace.clone(),
        name: set.name.clone(),
        section: None,
    });
    // The listeners of a set are the Gateway's, but none of those that its policies name.
    let of_set = set.is_some();
    let section = Some(listener.listener.clone());
    [set, Some(gateway)].into_iter().flatten().map(move |object| Place {
        section: (object.kind == "ListenerSet" || !of_set).then(|| Slot {
            section: section.clone(),
            ..object.clone()
        }),
        object,
    })
}

fn describe(slot: &Slot) -> String {
    match &slot.section {
        Some(section) => format!("Listener {}/{section}", slot.name),
        None => format!("{} {}", slot.kind, slot.name),
    }
}

/// What selectors hit in the policy's own namespace.
fn select(selectors: &[TargetSelector], metadata: &ObjectMeta, targets: &[Target<'_>]) -> Vec<(Slot, String)> {
    let mut found = Vec::new();
    for (index, selector) in selectors.iter().enumerate() {
        let hits = targets.iter().filter(|target| {
            selector.group == GATEWAY_GROUP
                && selector.kind == target.kind
                && object::namespace(target.metadata) == object::namespace(metadata)
                && labelled(target.metadata, selector)
        });
        found.extend(hits.map(|target| (slot(target, None), format!("spec.targetSelectors[{index}]"))));
    }
    found
}

/// Whether an object has the labels that a selector asks for.
fn labelled(metadata: &ObjectMeta, selector: &TargetSelector) -> bool {
    let none = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&none);
    let expressions = selector.match_expressions.iter().map(|expression| {
        let values = expression.values.as_deref().unwrap_or_default();
        (expression.key.as_str(), expression.operator.as_str(), values)
    });
    selector::matches(labels, Some(&selector.match_labels), expressions)
}
