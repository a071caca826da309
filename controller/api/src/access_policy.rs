//! `AccessPolicy` of `portcullis.dev/v1alpha1`: a SecurityPolicy with what Envoy Gateway's schema has no room for.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    pattern::{DURATION, RFC_3339},
    security_policy::SecurityPolicySpec,
    status::PolicyStatus,
};

/// What an AccessPolicy asks for: everything that a SecurityPolicy can, and more.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    plural = "accesspolicies",
    shortname = "ap",
    category = "portcullis",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Who may reach a Gateway, a listener, a route or a rule of a route: a SecurityPolicy and more.",
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.anyOf) || self.anyOf.all(one, self.anyOf.exists_one(other, other == one))")
        .message("anyOf must name each method once"),
    validation = Rule::new("!has(self.anyOf) || has(self.mergeType) || self.anyOf.all(method, (method == 'apiKeyAuth' && has(self.apiKeyAuth)) || (method == 'basicAuth' && has(self.basicAuth)) || (method == 'jwt' && has(self.jwt)))")
        .message("anyOf can only name methods that the policy has"),
    validation = Rule::new("!has(self.apiKeyExpiry) || has(self.mergeType) || has(self.apiKeyAuth)")
        .message("apiKeyExpiry can only be used with apiKeyAuth"),
    validation = Rule::new("!has(self.tokenRequirements) || has(self.mergeType) || has(self.jwt)")
        .message("tokenRequirements can only be used with jwt"),
    validation = Rule::new("!has(self.baseline) || !self.baseline || ((!has(self.targetRef) || (self.targetRef.kind == 'Gateway' && !has(self.targetRef.sectionName))) && (!has(self.targetRefs) || self.targetRefs.all(ref, ref.kind == 'Gateway' && !has(ref.sectionName))) && (!has(self.targetSelectors) || self.targetSelectors.all(sel, sel.kind == 'Gateway')))")
        .message("baseline can only be used with Gateway targets without sectionName"),
    validation = Rule::new("!has(self.baseline) || !self.baseline || !has(self.cors)")
        .message("baseline cannot be used with cors"),
    validation = Rule::new("!has(self.baseline) || !self.baseline || !has(self.shadow) || !self.shadow")
        .message("baseline and shadow exclude each other"),
    validation = Rule::new("!has(self.mergeType) || ((!has(self.baseline) || !self.baseline) && (!has(self.shadow) || !self.shadow))")
        .message("mergeType cannot be used with baseline or shadow")
)]
pub struct AccessPolicySpec {
    /// What a SecurityPolicy can ask for.
    #[serde(flatten)]
    pub policy: SecurityPolicySpec,
    /// What only an AccessPolicy can ask for.
    #[serde(flatten)]
    pub extension: Extension,
}

/// What only an AccessPolicy can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Extension {
    /// Authentication methods of this policy of which one is enough; those that are not listed must succeed each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 2, max = 3))]
    pub any_of: Vec<AuthenticationMethod>,
    /// Whether every route of the Gateway must satisfy this policy as well as its own; what either denies is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<bool>,
    /// Whether the policy is only evaluated and its disagreements counted, while requests are treated as if it were not
    /// there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
    /// When the API keys of clients end to be valid; those of other clients do not end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 1024),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["clientID"])
    )]
    pub api_key_expiry: Vec<ApiKeyExpiry>,
    /// What is asked of the tokens of providers beyond what `jwt` can say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["provider"])
    )]
    pub token_requirements: Vec<TokenRequirement>,
}

impl Extension {
    /// Whether [`Extension::baseline`] is set.
    #[must_use]
    pub fn is_baseline(&self) -> bool {
        self.baseline.unwrap_or_default()
    }

    /// Whether [`Extension::shadow`] is set.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.shadow.unwrap_or_default()
    }
}

/// An authentication method, by the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthenticationMethod {
    /// `apiKeyAuth`.
    ApiKeyAuth,
    /// `basicAuth`.
    BasicAuth,
    /// `jwt`.
    Jwt,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What is asked of the tokens of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequirement {
    /// The provider, of those under `jwt`.
    #[schemars(length(min = 1, max = 253))]
    pub provider: String,
    /// Whether a token must have an `exp`; without one a token never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_expiration: Option<bool>,
    /// The longest that a token may be valid, from `iat`, or `nbf`, to `exp`; includes `requireExpiration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub max_lifetime: Option<String>,
    /// By how much the clocks of issuer and proxy may differ, less than an hour; one minute when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub clock_skew: Option<String>,
    /// The accepted algorithms (RFC 7518 §3.1, RFC 8037), such as `RS256`; all that are supported when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 16)))]
    pub algorithms: Vec<String>,
    /// Whether the backend does not get the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_token: Option<bool>,
}

/// When the API key of a client ends to be valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyExpiry {
    /// The client: the name of an entry in one of the Secrets under `apiKeyAuth.credentialRefs`.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 253))]
    pub client_id: String,
    /// The first moment at which the key is refused (RFC 3339), such as `2027-01-31T00:00:00Z`.
    #[schemars(length(max = 40), regex(pattern = RFC_3339))]
    pub not_after: String,
}
