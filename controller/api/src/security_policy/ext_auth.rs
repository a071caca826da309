//! External authorization.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cluster_settings::ClusterSettings,
    pattern::{DURATION, GROUP, KIND},
    reference::{BackendObjectReference, BackendRef},
    rules,
};

/// A service decides on every request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.grpc) || has(self.http))")
        .message("one of grpc or http must be specified"),
    validation = Rule::new("(has(self.grpc) && !has(self.http)) || (!has(self.grpc) && has(self.http))")
        .message("only one of grpc or http can be specified")
)]
pub struct ExtAuth {
    /// A service that speaks `envoy.service.auth.v3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcExtAuthService>,
    /// A service that answers a request made like the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpExtAuthService>,
    /// Request headers that the service receives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers_to_ext_auth: Vec<String>,
    /// The part of the body that the service receives; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_to_ext_auth: Option<BodyToExtAuth>,
    /// How long to wait for the answer; ten seconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// Whether requests pass when the service does not answer.
    #[serde(default = "no", skip_serializing_if = "Option::is_none")]
    pub fail_open: Option<bool>,
    /// Whether the route is selected again after the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute_route: Option<bool>,
    /// Whether the service is told which route was selected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_route_metadata: Option<bool>,
    /// Facts that the service receives beside the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub context_extensions: Vec<ContextExtension>,
    /// The status of the answer when the service does not answer; 403 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [
        400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424,
        426, 428, 429, 431, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511
    ]))]
    pub status_on_error: Option<i32>,
}

/// A gRPC authorization service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::backends_present(),
    validation = rules::backend_kinds(),
    validation = rules::backend_groups()
)]
pub struct GrpcExtAuthService {
    /// The backend. Deprecated: use `backendRefs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendObjectReference>,
    /// The backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
    /// How connections to the backends behave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_settings: Option<ClusterSettings>,
}

/// An HTTP authorization service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::backends_present(),
    validation = rules::backend_kinds(),
    validation = rules::backend_groups(),
    validation = Rule::new("!(has(self.path) && has(self.pathOverride))")
        .message("only one of path or pathOverride can be specified")
)]
pub struct HttpExtAuthService {
    /// The backend. Deprecated: use `backendRefs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendObjectReference>,
    /// The backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
    /// How connections to the backends behave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_settings: Option<ClusterSettings>,
    /// A prefix to the path of the client's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path that replaces the one of the client's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_override: Option<String>,
    /// Headers of the service's answer that the backend receives as request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers_to_backend: Vec<String>,
}

/// The part of the body that the service receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyToExtAuth {
    /// The largest body in bytes; a larger one is answered with 413.
    #[schemars(range(min = 1))]
    pub max_request_bytes: i32,
}

/// A fact that the service receives beside the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Value' && has(self.value) && !has(self.valueRef)) || (self.type == 'ValueRef' && !has(self.value) && has(self.valueRef))")
    .message("Exactly one of value or valueRef must be set with correct type."))]
pub struct ContextExtension {
    /// The name.
    pub name: String,
    /// Where the value stands.
    #[serde(default)]
    pub r#type: ContextExtensionType,
    /// The value itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The object that holds the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_ref: Option<ContextExtensionValueRef>,
}

/// Where the value of a fact stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ContextExtensionType {
    /// In the policy.
    #[default]
    Value,
    /// In a ConfigMap or a Secret.
    ValueRef,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// An entry of a ConfigMap or a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.kind in ['ConfigMap', 'Secret'] && self.group in ['', 'v1']")
    .message("Only a reference to an object of kind ConfigMap or Secret belonging to default v1 API group is supported."))]
pub struct ContextExtensionValueRef {
    /// The API group: empty for the core group.
    #[schemars(
        length(max = 253),
        regex(pattern = GROUP)
    )]
    pub group: String,
    /// The kind.
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND))]
    pub kind: String,
    /// The name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry.
    pub key: String,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn no() -> Option<bool> {
    Some(false)
}
