//! Conditions of objects, in one shape for every kind.

use crate::object::ObjectRef;

/// The status of one object, as this controller would write it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ObjectStatus {
    /// The object.
    #[serde(serialize_with = "display")]
    pub object: ObjectRef,
    /// `metadata.generation`, if the object has one.
    pub observed_generation: Option<i64>,
    /// Its conditions by place, in the order of the specification.
    pub scopes: Vec<ScopeStatus>,
    /// Where clients reach it, for Gateways (`status.addresses`); 16 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// How many ListenerSets are accepted, for Gateways that have some (`status.attachedListenerSets`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_sets: Option<i32>,
}

impl ObjectStatus {
    /// The status of an object that has conditions alone.
    #[must_use]
    pub const fn new(object: ObjectRef, observed_generation: Option<i64>, scopes: Vec<ScopeStatus>) -> Self {
        Self {
            object,
            observed_generation,
            scopes,
            addresses: Vec::new(),
            attached_sets: None,
        }
    }
}

/// One of a Gateway's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Address {
    /// What it is.
    pub r#type: AddressType,
    /// The address itself, as text.
    pub value: String,
}

impl Address {
    /// An address of a type.
    #[must_use]
    pub fn new(r#type: AddressType, value: &str) -> Self {
        Self {
            r#type,
            value: value.to_owned(),
        }
    }
}

/// What an address is, by the names that Gateway API gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum AddressType {
    /// An IPv4 or IPv6 address.
    #[serde(rename = "IPAddress")]
    IpAddress,
    /// A DNS name.
    Hostname,
}

/// Conditions that belong together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ScopeStatus {
    /// What they are about.
    pub scope: Scope,
    /// The conditions, sorted by type.
    pub conditions: Vec<Condition>,
    /// How many routes are attached, for listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_routes: Option<i32>,
    /// The kinds of routes that a listener takes (`status.listeners[].supportedKinds`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supported_kinds: Vec<&'static str>,
}

/// What a set of conditions is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Scope {
    /// The object itself (`status.conditions`).
    Object,
    /// One of a Gateway's listeners (`status.listeners[].conditions`).
    Listener(String),
    /// A parent of a route (`status.parents[]`) or an ancestor of a policy (`status.ancestors[]`).
    Parent(ParentRef),
}

/// A parent or an ancestor; group, kind and namespace are always written out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct ParentRef {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The listener, if the reference names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The port, if a route's parentRef names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// One condition, without the time of its last change: whoever writes it knows that.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Condition {
    /// The condition's type, such as `Accepted`.
    pub r#type: &'static str,
    /// Its status.
    pub status: ConditionStatus,
    /// Its reason, `CamelCase`.
    pub reason: &'static str,
    /// Its message, for people.
    pub message: String,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum ConditionStatus {
    /// It does not hold.
    False,
    /// It holds.
    True,
    /// It is not known whether it holds.
    Unknown,
}

fn display<S: serde::Serializer>(object: &ObjectRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(object)
}
