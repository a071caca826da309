//! The policy that a route ends up with.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    binding::Bindings,
    finding::Finding,
    object::{ListenerRef, ObjectRef},
    snapshot::Snapshot,
    status::ObjectStatus,
};

/// What the attachment needs to know beside the objects.
#[derive(Clone)]
pub struct Options {
    /// The controller's name: only Gateways of its classes count.
    pub controller_name: String,
    /// The key from which every policy's salt is derived; shared by replicas, never written to Envoy.
    pub salt_key: [u8; 32],
}

/// One place of a route table: a rule of a route on a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The listener.
    pub listener: ListenerRef,
    /// The route.
    pub route: ObjectRef,
    /// The index of the rule.
    pub rule: usize,
}

/// A policy as it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// The name on the route: `portcullis_engine::seal::hash` of the two parts.
    pub hash: String,
    /// The serialized [`portcullis_engine::document::Document`].
    pub document: String,
    /// The serialized [`portcullis_engine::document::Secrets`]; never printed.
    pub secrets: String,
    /// The policy's identity, `namespace/name`, or `none`.
    pub policy: String,
    /// Whether it refuses every request because the policy could not be enforced whole.
    pub refuses: bool,
}

/// Which policy applies where, and what the policies' authors are told.
#[derive(Clone, Debug, Default)]
pub struct Attachment {
    /// The policy of every bound place; a place that no policy covers has the explicit `none` policy.
    pub policies: BTreeMap<Place, Arc<EffectivePolicy>>,
    /// The status of every policy that targets something of ours.
    pub statuses: Vec<ObjectStatus>,
    /// Faults of policies.
    pub findings: Vec<Finding>,
}

/// Finds the policy of every bound place.
#[must_use]
pub fn attach(snapshot: &Snapshot, bindings: &Bindings, options: &Options) -> Attachment {
    let _ = (snapshot, bindings, options);
    Attachment::default()
}

/// The policy of places that no SecurityPolicy covers: admits every request, says so.
#[must_use]
pub fn none(options: &Options) -> Arc<EffectivePolicy> {
    let _ = options;
    Arc::new(EffectivePolicy {
        hash: String::new(),
        document: String::new(),
        secrets: String::new(),
        policy: "none".to_owned(),
        refuses: false,
    })
}
