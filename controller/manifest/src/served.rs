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
    kinds::{KINDS, Kind, Which},
    objects, policy,
    tree::Node,
    validate::Fault,
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
    /// Reads an object of a kind of [`kinds`], without `status`, which decides nothing; of a Service it says where it is reached.
    ///
    /// Nothing that restricts is dropped: a policy with a field that is not known here is broken and closes what it
    /// targets; of routes, Gateways and ListenerSets the rule or the listener with such a field is closed; other objects
    /// are left out, and so is what refers to them. Kinds of Kubernetes itself are taken without the field.
    #[must_use]
    pub fn read(kind: &str, mut json: Json) -> Option<Self> {
        let kind = KINDS.iter().find(|known| known.name == kind)?;
        if let Some(fields) = json.as_object_mut()
            && kind.which != Which::Service
        {
            fields.remove("status");
        }
        let root = Node::from_json(&json);
        let (json, object, faults) = objects::judge(&root, kind);
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
        if !at_fault
            && !closed
            && let Err(message) = objects::add(&mut self.alone, kind.which, json.clone())
        {
            if matches!(kind.which, Which::HttpRoute | Which::GrpcRoute | Which::TcpRoute) {
                let field = UnknownField {
                    path: "spec".to_owned(),
                    message: message.clone(),
                };
                self.alone.unknown_fields.push(Arc::new(UnknownFields {
                    object: object.clone(),
                    fields: vec![field],
                }));
                self.closed(kind.which, json);
            }
            faults.push(objects::unreadable(kind.which, root.position, message));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, json: Json) -> (Snapshot, Vec<String>) {
        let served = Served::read(kind, json).unwrap();
        let diagnostics = served.diagnostics.iter().map(ToString::to_string).collect();
        (served.alone, diagnostics)
    }

    fn route(rule: &Json) -> Json {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "orders", "namespace": "shop", "generation": 3, "resourceVersion": "1"},
            "spec": {"rules": [{"name": "first"}, rule]},
            "status": {"parents": [{"unknown": true}]},
        })
    }

    fn unknown(snapshot: &Snapshot) -> Vec<&str> {
        let fields = snapshot.unknown_fields.iter().flat_map(|unknown| &unknown.fields);
        fields.map(|field| field.path.as_str()).collect()
    }

    #[test]
    fn a_rule_with_a_field_that_is_not_known_stays_and_is_marked() {
        let (snapshot, diagnostics) = read(
            "HTTPRoute",
            route(&json!({"name": "second", "timeouts": {"new": "1s"}})),
        );
        assert_eq!(unknown(&snapshot), ["spec.rules[1].timeouts.new"]);
        let rules = snapshot.http_routes[0].spec.rules.as_ref().unwrap();
        assert_eq!(rules[1].name.as_deref(), Some("second"));
        assert!(
            diagnostics.is_empty(),
            "it is told of where it closes something: {diagnostics:?}"
        );
        assert!(
            read("HTTPRoute", route(&json!({}))).0.unknown_fields.is_empty(),
            "a status decides nothing"
        );
    }

    #[test]
    fn a_match_that_cannot_be_read_becomes_as_wide_as_it_may_be() {
        let rule = json!({"name": "second", "matches": [{"path": {"type": "Telepathy", "value": "/admin"}}]});
        let (snapshot, _) = read("HTTPRoute", route(&rule));
        assert_eq!(unknown(&snapshot), ["spec.rules[1].matches[0].path.type"]);
        let rules = snapshot.http_routes[0].spec.rules.as_ref().unwrap();
        assert_eq!((rules.len(), rules[1].name.as_deref()), (2, Some("second")));
        assert!(rules[1].matches.is_none());
    }

    #[test]
    fn a_policy_with_a_field_that_is_not_known_closes_its_targets() {
        let policy = json!({
            "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders"}],
                "newRestriction": {},
            },
        });
        let (snapshot, diagnostics) = read("SecurityPolicy", policy);
        assert!(snapshot.security_policies.is_empty());
        assert_eq!(snapshot.broken_policies[0].targets[0].name, "orders");
        assert!(diagnostics[0].contains("spec.newRestriction"), "{diagnostics:?}");
    }

    #[test]
    fn a_grant_with_a_field_that_is_not_known_grants_nothing_and_a_service_is_taken() {
        let grant = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
            "metadata": {"name": "grant", "namespace": "shop"},
            "spec": {"from": [{"group": "", "kind": "Service", "namespace": "edge", "only": "x"}], "to": [{"group": "", "kind": "Secret"}]},
        });
        let (snapshot, diagnostics) = read("ReferenceGrant", grant);
        assert!(snapshot.reference_grants.is_empty());
        assert_eq!(diagnostics.len(), 1);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {"ports": [{"port": 80}], "newPolicy": "Always"},
        });
        let (snapshot, diagnostics) = read("Service", service);
        assert_eq!((snapshot.services.len(), diagnostics.len()), (1, 0));
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "portcullis"},
            "spec": {"controllerName": "a.example/controller", "new": 1},
        });
        let (snapshot, diagnostics) = read("GatewayClass", class);
        assert_eq!(snapshot.gateway_classes.len(), 1);
        assert!(diagnostics[0].starts_with("warning[unknown-field]"), "{diagnostics:?}");
    }

    #[test]
    fn a_secret_at_fault_is_not_shown() {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"},
            "data": {"alice": "hunter2!"},
        });
        let (_, diagnostics) = read("Secret", secret);
        assert!(
            !diagnostics.is_empty() && !diagnostics[0].contains("hunter2"),
            "{diagnostics:?}"
        );
    }
}
