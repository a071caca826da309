//! Every field of Gateway and ListenerSet is served, or using it is told: a field that Gateway API adds fails here.

use std::collections::BTreeSet;

use gateway_api::{gateways::Gateway, listenersets::ListenerSet};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::world::world;

/// Fields that have their effect.
const SERVED: &str = "
spec.listeners[].allowedRoutes.kinds[].group
spec.listeners[].allowedRoutes.kinds[].kind
spec.listeners[].allowedRoutes.namespaces.from
spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].key
spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].operator
spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].values[]
spec.listeners[].allowedRoutes.namespaces.selector.matchLabels
spec.listeners[].hostname
spec.listeners[].name
spec.listeners[].port
spec.listeners[].protocol
spec.listeners[].tls.certificateRefs[].group
spec.listeners[].tls.certificateRefs[].kind
spec.listeners[].tls.certificateRefs[].name
spec.listeners[].tls.certificateRefs[].namespace
spec.listeners[].tls.mode
";

const GATEWAY: &str = "
spec.allowedListeners.namespaces.from
spec.allowedListeners.namespaces.selector.matchExpressions[].key
spec.allowedListeners.namespaces.selector.matchExpressions[].operator
spec.allowedListeners.namespaces.selector.matchExpressions[].values[]
spec.allowedListeners.namespaces.selector.matchLabels
spec.gatewayClassName
";

const SET: &str = "
spec.parentRef.group
spec.parentRef.kind
spec.parentRef.name
spec.parentRef.namespace
";

/// Fields without effect or not served, everything below them included: where a finding tells of one that is set, its code,
/// and a Gateway's fields that set it.
const TOLD: &[(&str, &str, &str, &str)] = &[
    (
        "spec.addresses",
        "spec.addresses",
        "field-ignored",
        "addresses: [{value: 192.0.2.1}]",
    ),
    (
        "spec.infrastructure",
        "spec.infrastructure",
        "field-ignored",
        "infrastructure: {labels: {a: b}}",
    ),
    (
        "spec.tls.backend",
        "spec.tls.backend",
        "field-ignored",
        "tls: {backend: {clientCertificateRef: {name: a}}}",
    ),
    (
        "spec.tls.frontend",
        "spec.tls.frontend",
        "unsupported-field",
        "tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}",
    ),
    (
        "spec.listeners[].tls.options",
        "spec.listeners[0].tls.options",
        "field-ignored",
        "",
    ),
];

fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(items) = schema.get("items") {
        return leaves(items, &format!("{path}[]"), found);
    }
    match schema.get("properties").and_then(Value::as_object) {
        None => {
            found.insert(path.to_owned());
        }
        Some(fields) => {
            for (name, field) in fields {
                leaves(field, &format!("{path}.{name}"), found);
            }
        }
    }
}

#[test]
fn every_field_of_a_listener_is_served_or_told() {
    for (crd, own) in [(Gateway::crd(), GATEWAY), (ListenerSet::crd(), SET)] {
        let kind = crd.spec.names.kind.clone();
        let crd = serde_json::to_value(crd).unwrap();
        let spec = crd
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .unwrap();
        let mut found = BTreeSet::new();
        leaves(spec, "spec", &mut found);
        let told = |path: &str| {
            TOLD.iter().any(|(prefix, ..)| {
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        let listed: BTreeSet<String> = SERVED
            .lines()
            .chain(own.lines())
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        let left: BTreeSet<String> = found.into_iter().filter(|path| !told(path)).collect();
        let unlisted: Vec<_> = left.difference(&listed).collect();
        assert!(unlisted.is_empty(), "{kind}: neither served nor told: {unlisted:#?}");
        let gone: Vec<_> = listed.difference(&left).collect();
        assert!(gone.is_empty(), "{kind} has no such field: {gone:#?}");
    }
}

#[test]
fn every_field_without_effect_has_its_finding() {
    for (_, path, code, fields) in TOLD {
        let manifests = format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: portcullis}}
spec: {{controllerName: portcullis.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: edge}}
spec:
  gatewayClassName: portcullis
  listeners: [{{name: https, port: 443, protocol: HTTPS, tls: {{options: {{example.com/a: b}}, certificateRefs: [{{name: a}}]}}}}]
  {fields}
"
        );
        let findings = world(&manifests, "/etc/envoy/portcullis.wasm").translation.findings;
        let told = findings
            .iter()
            .any(|finding| finding.code == *code && finding.path.starts_with(path));
        assert!(told, "{path}: {findings:#?}");
    }
}
