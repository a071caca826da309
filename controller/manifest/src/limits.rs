//! Limits of Gateway API 1.6 (standard channel) that its Rust types do not carry.

use crate::{
    rules::Rule,
    schema::{Pattern, Schema},
};

/// One limit on a field; of a list, `Length` counts entries.
pub(crate) enum Limit {
    Length(u64, u64),
    Range(i64, i64),
    Pattern(&'static str),
    OneOf(&'static [i64]),
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

/// HTTPRoute.
pub(crate) const HTTP_ROUTE: &[(&str, Limit)] = &[
    ("spec.parentRefs", Length(0, 32)),
    ("spec.parentRefs[].group", GROUP),
    ("spec.parentRefs[].kind", KIND),
    ("spec.parentRefs[].name", NAME),
    ("spec.parentRefs[].namespace", NAMESPACE),
    ("spec.parentRefs[].sectionName", SECTION),
    ("spec.parentRefs[].port", PORT),
    ("spec.hostnames", Length(0, 16)),
    ("spec.hostnames[]", NAME),
    ("spec.hostnames[]", HOSTNAME),
    ("spec.rules", Length(1, 16)),
    (
        "spec.rules",
        Cel(
            "self.all(l1, !has(l1.name) || self.exists_one(l2, has(l2.name) && l1.name == l2.name))",
            "Rule name must be unique within the route",
        ),
    ),
    (
        "spec.rules[]",
        Cel(
            "(has(self.backendRefs) && size(self.backendRefs) > 0) ? \
             (!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))) : true",
            "RequestRedirect filter must not be used together with backendRefs",
        ),
    ),
    ("spec.rules[].name", NAME),
    ("spec.rules[].name", SECTION),
    ("spec.rules[].matches", Length(0, 64)),
    ("spec.rules[].matches[].path.value", Length(0, 1024)),
    (
        "spec.rules[].matches[].path",
        Cel(
            "((!has(self.type) || self.type in ['Exact', 'PathPrefix']) && has(self.value)) ? self.value.startsWith('/') : true",
            "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
        ),
    ),
    (
        "spec.rules[].matches[].path",
        Cel(
            "((!has(self.type) || self.type in ['Exact', 'PathPrefix']) && has(self.value)) ? \
             ['//', '/./', '/../', '%2f', '%2F', '#'].all(part, !self.value.contains(part)) && \
             !self.value.endsWith('/..') && !self.value.endsWith('/.') : true",
            "must not contain '//', '/./', '/../', '%2f', '#' or end with '/..', '/.' when type one of ['Exact', 'PathPrefix']",
        ),
    ),
    ("spec.rules[].matches[].headers", Length(0, 16)),
    ("spec.rules[].matches[].headers", Keys(&["name"])),
    ("spec.rules[].matches[].headers[].name", Length(1, 256)),
    ("spec.rules[].matches[].headers[].name", FIELD_NAME),
    ("spec.rules[].matches[].headers[].value", Length(1, 4096)),
    ("spec.rules[].matches[].queryParams", Length(0, 16)),
    ("spec.rules[].matches[].queryParams", Keys(&["name"])),
    ("spec.rules[].matches[].queryParams[].name", Length(1, 256)),
    ("spec.rules[].matches[].queryParams[].name", FIELD_NAME),
    ("spec.rules[].matches[].queryParams[].value", Length(1, 1024)),
    ("spec.rules[].filters", Length(0, 16)),
    (
        "spec.rules[].filters[]",
        Cel(
            "self.type == 'RequestHeaderModifier' ? has(self.requestHeaderModifier) : !has(self.requestHeaderModifier)",
            "filter.requestHeaderModifier goes with filter.type RequestHeaderModifier and with no other",
        ),
    ),
    (
        "spec.rules[].filters[]",
        Cel(
            "self.type == 'ResponseHeaderModifier' ? has(self.responseHeaderModifier) : !has(self.responseHeaderModifier)",
            "filter.responseHeaderModifier goes with filter.type ResponseHeaderModifier and with no other",
        ),
    ),
    (
        "spec.rules[].filters[]",
        Cel(
            "self.type == 'RequestRedirect' ? has(self.requestRedirect) : !has(self.requestRedirect)",
            "filter.requestRedirect goes with filter.type RequestRedirect and with no other",
        ),
    ),
    (
        "spec.rules[].filters[]",
        Cel(
            "self.type == 'URLRewrite' ? has(self.urlRewrite) : !has(self.urlRewrite)",
            "filter.urlRewrite goes with filter.type URLRewrite and with no other",
        ),
    ),
    (
        "spec.rules[].filters[]",
        Cel(
            "self.type == 'RequestMirror' ? has(self.requestMirror) : !has(self.requestMirror)",
            "filter.requestMirror goes with filter.type RequestMirror and with no other",
        ),
    ),
    (
        "spec.rules[].filters[]",
        Cel(
            "self.type == 'ExtensionRef' ? has(self.extensionRef) : !has(self.extensionRef)",
            "filter.extensionRef goes with filter.type ExtensionRef and with no other",
        ),
    ),
    ("spec.rules[].filters[].requestHeaderModifier.set", Length(0, 16)),
    ("spec.rules[].filters[].requestHeaderModifier.set", Keys(&["name"])),
    (
        "spec.rules[].filters[].requestHeaderModifier.set[].name",
        Length(1, 256),
    ),
    ("spec.rules[].filters[].requestHeaderModifier.set[].name", FIELD_NAME),
    (
        "spec.rules[].filters[].requestHeaderModifier.set[].value",
        Length(1, 4096),
    ),
    ("spec.rules[].filters[].requestHeaderModifier.add", Length(0, 16)),
    ("spec.rules[].filters[].requestHeaderModifier.add", Keys(&["name"])),
    (
        "spec.rules[].filters[].requestHeaderModifier.add[].name",
        Length(1, 256),
    ),
    ("spec.rules[].filters[].requestHeaderModifier.add[].name", FIELD_NAME),
    (
        "spec.rules[].filters[].requestHeaderModifier.add[].value",
        Length(1, 4096),
    ),
    ("spec.rules[].filters[].requestHeaderModifier.remove", Length(0, 16)),
    ("spec.rules[].filters[].responseHeaderModifier.set", Length(0, 16)),
    ("spec.rules[].filters[].responseHeaderModifier.set", Keys(&["name"])),
    (
        "spec.rules[].filters[].responseHeaderModifier.set[].name",
        Length(1, 256),
    ),
    ("spec.rules[].filters[].responseHeaderModifier.set[].name", FIELD_NAME),
    (
        "spec.rules[].filters[].responseHeaderModifier.set[].value",
        Length(1, 4096),
    ),
    ("spec.rules[].filters[].responseHeaderModifier.add", Length(0, 16)),
    ("spec.rules[].filters[].responseHeaderModifier.add", Keys(&["name"])),
    (
        "spec.rules[].filters[].responseHeaderModifier.add[].name",
        Length(1, 256),
    ),
    ("spec.rules[].filters[].responseHeaderModifier.add[].name", FIELD_NAME),
    (
        "spec.rules[].filters[].responseHeaderModifier.add[].value",
        Length(1, 4096),
    ),
    ("spec.rules[].filters[].responseHeaderModifier.remove", Length(0, 16)),
    ("spec.rules[].filters[].requestRedirect.hostname", PRECISE_HOSTNAME),
    ("spec.rules[].filters[].requestRedirect.port", PORT),
    (
        "spec.rules[].filters[].requestRedirect.statusCode",
        OneOf(&[301, 302, 303, 307, 308]),
    ),
    (
        "spec.rules[].filters[].requestRedirect.path.replaceFullPath",
        Length(0, 1024),
    ),
    (
        "spec.rules[].filters[].requestRedirect.path.replacePrefixMatch",
        Length(0, 1024),
    ),
    ("spec.rules[].filters[].urlRewrite.hostname", PRECISE_HOSTNAME),
    (
        "spec.rules[].filters[].urlRewrite.path.replaceFullPath",
        Length(0, 1024),
    ),
    (
        "spec.rules[].filters[].urlRewrite.path.replacePrefixMatch",
        Length(0, 1024),
    ),
    ("spec.rules[].filters[].requestMirror.backendRef", SERVICE_PORT),
    ("spec.rules[].filters[].requestMirror.backendRef.port", PORT),
    ("spec.rules[].backendRefs", Length(0, 16)),
    ("spec.rules[].backendRefs[]", SERVICE_PORT),
    ("spec.rules[].backendRefs[].group", GROUP),
    ("spec.rules[].backendRefs[].kind", KIND),
    ("spec.rules[].backendRefs[].name", NAME),
    ("spec.rules[].backendRefs[].namespace", NAMESPACE),
    ("spec.rules[].backendRefs[].port", PORT),
    ("spec.rules[].backendRefs[].weight", Range(0, 1_000_000)),
    ("spec.rules[].backendRefs[].filters", Length(0, 16)),
    ("spec.rules[].timeouts.request", DURATION),
    ("spec.rules[].timeouts.backendRequest", DURATION),
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
            OneOf(values) => field.allowed = values.iter().map(|value| (*value).into()).collect(),
            Keys(keys) => field.keys = keys.iter().map(|key| (*key).to_owned()).collect(),
            Cel(rule, message) => field.rules.extend(Rule::new(rule, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BACKEND_TLS_POLICY, GATEWAY, GATEWAY_CLASS, HTTP_ROUTE, LISTENER_SET, LISTENERS, Limit, REFERENCE_GRANT,
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
        for (name, limits) in [
            ("GatewayClass", GATEWAY_CLASS),
            ("Gateway", GATEWAY),
            ("BackendTLSPolicy", BACKEND_TLS_POLICY),
            ("HTTPRoute", HTTP_ROUTE),
            ("Gateway", LISTENERS),
            ("ListenerSet", LISTENER_SET),
            ("ListenerSet", LISTENERS),
            ("ReferenceGrant", REFERENCE_GRANT),
        ] {
            let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
            for (path, limit) in limits {
                assert!(has(kind.schema(), path), "{name} has no {path}");
                match limit {
                    Limit::Pattern(pattern) => assert!(Pattern::new(pattern).is_some(), "{pattern}"),
                    Limit::Rule(rule, message) => assert!(Rule::new(rule, message).is_some(), "{rule}"),
                    _ => {}
                }
            }
        }
    }
}
