//! Objects as an API server gives them: it has judged them by its own definitions, which may be newer than ours.

use std::sync::Arc;

use portcullis_attachment::{
    finding::Severity,
    object::{ObjectRef, PolicyKind},
    snapshot::{Snapshot, UnknownField, UnknownFields},
};
use serde_json::{Value as Json, json};

use crate::{
    Diagnostic, Loaded, identity,
    identity::Identity,
    kinds::{KINDS, Kind, Which},
    objects, policy,
    tree::Node,
    validate::{Fault, Manner, validate},
};

/// A kind of objects that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// The kind, such as `HTTPRoute`.
    pub name: &'static str,
    /// Its API group; empty for the core group.
    pub group: &'static str,
    /// The versions that are read, the preferred one first.
    pub versions: &'static [&'static str],
    /// Whether its objects belong to namespaces.
    pub namespaced: bool,
}

/// All kinds that are read, by name.
pub fn kinds() -> impl Iterator<Item = KindInfo> {
    KINDS.iter().map(|kind| KindInfo {
        name: kind.name,
        group: kind.group,
        versions: kind.versions,
        namespaced: kind.namespaced,
    })
}

/// One object of an API server, read once. Not printable: it may be a Secret.
pub struct Served {
    alone: Snapshot,
    diagnostics: Vec<Diagnostic>,
}

impl Served {
    /// Reads an object of a kind of [`kinds`], without `status`, which decides nothing.
    ///
    /// Nothing that restricts is dropped: a policy with a field that is not known here is broken and closes what it
    /// targets; of routes, Gateways and ListenerSets the rule or the listener with such a field is closed; other objects
    /// are left out, and so is what refers to them. Kinds of Kubernetes itself are taken without the field.
    #[must_use]
    pub fn read(kind: &str, mut json: Json) -> Option<Self> {
        let kind = KINDS.iter().find(|known| known.name == kind)?;
        if let Some(fields) = json.as_object_mut() {
            fields.remove("status");
        }
        let root = Node::from_json(&json);
        let manner = Manner {
            secret: kind.which == Which::Secret,
            null_is_absent: kind.built_in,
        };
        let (mut json, mut faults) = validate(&root, kind.schema(), manner);
        let Identity { object, faults: more } = identity::identify(&root, kind, &mut json);
        faults.extend(more);
        let mut served = Self {
            alone: Snapshot::default(),
            diagnostics: Vec::new(),
        };
        served.take(kind, &object, &root, json, faults);
        Some(served)
    }

    fn take(&mut self, kind: &'static Kind, object: &ObjectRef, root: &Node, json: Json, mut faults: Vec<Fault>) {
        let name = identity::display(kind.name, root);
        match kind.which {
            Which::SecurityPolicy | Which::AccessPolicy | Which::ClientTrafficPolicy | Which::BackendTlsPolicy => {}
            Which::HttpRoute | Which::GrpcRoute | Which::TcpRoute | Which::Gateway | Which::ListenerSet => {
                let unknown = faults.iter().filter(|fault| fault.path.starts_with("spec"));
                let unknown: Vec<_> = unknown.map(unknown_field).collect();
                if !unknown.is_empty() {
                    // The fault is told of where it is found out what it closes.
                    faults.retain(|fault| !fault.path.starts_with("spec"));
                    self.alone.unknown_fields.push(Arc::new(UnknownFields {
                        object: object.clone(),
                        fields: unknown,
                    }));
                    self.closed(kind.which, json.clone());
                }
            }
            Which::GatewayClass | Which::EnvoyProxy => {
                for fault in faults.iter_mut().filter(|fault| fault.code == "unknown-field") {
                    fault.severity = Severity::Warning;
                }
            }
            _ if kind.built_in => faults.retain(|fault| fault.code != "unknown-field"),
            _ => {}
        }
        let at_fault = faults.iter().any(|fault| fault.severity == Severity::Error);
        let closed = !self.alone.unknown_fields.is_empty();
        if !at_fault && !closed {
            if let Err(message) = objects::add(&mut self.alone, kind.which, json.clone()) {
                if matches!(kind.which, Which::HttpRoute | Which::GrpcRoute | Which::TcpRoute) {
                    let path = "spec".to_owned();
                    let fields = vec![UnknownField {
                        path,
                        message: message.clone(),
                    }];
                    let object = object.clone();
                    self.alone
                        .unknown_fields
                        .push(Arc::new(UnknownFields { object, fields }));
                    self.closed(kind.which, json);
                }
                faults.push(objects::unreadable(kind.which, root.position, message));
            }
        }
        if faults.iter().any(|fault| fault.severity == Severity::Error) {
            self.broken(kind.which, root, object, &faults);
        }
        self.diagnostics = faults
            .iter()
            .map(|fault| Diagnostic::of_object(None, &name, fault))
            .collect();
    }

    /// Keeps of a policy at fault what it targets.
    fn broken(&mut self, which: Which, root: &Node, object: &ObjectRef, faults: &[Fault]) {
        let snapshot = &mut self.alone;
        match which {
            Which::SecurityPolicy => {
                policy::add(
                    snapshot,
                    policy::broken(PolicyKind::SecurityPolicy, root, object, faults),
                );
            }
            Which::AccessPolicy => {
                policy::add(snapshot, policy::broken(PolicyKind::AccessPolicy, root, object, faults));
            }
            Which::ClientTrafficPolicy => {
                let broken = policy::broken(PolicyKind::default(), root, object, faults);
                snapshot.broken_client_traffic_policies.push(broken.into());
            }
            Which::BackendTlsPolicy => {
                let broken = policy::broken_of_backends(root, object, faults);
                snapshot.broken_backend_tls_policies.push(broken.into());
            }
            _ => {}
        }
    }

    /// Takes an object whose faulty parts are closed: what of them cannot be read at all becomes as wide as it may be.
    fn closed(&mut self, which: Which, mut json: Json) {
        let fields = self.alone.unknown_fields.first().map(Arc::clone);
        if objects::add(&mut self.alone, which, json.clone()).is_ok() {
            return;
        }
        let Some(fields) = fields else { return };
        let rules = json.pointer_mut("/spec/rules").and_then(Json::as_array_mut);
        for (index, rule) in rules.into_iter().flatten().enumerate() {
            if fields.fields.iter().all(|field| field.below("rules", index).is_none()) {
                continue;
            }
            let mut wide = json!({});
            if let (Some(name), Some(fields)) = (rule.get("name"), wide.as_object_mut()) {
                fields.insert("name".to_owned(), name.clone());
            }
            if which == Which::TcpRoute {
                wide = json!({"backendRefs": []});
            }
            *rule = wide;
        }
        // One whose parents or hostnames cannot be read stands nowhere.
        let _ = objects::add(&mut self.alone, which, json);
    }
}

fn unknown_field(fault: &Fault) -> UnknownField {
    UnknownField {
        path: fault.path.clone(),
        message: fault.message.clone(),
    }
}

/// Puts objects together. Each is there once, as an API server has it.
#[must_use]
pub fn assemble<'a>(objects: impl IntoIterator<Item = &'a Served>) -> Loaded {
    let mut snapshot = Snapshot::default();
    let mut diagnostics = Vec::new();
    for object in objects {
        snapshot.append(&object.alone);
        diagnostics.extend(object.diagnostics.iter().cloned());
    }
    diagnostics.sort();
    Loaded::without_files(snapshot, diagnostics)
}
