//! SecurityPolicies that do not fit their schema: what they target must still be refused.

use kube::core::ObjectMeta;
use portcullis_attachment::{
    object::ObjectRef,
    snapshot::{BrokenPolicy, PolicyTarget},
};

use crate::{
    near,
    tree::{Node, Value},
    validate::{Fault, plain},
};

const GROUP: &str = "gateway.networking.k8s.io";
const KINDS: [&str; 5] = ["GRPCRoute", "Gateway", "HTTPRoute", "ListenerSet", "TCPRoute"];

/// Keeps of a policy what is needed to refuse its targets.
pub(crate) fn broken(root: &Node, object: &ObjectRef, faults: &[Fault]) -> BrokenPolicy {
    let read = root
        .get("metadata")
        .map(plain)
        .and_then(|metadata| serde_json::from_value::<ObjectMeta>(metadata).ok());
    let metadata = ObjectMeta {
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()),
        ..read.unwrap_or_default()
    };
    BrokenPolicy {
        metadata,
        targets: root.get("spec").map(targets).unwrap_or_default(),
        message: message(faults),
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
