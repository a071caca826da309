//! Every field of HTTPRoute, GRPCRoute and TCPRoute is served, or using it is told: a field that Gateway API adds fails here.

use std::collections::BTreeSet;

use gateway_api::{experimental::tcproutes::TcpRoute, grpcroutes::GrpcRoute, httproutes::HttpRoute};
use kube::CustomResourceExt;
use portcullis_api::http_route::HttpRouteRetry;
use schemars::JsonSchema;
use serde_json::Value;

use crate::world::world;

/// Fields that have their effect in Envoy, in which listener takes a route, or in the policy of its rules.
const SHARED: &str = "
spec.hostnames[]
spec.parentRefs[].group
spec.parentRefs[].kind
spec.parentRefs[].name
spec.parentRefs[].namespace
spec.parentRefs[].port
spec.parentRefs[].sectionName
spec.rules[].name
spec.rules[].backendRefs[].group
spec.rules[].backendRefs[].kind
spec.rules[].backendRefs[].name
spec.rules[].backendRefs[].namespace
spec.rules[].backendRefs[].port
spec.rules[].backendRefs[].weight
spec.rules[].backendRefs[].filters[].type
spec.rules[].backendRefs[].filters[].requestHeaderModifier.add[].name
spec.rules[].backendRefs[].filters[].requestHeaderModifier.add[].value
spec.rules[].backendRefs[].filters[].requestHeaderModifier.remove[]
spec.rules[].backendRefs[].filters[].requestHeaderModifier.set[].name
spec.rules[].backendRefs[].filters[].requestHeaderModifier.set[].value
spec.rules[].backendRefs[].filters[].responseHeaderModifier.add[].name
spec.rules[].backendRefs[].filters[].responseHeaderModifier.add[].value
spec.rules[].backendRefs[].filters[].responseHeaderModifier.remove[]
spec.rules[].backendRefs[].filters[].responseHeaderModifier.set[].name
spec.rules[].backendRefs[].filters[].responseHeaderModifier.set[].value
spec.rules[].filters[].type
spec.rules[].filters[].requestHeaderModifier.add[].name
spec.rules[].filters[].requestHeaderModifier.add[].value
spec.rules[].filters[].requestHeaderModifier.remove[]
spec.rules[].filters[].requestHeaderModifier.set[].name
spec.rules[].filters[].requestHeaderModifier.set[].value
spec.rules[].filters[].requestMirror.backendRef.group
spec.rules[].filters[].requestMirror.backendRef.kind
spec.rules[].filters[].requestMirror.backendRef.name
spec.rules[].filters[].requestMirror.backendRef.namespace
spec.rules[].filters[].requestMirror.backendRef.port
spec.rules[].filters[].requestMirror.fraction.denominator
spec.rules[].filters[].requestMirror.fraction.numerator
spec.rules[].filters[].requestMirror.percent
spec.rules[].filters[].responseHeaderModifier.add[].name
spec.rules[].filters[].responseHeaderModifier.add[].value
spec.rules[].filters[].responseHeaderModifier.remove[]
spec.rules[].filters[].responseHeaderModifier.set[].name
spec.rules[].filters[].responseHeaderModifier.set[].value
spec.rules[].matches[].headers[].name
spec.rules[].matches[].headers[].type
spec.rules[].matches[].headers[].value
";

const HTTP: &str = "
spec.rules[].filters[].cors.allowCredentials
spec.rules[].filters[].cors.allowHeaders[]
spec.rules[].filters[].cors.allowMethods[]
spec.rules[].filters[].cors.allowOrigins[]
spec.rules[].filters[].cors.exposeHeaders[]
spec.rules[].filters[].cors.maxAge
spec.rules[].filters[].requestRedirect.hostname
spec.rules[].filters[].requestRedirect.path.replaceFullPath
spec.rules[].filters[].requestRedirect.path.replacePrefixMatch
spec.rules[].filters[].requestRedirect.path.type
spec.rules[].filters[].requestRedirect.port
spec.rules[].filters[].requestRedirect.scheme
spec.rules[].filters[].requestRedirect.statusCode
spec.rules[].filters[].urlRewrite.hostname
spec.rules[].filters[].urlRewrite.path.replaceFullPath
spec.rules[].filters[].urlRewrite.path.replacePrefixMatch
spec.rules[].filters[].urlRewrite.path.type
spec.rules[].matches[].method
spec.rules[].matches[].path.type
spec.rules[].matches[].path.value
spec.rules[].matches[].queryParams[].name
spec.rules[].matches[].queryParams[].type
spec.rules[].matches[].queryParams[].value
spec.rules[].retry.attempts
spec.rules[].retry.backoff
spec.rules[].retry.codes[]
spec.rules[].timeouts.backendRequest
spec.rules[].timeouts.request
";

const GRPC: &str = "
spec.rules[].matches[].method.method
spec.rules[].matches[].method.service
spec.rules[].matches[].method.type
";

