//! API keys.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::SecretObjectReference;

/// Callers identify themselves by an API key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAuth {
    /// The Secrets whose entries are client id and key; of several entries for one client the first counts.
    pub credential_refs: Vec<SecretObjectReference>,
    /// Where a request carries the key; the first place that holds one counts.
    #[schemars(length(min = 1))]
    pub extract_from: Vec<ExtractFrom>,
    /// The request header that tells the backend the client id; absent, nothing is told.
    #[serde(rename = "forwardClientIDHeader", skip_serializing_if = "Option::is_none")]
    pub forward_client_id_header: Option<String>,
    /// Whether the key is removed from the request before the backend sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sanitize: Option<bool>,
}

/// Places of one kind in which a request carries a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.headers) ? 1 : 0) + (has(self.params) ? 1 : 0) + (has(self.cookies) ? 1 : 0) == 1")
    .message("exactly one of headers, params, or cookies must be specified"))]
pub struct ExtractFrom {
    /// Names of request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub headers: Vec<String>,
    /// Names of query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub params: Vec<String>,
    /// Names of cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub cookies: Vec<String>,
}
