//! Every field of Gateway and ListenerSet is served, or using it is told: a field that Gateway API adds fails here.

use gateway_api::{gateways::Gateway, listenersets::ListenerSet};

use crate::{
    fields::{assert_listed, fields},
    world::world,
};

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
spec.tls.frontend.perPort[].port
spec.tls.frontend.default.validation.caCertificateRefs[].group
spec.tls.frontend.default.validation.caCertificateRefs[].kind
spec.tls.frontend.default.validation.caCertificateRefs[].name
spec.tls.frontend.default.validation.caCertificateRefs[].namespace
spec.tls.frontend.default.validation.mode
spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].group
spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].kind
spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].name
spec.tls.frontend.perPort[].tls.validation.caCertificateRefs[].namespace
spec.tls.frontend.perPort[].tls.validation.mode
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
        "spec.listeners[].tls.options",
        "spec.listeners[0].tls.options",
        "field-ignored",
        "",
    ),
];

#[test]
fn every_field_of_a_listener_is_served_or_told() {
    for (kind, found, own) in [
        ("Gateway", fields::<Gateway>(), GATEWAY),
        ("ListenerSet", fields::<ListenerSet>(), SET),
    ] {
        let told = |path: &str| {
            TOLD.iter().any(|(prefix, ..)| {
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        let left = found.into_iter().filter(|path| !told(path)).collect();
        assert_listed(kind, &left, &[SERVED, own]);
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
