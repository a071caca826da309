//! Policies that do not fit their schema: what they target must still be refused.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::ObjectMeta;
use portcullis_api::{
    access_policy::{AccessPolicySpec, Extension},
    security_policy::TargetSelector,
};
use portcullis_attachment::{
    object::{ObjectRef, POLICY_GROUP, PolicyKind},
    snapshot::{BrokenPolicy, PolicyTarget, Snapshot},
};

use crate::{
    near,
    tree::{Node, Value},
    validate::{Fault, plain},
};

const GROUP: &str = "gateway.networking.k8s.io";
const KINDS: [&str; 5] = ["GRPCRoute", "Gateway", "HTTPRoute", "ListenerSet", "TCPRoute"];

/// Keeps of a policy what is needed to refuse its targets.
pub(crate) fn broken(kind: PolicyKind, root: &Node, object: &ObjectRef, faults: &[Fault]) -> BrokenPolicy {
    let read = root
        .get("metadata")
        .map(plain)
        .and_then(|metadata| serde_json::from_value::<ObjectMeta>(metadata).ok());
    let metadata = ObjectMeta {
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()),
        ..read.unwrap_or_default()
    };
    let says = |name: &str| {
        let entries = match root.get("spec").map(|spec| &spec.value) {
            Some(Value::Mapping(entries)) => entries.as_slice(),
            _ => &[],
        };
        let mut named = entries.iter().filter(|entry| entry.key == name);
        let first = named.next();
        first.is_some_and(|entry| matches!(entry.node.value, Value::Bool(true))) && named.next().is_none()
    };
    let baseline = kind == PolicyKind::AccessPolicy && says("baseline");
    BrokenPolicy {
        kind,
        baseline,
        // What claims both may restrict, so it must.
        shadow: kind == PolicyKind::AccessPolicy && !baseline && says("shadow"),
        metadata,
        targets: root.get("spec").map(targets).unwrap_or_default(),
        selectors: root.get("spec").map(selectors).unwrap_or_default(),
        message: message(faults),
    }
}

/// Keeps of a BackendTLSPolicy what is needed to speak to none of its targets.
pub(crate) fn broken_of_backends(root: &Node, object: &ObjectRef, faults: &[Fault]) -> BrokenPolicy {
    let mut policy = broken(PolicyKind::default(), root, object, faults);
    let kinds = [("", "Service"), (POLICY_GROUP, "Backend")];
    let of_kinds = policy.targets.into_iter().flat_map(|target| {
        // Where the kind is neither, either may have been meant.
        let unclear = kinds.iter().all(|(_, kind)| *kind != target.kind);
        let meant = kinds.into_iter().filter(|(_, kind)| unclear || *kind == target.kind);
        let of_kind = |(group, kind): (&str, &str)| PolicyTarget {
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..target.clone()
        };
        meant.map(of_kind).collect::<Vec<_>>()
    });
    policy.targets = of_kinds.collect();
    policy.selectors = Vec::new();
    policy
}

/// Adds a policy at fault. One that is there twice, whole or not, is one policy at fault: which of the two was meant
/// cannot be told, so what either targets is refused.
pub(crate) fn add(snapshot: &mut Snapshot, mut policy: BrokenPolicy) {
    let same = |metadata: &ObjectMeta| {
        metadata.name == policy.metadata.name && metadata.namespace == policy.metadata.namespace
    };
    let twin = snapshot
        .broken_policies
        .iter()
        .position(|twin| twin.kind == policy.kind && same(&twin.metadata));
    if let Some(spec) = whole(snapshot, policy.kind, same) {
        policy.baseline |= spec.extension.baseline.unwrap_or_default();
        policy.shadow &= spec.extension.shadow.unwrap_or_default();
        let spec = spec.policy;
        let named = spec.target_ref.iter().chain(&spec.target_refs);
        policy.targets.extend(named.map(|target| PolicyTarget {
            group: target.group.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
            section_name: target.section_name.clone(),
        }));
        policy.selectors.extend(spec.target_selectors.iter().cloned());
    }
    if let Some(twin) = twin {
        let twin = snapshot.broken_policies.remove(twin);
        policy.baseline |= twin.baseline;
        policy.shadow &= twin.shadow;
        policy.targets.extend(twin.targets.iter().cloned());
        policy.selectors.extend(twin.selectors.iter().cloned());
    }
    policy.targets.sort();
    policy.targets.dedup();
    policy.shadow &= !policy.baseline;
    snapshot.broken_policies.push(Arc::new(policy));
}

