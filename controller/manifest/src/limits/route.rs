//! Limits of HTTPRoute and GRPCRoute, which share most of theirs, and of TCPRoute.

use super::{
    Cel, DURATION, FIELD_NAME, GROUP, HOSTNAME, KIND, Keys, Length, Limit, NAME, NAMESPACE, OneOf, PORT,
    PRECISE_HOSTNAME, Range, SECTION, SERVICE_PORT,
};

/// Limits below one field.
type Part = (&'static str, &'static [(&'static str, Limit)]);

/// HTTPRoute.
pub(crate) const HTTP_ROUTE: &[Part] = &[
    ("", ROUTE),
    ("", HTTP),
    ("spec.rules[].filters[]", FILTER),
    ("spec.rules[].filters[]", HTTP_FILTER),
    ("spec.rules[].backendRefs[].filters[]", FILTER),
    ("spec.rules[].backendRefs[].filters[]", HTTP_FILTER),
];

/// GRPCRoute.
pub(crate) const GRPC_ROUTE: &[Part] = &[
    ("", ROUTE),
    ("", GRPC),
    ("spec.rules[].filters[]", FILTER),
    ("spec.rules[].backendRefs[].filters[]", FILTER),
];

/// TCPRoute.
pub(crate) const TCP_ROUTE: &[(&str, Limit)] = &[
    ("spec.parentRefs", Length(0, 32)),
    ("spec.parentRefs[].group", GROUP),
    ("spec.parentRefs[].kind", KIND),
    ("spec.parentRefs[].name", NAME),
    ("spec.parentRefs[].namespace", NAMESPACE),
    ("spec.parentRefs[].sectionName", SECTION),
    ("spec.parentRefs[].port", PORT),
    ("spec.rules", Length(1, 16)),
    (
        "spec.rules",
        Cel(
            "self.all(l1, !has(l1.name) || self.exists_one(l2, has(l2.name) && l1.name == l2.name))",
            "Rule name must be unique within the route",
        ),
    ),
    ("spec.rules[].name", NAME),
    ("spec.rules[].name", SECTION),
    ("spec.rules[].backendRefs", Length(1, 16)),
    ("spec.rules[].backendRefs[]", SERVICE_PORT),
    ("spec.rules[].backendRefs[].group", GROUP),
    ("spec.rules[].backendRefs[].kind", KIND),
    ("spec.rules[].backendRefs[].name", NAME),
    ("spec.rules[].backendRefs[].namespace", NAMESPACE),
    ("spec.rules[].backendRefs[].port", PORT),
    ("spec.rules[].backendRefs[].weight", Range(0, 1_000_000)),
];

macro_rules! matches_of {
    ($($rule:literal)*) => {
        concat!($(
            "(self.size() > ", $rule, " ? (has(self[", $rule, "].matches) ? self[", $rule, "].matches.size() : 1) : 0) + ",
        )* "0 <= 128")
    };
}

const ROUTE: &[(&str, Limit)] = &[
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
        "spec.rules",
        Cel(
            matches_of!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
            "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be \
             at most 128",
        ),
    ),
    ("spec.rules[].name", NAME),
    ("spec.rules[].name", SECTION),
    ("spec.rules[].matches", Length(0, 64)),
    ("spec.rules[].matches[].headers", Length(0, 16)),
    ("spec.rules[].matches[].headers", Keys(&["name"])),
    ("spec.rules[].matches[].headers[].name", Length(1, 256)),
    ("spec.rules[].matches[].headers[].name", FIELD_NAME),
    ("spec.rules[].matches[].headers[].value", Length(1, 4096)),
    ("spec.rules[].filters", Length(0, 16)),
    ("spec.rules[].backendRefs", Length(0, 16)),
    ("spec.rules[].backendRefs[]", SERVICE_PORT),
    ("spec.rules[].backendRefs[].group", GROUP),
    ("spec.rules[].backendRefs[].kind", KIND),
    ("spec.rules[].backendRefs[].name", NAME),
    ("spec.rules[].backendRefs[].namespace", NAMESPACE),
    ("spec.rules[].backendRefs[].port", PORT),
    ("spec.rules[].backendRefs[].weight", Range(0, 1_000_000)),
    ("spec.rules[].backendRefs[].filters", Length(0, 16)),
];

const HTTP: &[(&str, Limit)] = &[
    (
        "spec.rules[]",
        Cel(
            "(has(self.backendRefs) && size(self.backendRefs) > 0) ? \
             (!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))) : true",
            "RequestRedirect filter must not be used together with backendRefs",
        ),
    ),
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
    ("spec.rules[].matches[].queryParams", Length(0, 16)),
    ("spec.rules[].matches[].queryParams", Keys(&["name"])),
    ("spec.rules[].matches[].queryParams[].name", Length(1, 256)),
    ("spec.rules[].matches[].queryParams[].name", FIELD_NAME),
    ("spec.rules[].matches[].queryParams[].value", Length(1, 1024)),
    ("spec.rules[].timeouts.request", DURATION),
    ("spec.rules[].timeouts.backendRequest", DURATION),
    (
        "spec.rules[].timeouts",
        Cel(
            "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && \
             duration(self.backendRequest) > duration(self.request))",
            "backendRequest timeout cannot be longer than request timeout",
        ),
    ),
    ("spec.rules[].retry.attempts", Range(0, i32::MAX as i64)),
    ("spec.rules[].retry.codes[]", Range(400, 599)),
    ("spec.rules[].retry.backoff", DURATION),
];

const GRPC: &[(&str, Limit)] = &[
    (
        "spec.rules[].matches[].method",
        Cel(
            "has(self.service) || has(self.method)",
            "One or both of 'service' or 'method' must be specified",
        ),
    ),
    (
        "spec.rules[].matches[].method",
        Cel(
            r"(!has(self.type) || self.type == 'Exact') && has(self.service) ? self.service.matches(r'^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$') : true",
            r"service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)",
        ),
    ),
    (
        "spec.rules[].matches[].method",
        Cel(
            "(!has(self.type) || self.type == 'Exact') && has(self.method) ? self.method.matches('^[A-Za-z_][A-Za-z_0-9]*$') : true",
            "method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)",
        ),
    ),
    ("spec.rules[].matches[].method.service", Length(0, 1024)),
    ("spec.rules[].matches[].method.method", Length(0, 1024)),
];

/// A filter of a rule or of a backendRef.
const FILTER: &[(&str, Limit)] = &[
    (
        "",
        Cel(
            "self.type == 'RequestHeaderModifier' ? has(self.requestHeaderModifier) : !has(self.requestHeaderModifier)",
            "filter.requestHeaderModifier goes with filter.type RequestHeaderModifier and with no other",
        ),
    ),
    (
        "",
        Cel(
            "self.type == 'ResponseHeaderModifier' ? has(self.responseHeaderModifier) : !has(self.responseHeaderModifier)",
            "filter.responseHeaderModifier goes with filter.type ResponseHeaderModifier and with no other",
        ),
    ),
    (
        "",
        Cel(
            "self.type == 'RequestMirror' ? has(self.requestMirror) : !has(self.requestMirror)",
            "filter.requestMirror goes with filter.type RequestMirror and with no other",
        ),
    ),
    (
        "",
        Cel(
            "self.type == 'ExtensionRef' ? has(self.extensionRef) : !has(self.extensionRef)",
            "filter.extensionRef goes with filter.type ExtensionRef and with no other",
        ),
    ),
    ("requestHeaderModifier.set", Length(0, 16)),
    ("requestHeaderModifier.set", Keys(&["name"])),
    ("requestHeaderModifier.set[].name", Length(1, 256)),
    ("requestHeaderModifier.set[].name", FIELD_NAME),
    ("requestHeaderModifier.set[].value", Length(1, 4096)),
    ("requestHeaderModifier.add", Length(0, 16)),
    ("requestHeaderModifier.add", Keys(&["name"])),
    ("requestHeaderModifier.add[].name", Length(1, 256)),
    ("requestHeaderModifier.add[].name", FIELD_NAME),
    ("requestHeaderModifier.add[].value", Length(1, 4096)),
    ("requestHeaderModifier.remove", Length(0, 16)),
    ("responseHeaderModifier.set", Length(0, 16)),
    ("responseHeaderModifier.set", Keys(&["name"])),
    ("responseHeaderModifier.set[].name", Length(1, 256)),
    ("responseHeaderModifier.set[].name", FIELD_NAME),
    ("responseHeaderModifier.set[].value", Length(1, 4096)),
    ("responseHeaderModifier.add", Length(0, 16)),
    ("responseHeaderModifier.add", Keys(&["name"])),
    ("responseHeaderModifier.add[].name", Length(1, 256)),
    ("responseHeaderModifier.add[].name", FIELD_NAME),
    ("responseHeaderModifier.add[].value", Length(1, 4096)),
    ("responseHeaderModifier.remove", Length(0, 16)),
    ("requestMirror.backendRef", SERVICE_PORT),
    ("requestMirror.backendRef.group", GROUP),
    ("requestMirror.backendRef.kind", KIND),
    ("requestMirror.backendRef.name", NAME),
    ("requestMirror.backendRef.namespace", NAMESPACE),
    ("requestMirror.backendRef.port", PORT),
    ("requestMirror.percent", Range(0, 100)),
    ("requestMirror.fraction.numerator", Range(0, i32::MAX as i64)),
    ("requestMirror.fraction.denominator", Range(1, i32::MAX as i64)),
    (
        "requestMirror",
        Cel(
            "!(has(self.percent) && has(self.fraction))",
            "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter",
        ),
    ),
    (
        "requestMirror.fraction",
        Cel(
            "self.numerator <= (has(self.denominator) ? self.denominator : 100)",
            "numerator must be less than or equal to denominator",
        ),
    ),
];

const HTTP_FILTER: &[(&str, Limit)] = &[
    (
        "",
        Cel(
            "self.type == 'RequestRedirect' ? has(self.requestRedirect) : !has(self.requestRedirect)",
            "filter.requestRedirect goes with filter.type RequestRedirect and with no other",
        ),
    ),
    (
        "",
        Cel(
            "self.type == 'URLRewrite' ? has(self.urlRewrite) : !has(self.urlRewrite)",
            "filter.urlRewrite goes with filter.type URLRewrite and with no other",
        ),
    ),
    (
        "",
        Cel(
            "self.type == 'CORS' ? has(self.cors) : !has(self.cors)",
            "filter.cors goes with filter.type CORS and with no other",
        ),
    ),
    ("requestRedirect.hostname", PRECISE_HOSTNAME),
    ("requestRedirect.port", PORT),
    ("requestRedirect.statusCode", OneOf(&[301, 302, 303, 307, 308])),
    ("requestRedirect.path.replaceFullPath", Length(0, 1024)),
    ("requestRedirect.path.replacePrefixMatch", Length(0, 1024)),
    ("urlRewrite.hostname", PRECISE_HOSTNAME),
    ("urlRewrite.path.replaceFullPath", Length(0, 1024)),
    ("urlRewrite.path.replacePrefixMatch", Length(0, 1024)),
    ("cors.allowOrigins", Length(0, 64)),
    ("cors.allowOrigins", ALONE),
    ("cors.allowOrigins[]", NAME),
    ("cors.allowOrigins[]", ORIGIN),
    ("cors.allowMethods", Length(0, 9)),
    ("cors.allowMethods", ALONE),
    ("cors.allowMethods[]", METHODS),
    ("cors.allowHeaders", Length(0, 64)),
    ("cors.allowHeaders", ALONE),
    ("cors.allowHeaders[]", Length(1, 256)),
    ("cors.allowHeaders[]", FIELD_NAME),
    ("cors.exposeHeaders", Length(0, 64)),
    ("cors.exposeHeaders[]", Length(1, 256)),
    ("cors.exposeHeaders[]", FIELD_NAME),
    ("cors.maxAge", Range(1, i32::MAX as i64)),
];

const ORIGIN: Limit =
    Limit::Pattern(r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)");
const METHODS: Limit = Limit::Texts(&[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*",
]);
const ALONE: Limit = Cel(
    "!('*' in self && self.size() > 1)",
    "'*' cannot stand alongside other entries",
);
