//! The wire form of a policy: what the controller writes beside a route and the filter reads.
//!
//! A [`Document`] is readable by anyone who can read Envoy's configuration dump; whatever must not be read there is in
//! [`Secrets`], which travels in a redacted resource. Both refuse unknown fields: a filter that does not know a
//! restriction must deny, never leave it out.

mod expression;
mod jwt;
pub(crate) mod read;

use serde::{Deserialize, Serialize};

use crate::texts::Texts;

pub use expression::{Each, Expression, Node};
pub use jwt::{
    ClaimMatch, ClaimToHeader, ClaimType, Jwt, JwtHeader, JwtPrincipal, JwtProvider, JwtSources, KeySet, RemoteKeySet,
};

/// The version of the wire form that this build writes, and the newest one that it reads.
pub const VERSION: u32 = 1;

/// The largest accepted serialized document together with its secrets, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// One policy as it is delivered: everything about it that is no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Protection against cross-site request forgery (`SecurityPolicy.spec.csrf`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Csrf>,
    /// API key authentication (`SecurityPolicy.spec.apiKeyAuth`); the keys are in [`Secrets::api_keys`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
    /// Basic authentication (`SecurityPolicy.spec.basicAuth`); the users are in [`Secrets::users`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// JWT authentication (`SecurityPolicy.spec.jwt`); the keys are in [`Secrets::key_sets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Authentication methods of this policy of which one must succeed; those not listed must succeed each
    /// (`AccessPolicy.spec.anyOf`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_of: Vec<Method>,
    /// Authorization (`SecurityPolicy.spec.authorization`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// A policy that must admit the request as well (`AccessPolicy.spec.baseline` of the Gateway); holds neither CORS nor
    /// another policy. Its secrets are [`Secrets::baseline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Box<Self>>,
    /// A policy that is evaluated and changes nothing (`AccessPolicy.spec.shadow`); holds no other policy. Its secrets are
    /// [`Secrets::shadow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<Self>>,
}

/// An authentication method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// [`Document::api_key`].
    ApiKey,
    /// [`Document::basic_auth`].
    BasicAuth,
    /// [`Document::jwt`].
    Jwt,
}

/// Why every request of a route is refused with 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refuse {
    /// The policy is invalid, lost a conflict, or names a section that does not exist; its status says which.
    PolicyInvalid,
    /// The connected filter is too old to decode the policy whole.
    FilterTooOld,
}

/// Cross-origin resource sharing, as the Fetch standard's CORS protocol has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Protection against cross-site request forgery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Csrf {
    /// Origins that may send requests beside the request's own, in the syntax of [`Cors::allow_origins`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_origins: Vec<String>,
    /// The share of requests that is evaluated and let through whatever comes out; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_fraction: Option<Fraction>,
}

/// A share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fraction {
    /// At most the denominator.
    pub numerator: u32,
    /// At least one.
    pub denominator: u32,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// The request header that carries the user's name to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_username_header: Option<String>,
}

/// API key authentication.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authorization {
    /// What happens to a request that no rule matches.
    pub default_action: Action,
    /// The rules, first match wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// The effect of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The request goes on.
    Allow,
    /// The request is refused with 403.
    Deny,
}

/// One authorization rule: all its parts must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The rule's name for logs and explanations; never empty.
    pub name: String,
    /// The effect.
    pub action: Action,
    /// Client addresses, in CIDR notation; one of them must hold the client.
    #[serde(default, skip_serializing_if = "Texts::is_empty")]
    pub client_cidrs: Texts,
    /// Places; one of them must hold the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub geo_locations: Vec<GeoLocation>,
    /// What the verified certificate of the client must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificatePrincipal>,
    /// Methods, compared without case; one of them must be the request's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers; all of them must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// A condition on all that is known of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cel: Option<Expression>,
    /// What a verified token must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtPrincipal>,
}

/// A place, as databases tell it of a client's address (`authorization.rules[].principal.clientIPGeoLocations[]`): all parts that
/// are there must hold, and one must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeoLocation {
    /// The country's two letters (ISO 3166-1), compared without case as all names here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The largest part of the country (ISO 3166-2, without the country).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The city, in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// The number of the autonomous system, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// The internet service provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isp: Option<String>,
    /// Whether the address hides its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
}

/// How an address hides its user: all parts that are there must be as they say, and one must be there. An address that no database
/// knows hides nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Anonymous {
    /// In any way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_anonymous: Option<bool>,
    /// In a virtual private network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_vpn: Option<bool>,
    /// At a hosting provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_hosting: Option<bool>,
    /// Behind a Tor exit node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_tor: Option<bool>,
    /// Behind a public proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_proxy: Option<bool>,
}

/// What a rule asks of the certificate of a client (`authorization.rules[].principal.clientCertificate`): one value of each
/// kind that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificatePrincipal {
    /// URIs (RFC 5280 §4.2.1.6), such as SPIFFE IDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uri_sans: Vec<UriMatch>,
    /// DNS names, compared without case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_sans: Vec<String>,
    /// Subjects as text (RFC 2253), such as `CN=orders,O=shop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
}

/// A condition on a URI of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UriMatch {
    /// How the value is read.
    pub r#type: UriMatchType,
    /// A URI, or its beginning.
    pub value: String,
}

/// How the value of a [`UriMatch`] is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UriMatchType {
    /// The URI itself.
    Exact,
    /// The URI and everything below it.
    Prefix,
}

/// A condition on a request's path (`authorization.rules[].operation.path`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// How the value is read.
    pub r#type: PathMatchType,
    /// A path, a prefix of whole segments, or a regular expression of RE2 for path and query.
    pub value: String,
    /// Whether the paths are meant that do not match.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
}

/// How the value of a [`PathMatch`] is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathMatchType {
    /// The path itself.
    Exact,
    /// The path and everything below it.
    PathPrefix,
    /// A regular expression of RE2 that must match path and query as a whole.
    RegularExpression,
}

/// A condition on a request header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// The name, compared without case.
    pub name: String,
    /// Values; one of them must be the header's.
    pub values: Vec<String>,
}

/// The part of a policy that no configuration dump may show.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// A value per policy that makes the hash of a readable document useless for guessing secrets; hex.
    pub salt: String,
    /// API clients with the SHA-256 of their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<ApiClient>,
    /// Users with the hashes of their passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Sets of keys that tokens are verified with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_sets: Vec<KeySet>,
    /// The secrets of [`Document::baseline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Box<Self>>,
    /// The secrets of [`Document::shadow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<Self>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets([redacted])")
    }
}

/// One API client.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiClient {
    /// The client's id: the entry's name in its Kubernetes Secret.
    pub id: String,
    /// SHA-256 of the key's bytes, 64 lower-case hex digits.
    pub sha256: String,
    /// The first moment at which the key is refused, in seconds since 1970; absent for never (`AccessPolicy.spec.apiKeyExpiry`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
}

/// One user.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// The name, without a colon.
    pub name: String,
    /// The hash as in an `.htpasswd` file: `{SHA}...`, `$2y$...`, `$apr1$...`, `$5$...` or `$6$...`.
    pub hash: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
