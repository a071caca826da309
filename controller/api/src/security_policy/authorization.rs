//! Rules on who may do what.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{pattern::CIDR, rules::principal_present};

/// Rules on who may do what; an empty object refuses every request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The rules, in order; the first one that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AuthorizationRule>,
    /// What happens when no rule matches; `Deny` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<AuthorizationAction>,
}

/// One rule: it matches when its operation, its principal and its expression all do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.principal) || has(self.cel)")
    .message("at least one of principal or cel must be specified"))]
pub struct AuthorizationRule {
    /// A name for logs and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// What a match does.
    pub action: AuthorizationAction,
    /// What the request does; every operation when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Who sends the request; everybody when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// A CEL expression over the request; it matches when it yields true, an error does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub cel: Option<String>,
}

/// What the match of a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthorizationAction {
    /// The request passes.
    Allow,
    /// The request is refused.
    Deny,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a request does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.methods) || has(self.path)")
    .message("at least one of methods or path must be specified"))]
pub struct Operation {
    /// The methods, any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub methods: Vec<HttpMethod>,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
}

/// A request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// CONNECT.
    Connect,
    /// OPTIONS.
    Options,
    /// TRACE.
    Trace,
    /// PATCH.
    Patch,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A test on the path of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// How the path is compared.
    #[serde(default)]
    pub r#type: PathMatchType,
    /// What it is compared with.
    #[serde(default = "root")]
    #[schemars(length(max = 1024))]
    pub value: String,
    /// Whether the test holds when the comparison does not.
    #[serde(default)]
    pub invert: bool,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Whole leading segments of the path.
    #[default]
    PathPrefix,
    /// An RE2 expression on path and query, matched as a whole.
    RegularExpression,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Who sends a request; all parts that are present must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = principal_present())]
pub struct Principal {
    /// Address ranges of the client, any of them.
    #[serde(rename = "clientCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1),
        inner(regex(
            pattern = CIDR
        ))
    )]
    pub client_cidrs: Vec<String>,
    /// Claims and scopes of the verified token; needs `jwt` in the same policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtPrincipal>,
    /// Request headers, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    pub headers: Vec<AuthorizationHeaderMatch>,
    /// Where the client's address is registered, any of them.
    #[serde(rename = "clientIPGeoLocations", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub client_ip_geo_locations: Vec<ClientIpGeoLocation>,
    /// The verified certificate of the client. Only an AccessPolicy has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificatePrincipal>,
}

/// Names in the verified certificate of a client: one of each kind that is listed. Of several names of a kind in a certificate
/// only the first is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.uriSANs) || has(self.dnsSANs) || has(self.subjects)")
    .message("at least one of uriSANs, dnsSANs, or subjects must be specified"))]
pub struct CertificatePrincipal {
    /// URIs, such as SPIFFE IDs, any of them.
    #[serde(rename = "uriSANs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 128))]
    pub uri_sans: Vec<UriMatch>,
    /// DNS names in any case, any of them; no wildcards. Not in rules that deny: the name may be one that is not seen.
    #[serde(rename = "dnsSANs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 253)))]
    pub dns_sans: Vec<String>,
    /// Subjects as RFC 2253 writes them, such as `CN=orders,O=shop`, any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 1024)))]
    pub subjects: Vec<String>,
}

/// A test on a URI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UriMatch {
    /// How the URI is compared.
    #[serde(default)]
    pub r#type: UriMatchType,
    /// What it is compared with, such as `spiffe://example.org/ns/shop/sa/orders`.
    #[schemars(length(min = 1, max = 2048))]
    pub value: String,
}

/// How a URI is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UriMatchType {
    /// The whole URI.
    #[default]
    Exact,
    /// The authority and whole leading segments of the path: `spiffe://example.org` is a whole trust domain.
    Prefix,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A request header with one of several values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationHeaderMatch {
    /// The name of the header, in any case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The values, any of them, exactly.
    #[schemars(length(min = 1, max = 256))]
    pub values: Vec<String>,
}

/// Claims and scopes of a verified token; all of them must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.claims) || has(self.scopes))")
    .message("at least one of claims or scopes must be specified"))]
pub struct JwtPrincipal {
    /// The provider, of those under `jwt`, that verified the token.
    #[schemars(length(min = 1, max = 253))]
    pub provider: String,
    /// Claims, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub claims: Vec<JwtClaim>,
    /// Scopes (RFC 8693 `scope`, or `scp`), all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub scopes: Vec<String>,
}

/// A claim with one of several values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtClaim {
    /// The name; dots separate the names of nested objects.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Whether the claim is a string or a list of strings.
    #[serde(default)]
    pub value_type: JwtClaimValueType,
    /// The values, any of them.
    #[schemars(length(min = 1, max = 128))]
    pub values: Vec<String>,
}

/// The type of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JwtClaimValueType {
    /// A string.
    #[default]
    String,
    /// A list of strings.
    StringArray,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a geography database says of an address; all parts that are present must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.country) || has(self.region) || has(self.city) || has(self.asn) || has(self.isp) || has(self.anonymous)")
    .message("at least one of country, region, city, asn, isp, or anonymous must be specified"))]
pub struct ClientIpGeoLocation {
    /// The country (ISO 3166-1, two letters).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 2), regex(pattern = r"^[A-Za-z]{2}$"))]
    pub country: Option<String>,
    /// The region (ISO 3166-2 without the country).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: Option<String>,
    /// The city, in English.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub city: Option<String>,
    /// The number of the autonomous system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub asn: Option<i32>,
    /// The internet service provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub isp: Option<String>,
    /// Whether the address hides its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<AnonymousMatch>,
}

/// Whether an address hides its user; all parts that are present must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.isAnonymous) || has(self.isVPN) || has(self.isHosting) || has(self.isTor) || has(self.isProxy)")
    .message("at least one of isAnonymous, isVPN, isHosting, isTor, or isProxy must be specified"))]
pub struct AnonymousMatch {
    /// Anonymous in any way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_anonymous: Option<bool>,
    /// A virtual private network.
    #[serde(rename = "isVPN", skip_serializing_if = "Option::is_none")]
    pub is_vpn: Option<bool>,
    /// A hosting provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_hosting: Option<bool>,
    /// A Tor exit node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_tor: Option<bool>,
    /// A public proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_proxy: Option<bool>,
}

fn root() -> String {
    "/".to_owned()
}
