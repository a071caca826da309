//! JSON Web Tokens.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cluster_settings::ClusterSettings,
    pattern::DURATION,
    reference::{BackendObjectReference, BackendRef, LocalObjectReference},
    rules,
};

/// Callers present a JSON Web Token (RFC 7519) that one of the providers issued.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.optional) && has(self.failOpen))")
    .message("optional and failOpen cannot both be set; failOpen already tolerates a missing JWT"))]
pub struct Jwt {
    /// Whether a request without a token passes; a wrong token is refused all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Whether a request with a missing or wrong token passes, without claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_open: Option<bool>,
    /// Who may issue tokens; any of them.
    #[schemars(length(min = 1, max = 16))]
    pub providers: Vec<JwtProvider>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.recomputeRoute) && self.recomputeRoute) ? (has(self.claimToHeaders) && size(self.claimToHeaders) > 0) : true")
        .message("claimToHeaders must be specified if recomputeRoute is enabled."),
    validation = Rule::new("has(self.remoteJWKS) || has(self.localJWKS)")
        .message("either remoteJWKS or localJWKS must be specified."),
    validation = Rule::new("!(has(self.remoteJWKS) && has(self.localJWKS))")
        .message("remoteJWKS and localJWKS cannot both be specified.")
)]
pub struct JwtProvider {
    /// The name, unique in the policy.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The `iss` claim that a token must carry; not checked when absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub issuer: String,
    /// The `aud` claims, any of them; not checked when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub audiences: Vec<String>,
    /// Keys that are fetched.
    #[serde(rename = "remoteJWKS", skip_serializing_if = "Option::is_none")]
    pub remote_jwks: Option<RemoteJwks>,
    /// Keys that are given.
    #[serde(rename = "localJWKS", skip_serializing_if = "Option::is_none")]
    pub local_jwks: Option<LocalJwks>,
    /// Claims that the backend receives as request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the route is selected again once the claims are request headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute_route: Option<bool>,
    /// Where a request carries the token; the `Authorization` header and the parameter `access_token` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract_from: Option<JwtExtractor>,
}

/// A key set that is fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::no_backend_ref(),
    validation = rules::no_retry_timeout(),
    validation = rules::no_retry_status_codes()
)]
pub struct RemoteJwks {
    /// Not supported here; use `backendRefs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendObjectReference>,
    /// The backends that serve the key set; host and port of `uri` when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
    /// How connections to the backends behave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_settings: Option<ClusterSettings>,
    /// The address of the key set.
    #[schemars(length(min = 1, max = 253))]
    pub uri: String,
    /// How long a fetched key set counts as fresh.
    #[serde(default = "five_minutes", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub cache_duration: Option<String>,
    /// How long to wait after a failed fetch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub failed_refetch_duration: Option<String>,
}

/// A key set that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Inline' && has(self.inline) && !has(self.valueRef)) || (self.type == 'ValueRef' && !has(self.inline) && has(self.valueRef))")
    .message("Exactly one of inline or valueRef must be set with correct type."))]
pub struct LocalJwks {
    /// Where the key set stands.
    #[serde(default)]
    pub r#type: LocalJwksType,
    /// The key set itself, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// The ConfigMap whose entry `jwks` is the key set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_ref: Option<LocalObjectReference>,
}

/// Where a given key set stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LocalJwksType {
    /// In the policy.
    #[default]
    Inline,
    /// In a ConfigMap.
    ValueRef,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A claim that the backend receives as a request header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The request header.
    pub header: String,
    /// The claim; dots separate the names of nested objects.
    pub claim: String,
}

/// Where a request carries the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtExtractor {
    /// Request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<JwtHeaderExtractor>,
    /// Names of cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// Names of query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<String>,
}

/// A request header that carries the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtHeaderExtractor {
    /// The name of the header.
    pub name: String,
    /// What stands before the token, as `Bearer ` with its space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_prefix: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn five_minutes() -> Option<String> {
    Some("300s".to_owned())
}