/// Fields that are not served, everything below them included, with a rule that sets one and the code of its finding.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (
        "HTTPRoute",
        "spec.rules[].filters[].extensionRef",
        "filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: A, name: a}}], backendRefs: [{name: a, port: 80}]",
        "unsupported-filter",
    ),
    (
        "HTTPRoute",
        "spec.rules[].backendRefs[].filters[].cors",
        "backendRefs: [{name: a, port: 80, filters: [{type: CORS, cors: {allowOrigins: ['*']}}]}]",
        "unsupported-filter",
    ),
    (
        "HTTPRoute",
        "spec.rules[].backendRefs[].filters[].extensionRef",
        "backendRefs: [{name: a, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: A, name: a}}]}]",
        "unsupported-filter",
    ),
    (
        "HTTPRoute",
        "spec.rules[].backendRefs[].filters[].requestMirror",
        "backendRefs: [{name: a, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}]}]",
        "unsupported-filter",
    ),
    (
        "HTTPRoute",
        "spec.rules[].backendRefs[].filters[].requestRedirect",
        "backendRefs: [{name: a, port: 80, filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]",
        "unsupported-filter",
    ),
    (
        "HTTPRoute",
        "spec.rules[].backendRefs[].filters[].urlRewrite",
        "backendRefs: [{name: a, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]}]",
        "unsupported-filter",
    ),
    (
        "GRPCRoute",
        "spec.rules[].filters[].extensionRef",
        "filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: A, name: a}}], backendRefs: [{name: a, port: 80}]",
        "unsupported-filter",
    ),
    (
        "GRPCRoute",
        "spec.rules[].backendRefs[].filters[].extensionRef",
        "backendRefs: [{name: a, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: A, name: a}}]}]",
        "unsupported-filter",
    ),
    (
        "GRPCRoute",
        "spec.rules[].backendRefs[].filters[].requestMirror",
        "backendRefs: [{name: a, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}]}]",
        "unsupported-filter",
    ),
];

/// Fields of TCPRoute; the schema of manifests has no `useDefaultGateways`, which only the experimental channel knows.
const TCP: &str = "
spec.parentRefs[].group
spec.parentRefs[].kind
spec.parentRefs[].name
spec.parentRefs[].namespace
spec.parentRefs[].port
spec.parentRefs[].sectionName
spec.rules[].backendRefs[].group
spec.rules[].backendRefs[].kind
spec.rules[].backendRefs[].name
spec.rules[].backendRefs[].namespace
spec.rules[].backendRefs[].port
spec.rules[].backendRefs[].weight
spec.rules[].name
spec.useDefaultGateways
";

fn lines(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The fields of a schema that hold no others, with their paths.
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

/// The fields below `spec` of a kind that hold no others.
pub(crate) fn fields<T: CustomResourceExt>() -> BTreeSet<String> {
    let crd = serde_json::to_value(T::crd()).unwrap();
    let spec = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .unwrap();
    let mut found = BTreeSet::new();
    leaves(spec, "spec", &mut found);
    found
}

/// Panics unless the fields are exactly those of the lists, a line each.
pub(crate) fn assert_listed(kind: &str, fields: &BTreeSet<String>, lists: &[&str]) {
    let listed: BTreeSet<String> = lists.iter().flat_map(|list| lines(list)).collect();
    let unlisted: Vec<_> = fields.difference(&listed).collect();
    assert!(
        unlisted.is_empty(),
        "{kind}: neither served, refused nor told: {unlisted:#?}"
    );
    let gone: Vec<_> = listed.difference(fields).collect();
    assert!(gone.is_empty(), "{kind} has no such field: {gone:#?}");
}

fn inline<T: JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::openapi3()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

#[test]
fn every_field_is_served_or_refused() {
    let mut http = fields::<HttpRoute>();
    leaves(&inline::<HttpRouteRetry>(), "spec.rules[].retry", &mut http);
    for (kind, found, served) in [("HTTPRoute", http, HTTP), ("GRPCRoute", fields::<GrpcRoute>(), GRPC)] {
        let refused: Vec<&str> = REFUSED
            .iter()
            .filter(|(of, ..)| *of == kind)
            .map(|(_, path, ..)| *path)
            .collect();
        let below = |path: &String| refused.iter().any(|prefix| path.starts_with(&format!("{prefix}.")));
        let left: BTreeSet<String> = found.into_iter().filter(|path| !below(path)).collect();
        assert_listed(kind, &left, &[SHARED, served]);
    }
    assert_listed("TCPRoute", &fields::<TcpRoute>(), &[TCP]);
}

#[test]
fn every_refused_field_has_its_finding() {
    const HEAD: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]
";
    for (kind, path, rule, code) in REFUSED {
        let route = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: edge}}\n\
             spec: {{parentRefs: [{{name: public}}], rules: [{{{rule}}}]}}\n"
        );
        let world = world(&format!("{HEAD}{route}"), "/etc/envoy/portcullis.wasm");
        let (parent, _) = path.rsplit_once('.').unwrap();
        let parent = parent.replace("[]", "[0]");
        let findings = &world.translation.findings;
        assert!(
            findings
                .iter()
                .any(|finding| finding.code == *code && finding.path.starts_with(&parent)),
            "{kind} {path}: {findings:#?}"
        );
    }
}
