//! The wire form of a policy: what the controller writes beside a route and the filter reads.
//!
//! A [`Document`] is readable by anyone who can read Envoy's configuration dump; whatever must not be read there is in
//! [`Secrets`], which travels in a redacted resource. Both refuse unknown fields: a filter that does not know a
//! restriction must deny, never leave it out.

use serde::{Deserialize, Serialize};

/// The version of the wire form that this build writes, and the newest one that it reads.
pub const VERSION: u32 = 1;

/// The largest accepted serialized document together with its secrets, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// One policy as it is delivered: everything about it that is no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// The wire form's version, [`VERSION`].
    pub version: u32,
    /// The policy's identity for logs and metrics, `namespace/name`; `none` for a route that no policy covers.
    pub policy: String,
    /// Refuses every request: the policy could not be enforced whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse: Option<Refuse>,
    /// Cross-origin resource sharing (`SecurityPolicy.spec.cors`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// API key authentication (`SecurityPolicy.spec.apiKeyAuth`); the keys are in [`Secrets::api_keys`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
    /// Authorization (`SecurityPolicy.spec.authorization`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// Why every request of a route is refused with 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refuse {
    /// The policy is invalid, lost a conflict, or names a section that does not exist; its status says which.
    PolicyInvalid,
    /// The connected filter is too old to decode the policy whole.
    FilterTooOld,
}

/// Cross-origin resource sharing, as the Fetch standard's CORS protocol has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cors {
    /// Origins, with `*` standing for any origin or for host labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// Methods answered to a preflight; `*` echoes the requested one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Request header names answered to a preflight; `*` echoes the requested ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Response header names that scripts may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// How long a preflight's answer may be kept, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// Whether credentialed requests are allowed.
    #[serde(default)]
    pub allow_credentials: bool,
}

/// API key authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    /// Where a key is looked for, in this order.
    pub extract_from: Vec<KeySource>,
    /// The request header that carries the client's id to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_client_id_header: Option<String>,
    /// Whether every configured source is removed from the request before it is forwarded.
    #[serde(default)]
    pub sanitize: bool,
}

/// One place of a request that may hold an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// A header, by its case-insensitive name.
    Header(String),
    /// A query parameter, by its case-sensitive, percent-decoded name.
    Param(String),
    /// A cookie, by its case-sensitive name.
    Cookie(String),
}

/// Ordered rules; the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authorization {
    /// What happens to a request that no rule matches.
    pub default_action: Action,
    /// The rules, first match wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// The effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The request goes on.
    Allow,
    /// The request is refused with 403.
    Deny,
}

/// One authorization rule: all its parts must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The rule's name for logs and explanations; never empty.
    pub name: String,
    /// The effect.
    pub action: Action,
    /// Client addresses, in CIDR notation; one of them must hold the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_cidrs: Vec<String>,
}

/// The part of a policy that no configuration dump may show.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// A value per policy that makes the hash of a readable document useless for guessing secrets; hex.
    pub salt: String,
    /// API clients with the SHA-256 of their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<ApiClient>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets([redacted])")
    }
}

/// One API client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiClient {
    /// The client's id: the entry's name in its Kubernetes Secret.
    pub id: String,
    /// SHA-256 of the key's bytes, 64 lower-case hex digits.
    pub sha256: String,
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