/// Takes a whole policy out.
fn whole(snapshot: &mut Snapshot, kind: PolicyKind, same: impl Fn(&ObjectMeta) -> bool) -> Option<AccessPolicySpec> {
    match kind {
        PolicyKind::SecurityPolicy => {
            let policies = &mut snapshot.security_policies;
            let index = policies.iter().position(|policy| same(&policy.metadata))?;
            let policy = policies.remove(index).spec.clone();
            Some(AccessPolicySpec {
                policy,
                extension: Extension::default(),
            })
        }
        PolicyKind::AccessPolicy => {
            let policies = &mut snapshot.access_policies;
            let index = policies.iter().position(|policy| same(&policy.metadata))?;
            Some(policies.remove(index).spec.clone())
        }
    }
}

/// The first fault, and how many more there are.
fn message(faults: &[Fault]) -> String {
    let Some(first) = faults.first() else {
        return "invalid".to_owned();
    };
    let mut text = if first.path.is_empty() {
        first.message.clone()
    } else {
        format!("{}: {}", first.path, first.message)
    };
    if faults.len() > 1 {
        text.push_str(&format!(" (and {} more)", faults.len() - 1));
    }
    text
}

/// Reads targets in the most cautious way: what was probably meant counts.
fn targets(spec: &Node) -> Vec<PolicyTarget> {
    let Value::Mapping(entries) = &spec.value else {
        return Vec::new();
    };
    entries
        .iter()
        .filter(|entry| near::nearest(&entry.key, ["targetRef", "targetRefs"]).is_some())
        .flat_map(|entry| match &entry.node.value {
            Value::Sequence(nodes) => nodes.iter().collect(),
            _ => vec![&entry.node],
        })
        .filter_map(target)
        .collect()
}

/// Reads selectors; one that cannot be read selects everything of its kind.
fn selectors(spec: &Node) -> Vec<TargetSelector> {
    let Some(Value::Sequence(nodes)) = spec.get("targetSelectors").map(|node| &node.value) else {
        return Vec::new();
    };
    let read = |node| {
        let kind = Node::get(node, "kind").and_then(Node::as_str).unwrap_or("HTTPRoute");
        let everything = TargetSelector {
            group: GROUP.to_owned(),
            kind: near::nearest(kind, KINDS).unwrap_or(kind).to_owned(),
            namespaces: None,
            match_labels: BTreeMap::new(),
            match_expressions: Vec::new(),
        };
        let read = serde_json::from_value::<TargetSelector>(plain(node)).unwrap_or_else(|_| everything.clone());
        TargetSelector {
            group: everything.group,
            kind: everything.kind,
            ..read
        }
    };
    nodes.iter().map(read).collect()
}

fn target(node: &Node) -> Option<PolicyTarget> {
    let name = match &node.get("name")?.value {
        Value::String(name) => name.clone(),
        Value::Int(number) => number.to_string(),
        _ => return None,
    };
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or("HTTPRoute");
    Some(PolicyTarget {
        // A policy can target no other group, so no other was meant.
        group: GROUP.to_owned(),
        kind: near::nearest(kind, KINDS).unwrap_or(kind).to_owned(),
        name,
        section_name: node.get("sectionName").and_then(Node::as_str).map(str::to_owned),
    })
}
