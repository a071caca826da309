//! `ClientTrafficPolicy` of `gateway.envoyproxy.io/v1alpha1`: the detection of client addresses with the schema and the CEL
//! rules of Envoy Gateway 1.9; its other fields are known by name and hold any value.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    pattern::CIDR,
    security_policy::{PolicyTargetReference, TargetSelector},
    status::PolicyStatus,
};

/// What a ClientTrafficPolicy asks for. Only `clientIPDetection` and `tls.clientValidation` have an effect.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "ClientTrafficPolicy",
    plural = "clienttrafficpolicies",
    shortname = "ctp",
    category = "envoy-gateway",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "How a Gateway, a ListenerSet or a listener finds out the address of a client.",
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.targetRef) && !has(self.targetRefs)) || (!has(self.targetRef) && has(self.targetRefs)) || (has(self.targetSelectors) && self.targetSelectors.size() > 0)")
        .message("either targetRef or targetRefs must be used"),
    validation = Rule::new("has(self.targetRef) ? self.targetRef.group == 'gateway.networking.k8s.io' : true")
        .message("this policy can only have a targetRef.group of gateway.networking.k8s.io"),
    validation = Rule::new("has(self.targetRef) ? self.targetRef.kind in ['Gateway', 'ListenerSet'] : true")
        .message("this policy can only have a targetRef.kind of Gateway or ListenerSet"),
    validation = Rule::new("has(self.targetRefs) ? self.targetRefs.all(ref, ref.group == 'gateway.networking.k8s.io') : true")
        .message("this policy can only have a targetRefs[*].group of gateway.networking.k8s.io"),
    validation = Rule::new("has(self.targetRefs) ? self.targetRefs.all(ref, ref.kind in ['Gateway', 'ListenerSet']) : true")
        .message("this policy can only have a targetRefs[*].kind of Gateway or ListenerSet")
)]
pub struct ClientTrafficPolicySpec {
    /// The object that the policy applies to. Deprecated: use `targetRefs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<PolicyTargetReference>,
    /// The Gateways and ListenerSets that the policy applies to, or their listeners, in its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The Gateways and ListenerSets that the policy applies to, by labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_selectors: Vec<TargetSelector>,
    /// How the address of a client is found out; the connection's peer when absent.
    #[serde(rename = "clientIPDetection", skip_serializing_if = "Option::is_none")]
    pub client_ip_detection: Option<ClientIpDetection>,
    /// Probes of idle connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub tcp_keepalive: Option<Map<String, Value>>,
    /// Whether connections begin with a PROXY header. Deprecated: use `proxyProtocol`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_proxy_protocol: Option<bool>,
    /// Connections begin with a PROXY header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub proxy_protocol: Option<Map<String, Value>>,
    /// TLS towards clients, their certificates included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub tls: Option<Map<String, Value>>,
    /// How paths are normalised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub path: Option<Map<String, Value>>,
    /// How headers are treated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub headers: Option<Map<String, Value>>,
    /// Timeouts of connections and requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub timeout: Option<Map<String, Value>>,
    /// Limits of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub connection: Option<Map<String, Value>>,
    /// Settings of HTTP/1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub http1: Option<Map<String, Value>>,
    /// Settings of HTTP/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub http2: Option<Map<String, Value>>,
    /// Settings of HTTP/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub http3: Option<Map<String, Value>>,
    /// Settings of gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub grpc: Option<Map<String, Value>>,
    /// The path of health checks that the proxy itself answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_fields")]
    pub health_check: Option<Map<String, Value>>,
    /// The scheme that backends are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

/// How the address of a client is found out; the connection's peer when nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.xForwardedFor) && has(self.customHeader))")
        .message("customHeader cannot be used in conjunction with xForwardedFor"),
    validation = Rule::new("!(has(self.directSourceIP) && (has(self.xForwardedFor) || has(self.customHeader)))")
        .message("directSourceIP cannot be used in conjunction with xForwardedFor or customHeader")
)]
pub struct ClientIpDetection {
    /// From `X-Forwarded-For`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_forwarded_for: Option<XForwardedFor>,
    /// From a header that a trusted proxy sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_header: Option<CustomHeader>,
    /// From the connection.
    #[serde(rename = "directSourceIP", skip_serializing_if = "Option::is_none")]
    pub direct_source_ip: Option<DirectSourceIp>,
}

/// Whose entries of `X-Forwarded-For` are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.numTrustedHops) && !has(self.trustedCIDRs)) || (!has(self.numTrustedHops) && has(self.trustedCIDRs))")
    .message("only one of numTrustedHops or trustedCIDRs must be set"))]
pub struct XForwardedFor {
    /// How many proxies stand before this one: the client is that many entries from the right.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub num_trusted_hops: Option<i32>,
    /// The networks of the proxies that stand before this one.
    #[serde(rename = "trustedCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(regex(pattern = CIDR)))]
    pub trusted_cidrs: Vec<String>,
    /// Whether the peer's address is left out of the `X-Forwarded-For` that backends get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_x_forwarded_for_append: Option<bool>,
}

/// A header that holds the client's address and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomHeader {
    /// The header's name.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// Whether a request without a usable address is answered 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_closed: Option<bool>,
}

/// The address is the connection's peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectSourceIp {}

/// The scheme that backends are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scheme {
    /// The client's.
    Preserve,
    /// That of the connection to the backend.
    MatchBackend,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

fn any_fields(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
