//! JWT authentication, and what rules ask of its claims.

use serde::{Deserialize, Serialize};

/// JWT authentication (`SecurityPolicy.spec.jwt`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// Who issues tokens, 1 to 16; the first whose tokens all verify decides.
    pub providers: Vec<JwtProvider>,
    /// Whether a request without any token passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Whether a request passes whatever its tokens are; what does not verify leaves no identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_open: bool,
    /// Sets of keys that the proxy fetches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_key_sets: Vec<RemoteKeySet>,
}

/// An issuer of tokens and what is asked of them (`jwt.providers[]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtProvider {
    /// The name by which rules and logs know it; unique within the policy.
    pub name: String,
    /// The only accepted `iss`; absent for any and none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Audiences of which a token must name one; empty for no such check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The set of keys, one of [`super::Secrets::key_sets`] or of [`Jwt::remote_key_sets`].
    pub key_set: String,
    /// Where tokens are looked for; absent or empty: `Authorization` with `Bearer ` and the query parameter `access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract_from: Option<JwtSources>,
    /// Headers that carry claims to the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the route is selected again by these headers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute_route: bool,
    /// Whether a token must have an `exp` (`AccessPolicy` only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_expiration: bool,
    /// The longest that a token may be valid, in seconds; includes [`Self::require_expiration`] (`AccessPolicy` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<u64>,
    /// By how much the clocks of issuer and proxy may differ, in seconds; absent for 60 (`AccessPolicy` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew: Option<u64>,
    /// The accepted algorithms by their names in RFC 7518 and RFC 8037; empty for all (`AccessPolicy` only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// Whether the places that held tokens are removed from the request (`AccessPolicy` only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strip_token: bool,
}

/// The places of a request in which a provider's tokens are looked for (`jwt.providers[].extractFrom`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtSources {
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<JwtHeader>,
    /// Cookies, by their case-sensitive names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// Query parameters, by their case-sensitive, percent-decoded names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<String>,
}

/// A header that may hold a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtHeader {
    /// The name, compared without case.
    pub name: String,
    /// What stands before the token; absent where the whole value is the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_prefix: Option<String>,
}

/// A claim that a header carries to the backend (`jwt.providers[].claimToHeaders[]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimToHeader {
    /// The header's name.
    pub header: String,
    /// The claim's name; one within an object is named by both names with a dot between them.
    pub claim: String,
}

/// What a rule asks of a verified token (`authorization.rules[].principal.jwt`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtPrincipal {
    /// The provider that must have verified it, one of [`JwtProvider::name`].
    pub provider: String,
    /// Claims; all of them must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimMatch>,
    /// Scopes; each must be in `scope` or in `scp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A condition on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimMatch {
    /// The claim's name, as in [`ClaimToHeader::claim`].
    pub name: String,
    /// What the claim must be.
    pub value_type: ClaimType,
    /// Values; one of them must be the claim's, or one of the claim's.
    pub values: Vec<String>,
}

/// What the claim of a [`ClaimMatch`] must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimType {
    /// A text, a number or a boolean.
    String,
    /// A list of these.
    StringArray,
}

/// A set of keys.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySet {
    /// The name by which providers know it.
    pub id: String,
    /// The JSON Web Key Set (RFC 7517 §5).
    pub jwks: String,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A set of keys that the proxy fetches (`jwt.providers[].remoteJWKS`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteKeySet {
    /// The name by which providers know it: a hash of its address and of everything that decides who answers there. Policies
    /// that name the same one share its keys.
    pub id: String,
    /// The proxy's cluster.
    pub cluster: String,
    /// The `:authority` of a fetch.
    pub authority: String,
    /// The `:path` of a fetch.
    pub path: String,
    /// After how long keys are fetched anew, in seconds (`remoteJWKS.cacheDuration`).
    pub interval: u64,
    /// After how long a failed fetch is repeated, in seconds (`remoteJWKS.failedRefetchDuration`).
    pub retry_interval: u64,
    /// How long a fetch may take, in milliseconds.
    pub timeout: u64,
}
