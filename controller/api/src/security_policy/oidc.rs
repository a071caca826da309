//! Login at an OpenID provider.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cluster_settings::ClusterSettings,
    pattern::{DURATION, SUBDOMAIN},
    reference::{BackendObjectReference, BackendRef, SecretObjectReference},
    rules,
};

/// Browsers log in at an OpenID provider (OpenID Connect Core 1.0, authorization code flow).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.clientID) && !has(self.clientIDRef)) || (!has(self.clientID) && has(self.clientIDRef))")
        .message("only one of clientID or clientIDRef must be set"),
    validation = Rule::new("!(has(self.forwardAccessToken) && self.forwardAccessToken && has(self.forwardIDToken) && self.forwardIDToken.header.lowerAscii() == 'authorization')")
        .message("forwardAccessToken cannot be true when forwardIDToken.header is Authorization")
)]
pub struct Oidc {
    /// The provider.
    pub provider: OidcProvider,
    /// The client id.
    #[serde(rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub client_id: Option<String>,
    /// The Secret whose entry `client-id` is the client id.
    #[serde(rename = "clientIDRef", skip_serializing_if = "Option::is_none")]
    pub client_id_ref: Option<SecretObjectReference>,
    /// The Secret whose entry `client-secret` is the client secret.
    pub client_secret: SecretObjectReference,
    /// Names of cookies, where the generated ones do not suit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_names: Option<OidcCookieNames>,
    /// Attributes of the cookies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<OidcCookieConfig>,
    /// The domain of the cookies; the host of the request alone when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = SUBDOMAIN))]
    pub cookie_domain: Option<String>,
    /// Scopes to ask for; `openid` is always among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Resources to ask for (RFC 8707).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Where the provider sends the browser back; `/oauth2/callback` of the request's host when absent.
    #[serde(rename = "redirectURL", skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// Requests that get 401 instead of a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_redirect: Option<OidcDenyRedirect>,
    /// The path that ends the session, `/logout` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logout_path: Option<String>,
    /// Whether the backend receives the access token as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_access_token: Option<bool>,
    /// How the backend receives the ID token; not at all when absent.
    #[serde(rename = "forwardIDToken", skip_serializing_if = "Option::is_none")]
    pub forward_id_token: Option<OidcTokenForwarding>,
    /// How long tokens live when the provider does not say.
    #[serde(rename = "defaultTokenTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub default_token_ttl: Option<String>,
    /// Whether expired tokens are refreshed.
    #[serde(default = "yes", skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<bool>,
    /// How long refresh tokens live when they do not say; one week when absent.
    #[serde(rename = "defaultRefreshTokenTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub default_refresh_token_ttl: Option<String>,
    /// How long a login may take; ten minutes when absent.
    #[serde(rename = "csrfTokenTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub csrf_token_ttl: Option<String>,
    /// Whether cookies hold tokens in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_token_encryption: Option<bool>,
    /// Whether a request that already carries a token for `jwt` skips the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_through_auth_header: Option<bool>,
}

/// An OpenID provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::no_backend_ref(),
    validation = rules::no_retry_timeout(),
    validation = rules::no_retry_status_codes()
)]
pub struct OidcProvider {
    /// Not supported here; use `backendRefs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendObjectReference>,
    /// The backends that serve the provider; host and port of the token endpoint when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
    /// How connections to the backends behave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_settings: Option<ClusterSettings>,
    /// The issuer (OpenID Connect Discovery 1.0).
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// The authorization endpoint; discovered when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// The token endpoint; discovered when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// The endpoint that ends the provider's session; discovered when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_session_endpoint: Option<String>,
}

/// Requests that get 401 instead of a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcDenyRedirect {
    /// Request headers, any of them.
    #[schemars(length(min = 1, max = 16))]
    pub headers: Vec<OidcDenyRedirectHeader>,
}

/// A test on a request header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcDenyRedirectHeader {
    /// The name of the header.
    #[schemars(length(min = 1))]
    pub name: String,
    /// How the value is compared.
    #[serde(default)]
    pub r#type: StringMatchType,
    /// What it is compared with.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How a string is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StringMatchType {
    /// The whole string.
    #[default]
    Exact,
    /// Its beginning.
    Prefix,
    /// Its end.
    Suffix,
    /// An RE2 expression, matched as a whole.
    RegularExpression,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Names of cookies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcCookieNames {
    /// The cookie of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// The cookie of the ID token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
}

/// Attributes of cookies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcCookieConfig {
    /// The attribute SameSite (RFC 6265bis); not sent when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
}

/// The attribute SameSite of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SameSite {
    /// Sent on top-level navigations from other sites.
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Always sent.
    None,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How the backend receives a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcTokenForwarding {
    /// The request header; `Authorization` gets the prefix `Bearer `.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"))]
    #[x_kube(validation = Rule::new("self.lowerAscii() != 'host'").message("header cannot be the Host header"))]
    pub header: String,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn yes() -> Option<bool> {
    Some(true)
}
