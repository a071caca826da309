//! Limits of Gateway API 1.6 (standard channel) that its Rust types do not carry.

mod route;

use crate::{
    rules::Rule,
    schema::{Pattern, Schema},
};
pub(crate) use route::{GRPC_ROUTE, HTTP_ROUTE, TCP_ROUTE};

/// One limit on a field; of a list, `Length` counts entries.
pub(crate) enum Limit {
    Length(u64, u64),
    Range(i64, i64),
    Pattern(&'static str),
    OneOf(&'static [i64]),
    Texts(&'static [&'static str]),
    /// The fields that identify an entry.
    Keys(&'static [&'static str]),
    /// A CEL rule and its message.
    Rule(&'static str, &'static str),
}

use Limit::{Keys, Length, OneOf, Range, Rule as Cel};

const HOSTNAME: Limit = Limit::Pattern(r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$");
const PRECISE_HOSTNAME: Limit = Limit::Pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$");
const SECTION: Limit = Limit::Pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$");
const GROUP: Limit = Limit::Pattern(r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$");
const KIND: Limit = Limit::Pattern(r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$");
const NAMESPACE: Limit = Limit::Pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");
const FIELD_NAME: Limit = Limit::Pattern(r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$");
const DURATION: Limit = Limit::Pattern(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$");
const NAME: Limit = Length(1, 253);
const PORT: Limit = Range(1, 65535);

const SERVICE_PORT: Limit = Cel(
    "((!has(self.group) || self.group == '') && (!has(self.kind) || self.kind == 'Service')) ? has(self.port) : true",
    "Must have port for Service reference",
);

/// GatewayClass.
pub(crate) const GATEWAY_CLASS: &[(&str, Limit)] = &[
    ("spec.controllerName", NAME),
    (
        "spec.controllerName",
        Limit::Pattern(
            r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
        ),
    ),
];

/// Gateway.
pub(crate) const GATEWAY: &[(&str, Limit)] = &[("spec.gatewayClassName", NAME)];

/// The listeners of Gateway and ListenerSet.
pub(crate) const LISTENERS: &[(&str, Limit)] = &[
    ("spec.listeners", Length(1, 64)),
    ("spec.listeners", Keys(&["name"])),
    (
        "spec.listeners",
        Cel(
            "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) : true)",
            "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
        ),
    ),
    (
        "spec.listeners",
        Cel(
            "self.all(l, (l.protocol == 'HTTPS' && has(l.tls) && has(l.tls.mode)) ? l.tls.mode == 'Terminate' : true)",
            "tls mode must be Terminate for protocol HTTPS",
        ),
    ),
    (
        "spec.listeners",
        Cel(
            "self.all(l, l.protocol in ['TCP', 'UDP'] ? (!has(l.hostname) || l.hostname == '') : true)",
            "hostname must not be specified for protocols ['TCP', 'UDP']",
        ),
    ),
    (
        "spec.listeners",
        Cel(
            "self.all(l1, self.exists_one(l2, l1.port == l2.port && l1.protocol == l2.protocol && \
             (has(l1.hostname) && has(l2.hostname) ? l1.hostname == l2.hostname : !has(l1.hostname) && !has(l2.hostname))))",
            "Combination of port, protocol and hostname must be unique for each listener",
        ),
    ),
    ("spec.listeners[].name", NAME),
    ("spec.listeners[].name", SECTION),
    ("spec.listeners[].hostname", NAME),
    ("spec.listeners[].hostname", HOSTNAME),
    ("spec.listeners[].port", PORT),
    ("spec.listeners[].protocol", Length(1, 255)),
    (
        "spec.listeners[].tls",
        Cel(
            "(!has(self.mode) || self.mode == 'Terminate') ? \
             ((has(self.certificateRefs) && size(self.certificateRefs) > 0) || (has(self.options) && size(self.options) > 0)) : true",
            "certificateRefs or options must be specified when mode is Terminate",
        ),
    ),
    ("spec.listeners[].tls.certificateRefs", Length(0, 64)),
    ("spec.listeners[].tls.certificateRefs[].group", GROUP),
    ("spec.listeners[].tls.certificateRefs[].kind", KIND),
    ("spec.listeners[].tls.certificateRefs[].name", NAME),
    ("spec.listeners[].tls.certificateRefs[].namespace", NAMESPACE),
    ("spec.listeners[].allowedRoutes.kinds", Length(0, 8)),
    ("spec.listeners[].allowedRoutes.kinds[].kind", KIND),
];

/// ListenerSet.
pub(crate) const LISTENER_SET: &[(&str, Limit)] = &[
    ("spec.parentRef.group", GROUP),
    ("spec.parentRef.kind", KIND),
    ("spec.parentRef.name", NAME),
    ("spec.parentRef.namespace", NAMESPACE),
];

/// BackendTLSPolicy.
pub(crate) const BACKEND_TLS_POLICY: &[(&str, Limit)] = &[
    ("spec.targetRefs", Length(1, 16)),
    (
        "spec.targetRefs",
        Cel(
            "self.all(p1, self.all(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name ? \
             ((!has(p1.sectionName) || p1.sectionName == '') == (!has(p2.sectionName) || p2.sectionName == '')) : true))",
            "sectionName must be specified when targetRefs includes 2 or more references to the same target",
        ),
    ),
    (
        "spec.targetRefs",
        Cel(
            "self.all(p1, self.exists_one(p2, p1.group == p2.group && p1.kind == p2.kind && p1.name == p2.name && \
             ((!has(p1.sectionName) || p1.sectionName == '') && (!has(p2.sectionName) || p2.sectionName == '') || \
             (has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName))))",
            "sectionName must be unique when targetRefs includes 2 or more references to the same target",
        ),
    ),
    ("spec.targetRefs[].group", GROUP),
    ("spec.targetRefs[].kind", KIND),
    ("spec.targetRefs[].name", NAME),
    ("spec.targetRefs[].sectionName", SECTION),
    ("spec.options", Length(0, 16)),
    (
        "spec.validation",
        Cel(
            "!(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0 && \
             has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')",
            "must not contain both CACertificateRefs and WellKnownCACertificates",
        ),
    ),
    (
        "spec.validation",
        Cel(
            "(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0) || \
             (has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')",
            "must specify either CACertificateRefs or WellKnownCACertificates",
        ),
    ),
    ("spec.validation.caCertificateRefs", Length(0, 8)),
    ("spec.validation.caCertificateRefs[].group", GROUP),
    ("spec.validation.caCertificateRefs[].kind", KIND),
    ("spec.validation.caCertificateRefs[].name", NAME),
    ("spec.validation.hostname", NAME),
    ("spec.validation.hostname", PRECISE_HOSTNAME),
    ("spec.validation.subjectAltNames", Length(0, 5)),
    ("spec.validation.subjectAltNames[].hostname", NAME),
    ("spec.validation.subjectAltNames[].hostname", HOSTNAME),
    ("spec.validation.subjectAltNames[].uri", NAME),
    (
        "spec.validation.subjectAltNames[]",
        Cel(
            "self.type == 'Hostname' ? has(self.hostname) && self.hostname != '' : true",
            "SubjectAltName element must contain Hostname, if Type is set to Hostname",
        ),
    ),
    (
        "spec.validation.subjectAltNames[]",
        Cel(
            "self.type == 'URI' ? has(self.uri) && self.uri != '' : true",
            "SubjectAltName element must contain URI, if Type is set to URI",
        ),
    ),
    (
        "spec.validation.subjectAltNames[]",
        Cel(
            "self.type == 'Hostname' ? !has(self.uri) : !has(self.hostname)",
            "SubjectAltName element must contain nothing of another Type",
        ),
    ),
];

/// ReferenceGrant.
pub(crate) const REFERENCE_GRANT: &[(&str, Limit)] = &[
    ("spec.from", Length(1, 16)),
    ("spec.from[].group", GROUP),
    ("spec.from[].kind", KIND),
    ("spec.from[].namespace", NAMESPACE),
    ("spec.to", Length(1, 16)),
    ("spec.to[].group", GROUP),
    ("spec.to[].kind", KIND),
    ("spec.to[].name", NAME),
];

/// Adds limits to a schema; a field that the schema lacks is left alone (a test fails on it).
pub(crate) fn apply(schema: &mut Schema, limits: &[(&str, Limit)]) {
    for (path, limit) in limits {
        let Some(field) = schema.at(path) else { continue };
        match limit {
            Length(min, max) => {
                field.min_length = (*min > 0).then_some(*min);
                field.max_length = Some(*max);
            }
            Range(min, max) => {
                field.minimum = Some(*min);
                field.maximum = Some(*max);
            }
            Limit::Pattern(pattern) => field.pattern = Pattern::new(pattern),
            Limit::Texts(values) => field.allowed = values.iter().map(|value| (*value).into()).collect(),
            OneOf(values) => field.allowed = values.iter().map(|value| (*value).into()).collect(),
            Keys(keys) => field.keys = keys.iter().map(|key| (*key).to_owned()).collect(),
            Cel(rule, message) => field.rules.extend(Rule::new(rule, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BACKEND_TLS_POLICY, GATEWAY, GATEWAY_CLASS, GRPC_ROUTE, HTTP_ROUTE, LISTENER_SET, LISTENERS, Limit,
        REFERENCE_GRANT, TCP_ROUTE,
    };
    use crate::{kinds::KINDS, rules::Rule, schema::Pattern, schema::Schema};

    /// As [`Schema::at`], without the right to change it.
    fn has(schema: &Schema, path: &str) -> bool {
        let mut schema = schema;
        for step in path.split('.') {
            let name = step.trim_end_matches("[]");
            let Some(field) = schema.properties.get(name) else {
                return false;
            };
            schema = field;
            if name != step {
                let Some(items) = schema.items.as_deref() else {
                    return false;
                };
                schema = items;
            }
        }
        true
    }

    #[test]
    fn every_limit_has_its_field_and_can_be_checked() {
        let whole = [
            ("GatewayClass", GATEWAY_CLASS),
            ("Gateway", GATEWAY),
            ("BackendTLSPolicy", BACKEND_TLS_POLICY),
            ("Gateway", LISTENERS),
            ("ListenerSet", LISTENER_SET),
            ("ListenerSet", LISTENERS),
            ("ReferenceGrant", REFERENCE_GRANT),
            ("TCPRoute", TCP_ROUTE),
        ]
        .map(|(name, limits)| (name, "", limits));
        let parts = [("HTTPRoute", HTTP_ROUTE), ("GRPCRoute", GRPC_ROUTE)]
            .into_iter()
            .flat_map(|(name, parts)| parts.iter().map(move |(prefix, limits)| (name, *prefix, *limits)));
        for (name, prefix, limits) in whole.into_iter().chain(parts) {
            let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
            for (path, limit) in limits {
                let path = [prefix, path]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join(".");
                assert!(has(kind.schema(), &path), "{name} has no {path}");
                match limit {
                    Limit::Pattern(pattern) => assert!(Pattern::new(pattern).is_some(), "{pattern}"),
                    Limit::Rule(rule, message) => assert!(Rule::new(rule, message).is_some(), "{rule}"),
                    _ => {}
                }
            }
        }
    }
}
