//! `SecurityPolicy` of `gateway.envoyproxy.io/v1alpha1`: the schema, the defaults and the CEL rules of Envoy Gateway 1.9.

mod api_key_auth;
mod authorization;
mod basic_auth;
mod cors;
mod csrf;
mod ext_auth;
mod jwt;
mod oidc;
mod target;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    api_key_auth::{ApiKeyAuth, ExtractFrom},
    authorization::{
        AnonymousMatch, Authorization, AuthorizationAction, AuthorizationHeaderMatch, AuthorizationRule,
        CertificatePrincipal, ClientIpGeoLocation, HttpMethod, JwtClaim, JwtClaimValueType, JwtPrincipal, Operation,
        PathMatch, PathMatchType, Principal, UriMatch, UriMatchType,
    },
    basic_auth::BasicAuth,
    cors::Cors,
    csrf::{Csrf, Fraction},
    ext_auth::{
        BodyToExtAuth, ContextExtension, ContextExtensionType, ContextExtensionValueRef, ExtAuth, GrpcExtAuthService,
        HttpExtAuthService,
    },
    jwt::{ClaimToHeader, Jwt, JwtExtractor, JwtHeaderExtractor, JwtProvider, LocalJwks, LocalJwksType, RemoteJwks},
    oidc::{
        Oidc, OidcCookieConfig, OidcCookieNames, OidcDenyRedirect, OidcDenyRedirectHeader, OidcProvider,
        OidcTokenForwarding, SameSite, StringMatchType,
    },
    target::{NamespacesFrom, PolicyTargetReference, SelectorNamespaces, TargetSelector},
};
use crate::status::PolicyStatus;

/// What a SecurityPolicy asks for. Absent features are off; a policy without any feature is legal and takes its slot.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "SecurityPolicy",
    plural = "securitypolicies",
    shortname = "sp",
    category = "envoy-gateway",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Who may reach a Gateway, a listener, a route or a rule of a route.",
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.targetRef) && !has(self.targetRefs)) || (!has(self.targetRef) && has(self.targetRefs)) || (has(self.targetSelectors) && self.targetSelectors.size() > 0)")
        .message("either targetRef or targetRefs must be used"),
    validation = Rule::new("has(self.targetRef) ? self.targetRef.group == 'gateway.networking.k8s.io' : true")
        .message("this policy can only have a targetRef.group of gateway.networking.k8s.io"),
    validation = Rule::new("has(self.targetRef) ? self.targetRef.kind in ['Gateway', 'ListenerSet', 'HTTPRoute', 'GRPCRoute', 'TCPRoute'] : true")
        .message("this policy can only have a targetRef.kind of Gateway/ListenerSet/HTTPRoute/GRPCRoute/TCPRoute"),
    validation = Rule::new("has(self.targetRefs) ? self.targetRefs.all(ref, ref.group == 'gateway.networking.k8s.io') : true")
        .message("this policy can only have a targetRefs[*].group of gateway.networking.k8s.io"),
    validation = Rule::new("has(self.targetRefs) ? self.targetRefs.all(ref, ref.kind in ['Gateway', 'ListenerSet', 'HTTPRoute', 'GRPCRoute', 'TCPRoute']) : true")
        .message("this policy can only have a targetRefs[*].kind of Gateway/ListenerSet/HTTPRoute/GRPCRoute/TCPRoute"),
    validation = Rule::new("!has(self.mergeType) || ((!has(self.targetRef) || self.targetRef.kind in ['HTTPRoute', 'GRPCRoute', 'TCPRoute']) && (!has(self.targetRefs) || self.targetRefs.all(ref, ref.kind in ['HTTPRoute', 'GRPCRoute', 'TCPRoute'])) && (!has(self.targetSelectors) || self.targetSelectors.all(sel, sel.kind in ['HTTPRoute', 'GRPCRoute', 'TCPRoute'])))")
        .message("mergeType can only be used with xRoute targets"),
    validation = Rule::new("(has(self.authorization) && has(self.authorization.rules) && self.authorization.rules.exists(rule, has(rule.principal) && has(rule.principal.jwt))) ? has(self.jwt) : true")
        .message("if authorization.rules.principal.jwt is used, jwt must be defined")
)]
pub struct SecurityPolicySpec {
    /// The object that the policy applies to. Deprecated: use `targetRefs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<PolicyTargetReference>,
    /// The objects that the policy applies to, in its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<PolicyTargetReference>,
    /// The objects that the policy applies to, by kind and labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_selectors: Vec<TargetSelector>,
    /// How the policy combines with the one of the route's Gateway or listener; absent, it stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != 'Replace'").message("Replace is not a valid MergeType for SecurityPolicy"))]
    pub merge_type: Option<MergeType>,
    /// Callers identify themselves by an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_auth: Option<ApiKeyAuth>,
    /// Which origins may read responses in a browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Requests that change state must come from the own origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csrf: Option<Csrf>,
    /// Callers identify themselves by user name and password (RFC 7617).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Callers present a JSON Web Token (RFC 7519).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Browsers log in at an OpenID provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
    /// A service decides on every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ext_auth: Option<ExtAuth>,
    /// Rules on who may do what; the first rule that matches decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// How a policy combines with the one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MergeType {
    /// Kubernetes strategic merge: maps merge, lists are replaced except where a key is declared.
    StrategicMerge,
    /// JSON merge patch (RFC 7386).
    #[serde(rename = "JSONMerge")]
    JsonMerge,
    /// No merge at all; refused for this kind.
    Replace,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
