//! `Backend` of `gateway.envoyproxy.io/v1alpha1`: the schema, the defaults and the CEL rules of Envoy Gateway 1.9.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    pattern::{ADDRESS, SUBDOMAIN, WELL_KNOWN},
    reference::{LocalObjectReference, SecretObjectReference},
};

/// Endpoints outside Kubernetes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "Backend",
    shortname = "be",
    category = "envoy-gateway",
    namespaced,
    status = "BackendStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Endpoints outside Kubernetes that a route can name.",
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason",
        name = "Status",
        type_ = "string"
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type != 'DynamicResolver' || !has(self.endpoints)")
        .message("DynamicResolver type cannot have endpoints specified"),
    validation = Rule::new("self.type != 'DynamicResolver' || !has(self.tls) || !(has(self.tls.autoSNIFromEndpointHostname) && self.tls.autoSNIFromEndpointHostname)")
        .message("DynamicResolver type cannot use autoSNIFromEndpointHostname"),
    validation = Rule::new("!has(self.tls) || !(has(self.tls.autoSNIFromEndpointHostname) && self.tls.autoSNIFromEndpointHostname) || !has(self.endpoints) || self.endpoints.all(e, (!has(e.ip) && !has(e.unix)) || has(e.hostname))")
        .message("when autoSNIFromEndpointHostname is enabled, IP and Unix endpoints must define a hostname")
)]
pub struct BackendSpec {
    /// Whether the endpoints are listed or follow the host of each request.
    #[serde(default)]
    pub r#type: BackendType,
    /// The endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.all(f, has(f.fqdn)) || !self.exists(f, has(f.fqdn))")
        .message("fqdn addresses cannot be mixed with other address types"))]
    pub endpoints: Vec<BackendEndpoint>,
    /// The protocols that the endpoints speak; HTTP/1.1 when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_protocols: Vec<AppProtocol>,
    /// Whether the backend serves only when the others of a route are unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<bool>,
    /// How connections to the endpoints are encrypted; not at all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTlsSettings>,
}

/// Whether the endpoints of a backend are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BackendType {
    /// They are listed.
    #[default]
    Endpoints,
    /// They follow the host of each request.
    DynamicResolver,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A protocol that endpoints speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AppProtocol {
    /// HTTP/2 without TLS.
    #[serde(rename = "gateway.envoyproxy.io/h2c")]
    H2c,
    /// WebSocket without TLS.
    #[serde(rename = "gateway.envoyproxy.io/ws")]
    Ws,
    /// WebSocket over TLS.
    #[serde(rename = "gateway.envoyproxy.io/wss")]
    Wss,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// One endpoint: a name, an address or a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.fqdn) || has(self.ip) || has(self.unix))")
        .message("one of fqdn, ip or unix must be specified"),
    validation = Rule::new("((has(self.fqdn) && !(has(self.ip) || has(self.unix))) || (has(self.ip) && !(has(self.fqdn) || has(self.unix))) || (has(self.unix) && !(has(self.ip) || has(self.fqdn))))")
        .message("only one of fqdn, ip or unix can be specified")
)]
pub struct BackendEndpoint {
    /// The host name by which the endpoint knows itself, for health checks and host rewrites.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = SUBDOMAIN)
    )]
    pub hostname: Option<String>,
    /// A name that DNS resolves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<FqdnEndpoint>,
    /// An IPv4 or IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpEndpoint>,
    /// A socket of the proxy's own machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix: Option<UnixSocket>,
    /// The zone of the endpoint, for zone-aware balancing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A name that DNS resolves, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FqdnEndpoint {
    /// The name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = SUBDOMAIN)
    )]
    pub hostname: String,
    /// The port.
    #[schemars(range(min = 0, max = 65535))]
    pub port: i32,
}

/// An address and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpEndpoint {
    /// The IPv4 or IPv6 address.
    #[schemars(
        length(min = 3, max = 45),
        regex(
            pattern = ADDRESS
        )
    )]
    pub address: String,
    /// The port.
    #[schemars(range(min = 0, max = 65535))]
    pub port: i32,
}

/// A socket of the proxy's own machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnixSocket {
    /// The path, at most 108 bytes.
    #[x_kube(validation = Rule::new("size(self) <= 108")
        .message("unix domain socket path must not exceed 108 characters"))]
    pub path: String,
}

/// How connections to a backend are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0 && has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')")
        .message("must not contain both CACertificateRefs and WellKnownCACertificates"),
    validation = Rule::new("!((has(self.insecureSkipVerify) && self.insecureSkipVerify) && ((has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0) || (has(self.wellKnownCACertificates) && self.wellKnownCACertificates != '')))")
        .message("must not contain either CACertificateRefs or WellKnownCACertificates when InsecureSkipVerify is enabled"),
    validation = Rule::new("!(has(self.sni) && has(self.autoSNIFromEndpointHostname) && self.autoSNIFromEndpointHostname)")
        .message("sni and autoSNIFromEndpointHostname are mutually exclusive"),
    validation = Rule::new("has(self.minVersion) && self.minVersion == '1.3' ? !has(self.ciphers) : true")
        .message("setting ciphers has no effect if the minimum possible TLS version is 1.3"),
    validation = Rule::new("{'Auto': 0, '1.0': 1, '1.1': 2, '1.2': 3, '1.3': 4}[has(self.minVersion) ? self.minVersion : '1.2'] <= {'1.0': 1, '1.1': 2, '1.2': 3, '1.3': 4, 'Auto': 5}[has(self.maxVersion) ? self.maxVersion : 'Auto']")
        .message("minVersion must be smaller or equal to maxVersion")
)]
pub struct BackendTlsSettings {
    /// ConfigMaps or Secrets whose entry `ca.crt` is trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<LocalObjectReference>,
    /// `System` to trust what the proxy's own system trusts.
    #[serde(rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = WELL_KNOWN))]
    pub well_known_ca_certificates: Option<String>,
    /// Whether any certificate is accepted.
    #[serde(default = "no", skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
    /// The name that the endpoint is asked for and must prove.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub sni: Option<String>,
    /// Whether the name is the endpoint's own.
    #[serde(rename = "autoSNIFromEndpointHostname", skip_serializing_if = "Option::is_none")]
    pub auto_sni_from_endpoint_hostname: Option<bool>,
    /// The Secret with the certificate and key by which the proxy identifies itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretObjectReference>,
    /// The oldest version of TLS, 1.2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// The newest version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
    /// The cipher suites up to TLS 1.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ciphers: Vec<String>,
    /// The curves of the key exchange.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ecdh_curves: Vec<String>,
    /// The signature algorithms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signature_algorithms: Vec<String>,
    /// The protocols to offer (RFC 7301).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn_protocols: Vec<String>,
    /// Kinds of fingerprints that are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<TlsFingerprint>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// The proxy's choice.
    Auto,
    /// TLS 1.0 (RFC 2246).
    #[serde(rename = "1.0")]
    V1_0,
    /// TLS 1.1 (RFC 4346).
    #[serde(rename = "1.1")]
    V1_1,
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A kind of fingerprint of TLS handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TlsFingerprint {
    /// JA3.
    Ja3,
    /// JA4.
    Ja4,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// The state of a backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// The conditions of the backend; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn no() -> Option<bool> {
    Some(false)
}
