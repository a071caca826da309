//! The fixed vocabulary of reasons: in metrics, access logs and the command line, never in an answer to a client.

/// Why a request ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The request passed every check.
    Allowed,
    /// The request carried no API key in any configured place.
    ApiKeyMissing,
    /// The presented API key is not one of the policy's.
    ApiKeyUnknown,
    /// No rule allowed the request, or one denied it.
    AuthorizationDenied,
    /// A preflight, answered.
    CorsPreflight,
    /// A preflight of an origin that the policy does not list.
    CorsOriginDenied,
    /// The connected filter is too old for the policy.
    FilterTooOld,
    /// The proxy could not answer a question of the engine.
    HostFault,
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
        Self::ApiKeyMissing,
        Self::ApiKeyUnknown,
        Self::AuthorizationDenied,
        Self::CorsOriginDenied,
        Self::CorsPreflight,
        Self::FilterTooOld,
        Self::HostFault,
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
            Self::ApiKeyMissing => "api_key_missing",
            Self::ApiKeyUnknown => "api_key_unknown",
            Self::AuthorizationDenied => "authorization_denied",
            Self::CorsPreflight => "cors_preflight",
            Self::CorsOriginDenied => "cors_origin_denied",
            Self::FilterTooOld => "filter_too_old",
            Self::HostFault => "host_fault",
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
