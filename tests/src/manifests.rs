//! Builders of manifests, as JSON: every document is also YAML.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Joins objects into one file.
#[must_use]
pub fn file(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object:#}\n")).collect()
}

/// The GatewayClass of the controller.
#[must_use]
pub fn gateway_class() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "portcullis"},
        "spec": {"controllerName": "portcullis.dev/gateway-controller"},
    })
}

/// `edge/public` with these listeners.
#[must_use]
pub fn gateway(listeners: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "public", "namespace": "edge"},
        "spec": {"gatewayClassName": "portcullis", "listeners": listeners},
    })
}

/// A plain listener that takes routes from everywhere.
#[must_use]
pub fn http_listener(name: &str, port: u16, hostname: Option<&str>) -> Value {
    let mut listener = json!({
        "name": name, "protocol": "HTTP", "port": port, "allowedRoutes": {"namespaces": {"from": "All"}},
    });
    if let Some(hostname) = hostname {
        listener["hostname"] = hostname.into();
    }
    listener
}

/// A listener of TCP that takes routes from everywhere.
#[must_use]
pub fn tcp_listener(name: &str, port: u16) -> Value {
    let mut listener = http_listener(name, port, None);
    listener["protocol"] = "TCP".into();
    listener
}

/// A TCPRoute `shop/<name>` on the listener of the same name, to the `Backend` `shop/<to>`.
#[must_use]
pub fn tcp_route(name: &str, to: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "edge", "sectionName": name}],
            "rules": [{"backendRefs": [backend_ref(to)]}],
        },
    })
}

/// A TLS listener that takes routes from everywhere; its certificate is the Secret `edge/<secret>`.
#[must_use]
pub fn https_listener(name: &str, port: u16, hostname: Option<&str>, secret: &str) -> Value {
    let mut listener = http_listener(name, port, hostname);
    listener["protocol"] = "HTTPS".into();
    listener["tls"] = json!({"mode": "Terminate", "certificateRefs": [{"name": secret}]});
    listener
}

/// A `Backend` at an address.
#[must_use]
pub fn backend(name: &str, address: SocketAddr) -> Value {
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "Backend",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpoints": [{"ip": {"address": address.ip().to_string(), "port": address.port()}}]},
    })
}

/// A route `shop/<name>` to the `Backend` `shop/<to>`, for these hosts (none: any) and a path prefix.
#[must_use]
pub fn route(name: &str, hosts: &[&str], prefix: &str, to: &str) -> Value {
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "edge"}],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
                "backendRefs": [backend_ref(to)],
            }],
        },
    });
    if !hosts.is_empty() {
        route["spec"]["hostnames"] = json!(hosts);
    }
    route
}

/// A reference to the `Backend` of that name in the same namespace.
#[must_use]
pub fn backend_ref(name: &str) -> Value {
    json!({"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name})
}

/// A policy `shop/<name>` on the route of the same name.
#[must_use]
pub fn policy(name: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}]);
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    })
}

/// API keys in `x-api-key`, from the Secret `shop/<secret>`; the client's id goes upstream as `x-client-id`.
#[must_use]
pub fn api_key_auth(secret: &str) -> Value {
    json!({
        "credentialRefs": [{"name": secret}],
        "extractFrom": [{"headers": ["x-api-key"]}],
        "forwardClientIDHeader": "x-client-id",
        "sanitize": true,
    })
}

/// A Secret with these entries.
#[must_use]
pub fn secret(namespace: &str, name: &str, entries: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data,
    })
}

/// A Secret of type `kubernetes.io/tls` in the Gateway's namespace.
#[must_use]
pub fn tls_secret(name: &str, certificate: &str, key: &str) -> Value {
    let mut secret = secret("edge", name, &[("tls.crt", certificate), ("tls.key", key)]);
    secret["type"] = "kubernetes.io/tls".into();
    secret
}

/// Makes a route poisonous: its expression is one that the controller takes and Envoy does not (RE2 refuses stacked
/// repetitions), so that the whole route table is rejected.
pub fn poison(route: &mut Value) {
    route["spec"]["rules"][0]["matches"] = json!([{"path": {"type": "RegularExpression", "value": "/a**"}}]);
}
