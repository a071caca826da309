//! Names of objects and of places inside them.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// The API group of Gateway, HTTPRoute and ReferenceGrant.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The API group of Envoy Gateway's kinds: SecurityPolicy and Backend.
pub const POLICY_GROUP: &str = "gateway.envoyproxy.io";

/// The namespace of a namespaced object, `default` where the manifest names none.
#[must_use]
pub fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}

/// The name of an object; empty if it has none.
#[must_use]
pub fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// The order in which objects of one kind take precedence: creation time, then namespace, then name (Gateway API's rule
/// for conflicts). An object without a creation time, as in a folder, counts as the oldest.
#[must_use]
pub fn age(metadata: &ObjectMeta) -> (Option<&Time>, &str, &str) {
    (
        metadata.creation_timestamp.as_ref(),
        namespace(metadata),
        name(metadata),
    )
}

/// An object's identity: kind, namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The kind, such as `HTTPRoute`.
    pub kind: &'static str,
    /// The namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// Names an object.
    pub fn new(kind: &'static str, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// `Kind namespace/name`, or `Kind name` for a cluster-scoped kind.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A kind of policy. Policies of all kinds share the slots of their targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKind {
    /// `SecurityPolicy` of Envoy Gateway.
    #[default]
    SecurityPolicy,
    /// `AccessPolicy`, which can ask for more.
    AccessPolicy,
}

impl PolicyKind {
    /// The kind's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecurityPolicy => "SecurityPolicy",
            Self::AccessPolicy => "AccessPolicy",
        }
    }

    /// The kind's API group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::SecurityPolicy => POLICY_GROUP,
            Self::AccessPolicy => "portcullis.dev",
        }
    }
}

/// One listener of one Gateway, its own or one that a ListenerSet contributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerRef {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway's name.
    pub gateway: String,
    /// The ListenerSet that the listener stands in; absent for the Gateway's own.
    pub set: Option<SetRef>,
    /// The listener's name, the `sectionName` that selects it: unique in its Gateway or its ListenerSet only.
    pub listener: String,
}

/// A ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetRef {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// `namespace/gateway/listener`, or `namespace/set/listener` for one of a ListenerSet.
impl fmt::Display for ListenerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = match &self.set {
            None => (&self.namespace, &self.gateway),
            Some(set) => (&set.namespace, &set.name),
        };
        write!(f, "{namespace}/{name}/{}", self.listener)
    }
}
