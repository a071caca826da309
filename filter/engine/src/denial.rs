//! The fixed vocabulary of reasons: in metrics, access logs and the command line, never in an answer to a client.

/// Why a request ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The request passed every check.
    Allowed,
    /// The presented API key is no longer valid.
    ApiKeyExpired,
    /// The request carried no API key in any configured place.
    ApiKeyMissing,
    /// The presented API key is not one of the policy's.
    ApiKeyUnknown,
    /// No rule allowed the request, or one denied it.
    AuthorizationDenied,
    /// The `Authorization` header holds no user name and password that can be read.
    BasicMalformed,
    /// Too many passwords are being checked; the credentials were not looked at.
    BasicBusy,
    /// The request carried no user name and password.
    BasicMissing,
    /// The user is unknown or the password is wrong.
    BasicWrong,
    /// A preflight, answered.
    CorsPreflight,
    /// A preflight of an origin that the policy does not list.
    CorsOriginDenied,
    /// The request carried none of the credentials of which one is required.
    CredentialMissing,
    /// A request that changes state comes from another site.
    CsrfOriginDenied,
    /// A request that changes state does not say where it comes from.
    CsrfOriginMissing,
    /// The connected filter is too old for the policy.
    FilterTooOld,
    /// The proxy could not answer a question of the engine.
    HostFault,
    /// The token's algorithm is not one that is accepted.
    JwtAlgorithm,
    /// The token is for another audience.
    JwtAudience,
    /// The token is no longer valid.
    JwtExpired,
    /// The token's issuer is not one of the policy's.
    JwtIssuer,
    /// No key of the issuer is for the token.
    JwtKey,
    /// The keys of the issuer could not be fetched.
    JwtKeysUnavailable,
    /// The token may be valid for too long.
    JwtLifetime,
    /// What is presented as a token is none, or more than one.
    JwtMalformed,
    /// The request carried no token in any configured place.
    JwtMissing,
    /// The token is not valid yet.
    JwtNotYet,
    /// The token's signature is wrong.
    JwtSignature,
    /// The path leads elsewhere for a backend that reads it otherwise than the router.
    PathAmbiguous,
    /// The policy could not be enforced whole; its status says why.
    PolicyInvalid,
    /// The delivered policy does not hash to the route's value.
    PolicyMismatch,
    /// The route names no policy.
    PolicyMissing,
    /// The delivered policy could not be decoded or compiled.
    PolicyUndecodable,
    /// The route names a policy that was not delivered with it.
    PolicyUnknown,
}

impl Reason {
    /// Every reason, sorted by name.
    pub const ALL: &'static [Self] = &[
        Self::Allowed,
        Self::ApiKeyExpired,
        Self::ApiKeyMissing,
        Self::ApiKeyUnknown,
        Self::AuthorizationDenied,
        Self::BasicBusy,
        Self::BasicMalformed,
        Self::BasicMissing,
        Self::BasicWrong,
        Self::CorsOriginDenied,
        Self::CorsPreflight,
        Self::CredentialMissing,
        Self::CsrfOriginDenied,
        Self::CsrfOriginMissing,
        Self::FilterTooOld,
        Self::HostFault,
        Self::JwtAlgorithm,
        Self::JwtAudience,
        Self::JwtExpired,
        Self::JwtIssuer,
        Self::JwtKey,
        Self::JwtKeysUnavailable,
        Self::JwtLifetime,
        Self::JwtMalformed,
        Self::JwtMissing,
        Self::JwtNotYet,
        Self::JwtSignature,
        Self::PathAmbiguous,
        Self::PolicyInvalid,
        Self::PolicyMismatch,
        Self::PolicyMissing,
        Self::PolicyUndecodable,
        Self::PolicyUnknown,
    ];

    /// The stable name, `snake_case`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ApiKeyExpired => "api_key_expired",
            Self::ApiKeyMissing => "api_key_missing",
            Self::ApiKeyUnknown => "api_key_unknown",
            Self::AuthorizationDenied => "authorization_denied",
            Self::BasicBusy => "basic_busy",
            Self::BasicMalformed => "basic_malformed",
            Self::BasicMissing => "basic_missing",
            Self::BasicWrong => "basic_wrong",
            Self::CorsOriginDenied => "cors_origin_denied",
            Self::CorsPreflight => "cors_preflight",
            Self::CredentialMissing => "credential_missing",
            Self::CsrfOriginDenied => "csrf_origin_denied",
            Self::CsrfOriginMissing => "csrf_origin_missing",
            Self::FilterTooOld => "filter_too_old",
            Self::HostFault => "host_fault",
            Self::JwtAlgorithm => "jwt_algorithm",
            Self::JwtAudience => "jwt_audience",
            Self::JwtExpired => "jwt_expired",
            Self::JwtIssuer => "jwt_issuer",
            Self::JwtKey => "jwt_key",
            Self::JwtKeysUnavailable => "jwt_keys_unavailable",
            Self::JwtLifetime => "jwt_lifetime",
            Self::JwtMalformed => "jwt_malformed",
            Self::JwtMissing => "jwt_missing",
            Self::JwtNotYet => "jwt_not_yet",
            Self::JwtSignature => "jwt_signature",
            Self::PathAmbiguous => "path_ambiguous",
            Self::PolicyInvalid => "policy_invalid",
            Self::PolicyMismatch => "policy_mismatch",
            Self::PolicyMissing => "policy_missing",
            Self::PolicyUndecodable => "policy_undecodable",
            Self::PolicyUnknown => "policy_unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_listed_once_in_the_order_of_names() {
        let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        // The last variant's number tells how many there are.
        assert_eq!(
            Reason::ALL.iter().map(|reason| *reason as usize).max(),
            Some(names.len() - 1)
        );
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        );
    }
}
