//! The answer that each reason calls for.

use crate::{denial::Reason, step::LocalReply};

/// Makes the answer that a reason calls for, as an adapter gives it when there is no policy to decide by.
#[must_use]
pub const fn refuse(reason: Reason) -> LocalReply {
    let (status, body): (u16, &'static [u8]) = match reason {
        Reason::CorsPreflight => (200, b""),
        Reason::ApiKeyExpired | Reason::ApiKeyMissing | Reason::ApiKeyUnknown | Reason::CredentialMissing => {
            (401, b"Client authentication failed.")
        }
        Reason::BasicMalformed => (401, b"User authentication failed. Invalid basic credential format."),
        Reason::BasicMissing => (401, b"User authentication failed. Missing username and password."),
        Reason::BasicWrong => (
            401,
            b"User authentication failed. Invalid username/password combination.",
        ),
        Reason::CsrfOriginDenied | Reason::CsrfOriginMissing => (403, b"Invalid origin"),
        Reason::JwtAlgorithm => (401, b"Jwt header [alg] is not supported"),
        Reason::JwtAudience => (403, b"Audiences in Jwt are not allowed"),
        Reason::JwtExpired => (401, b"Jwt is expired"),
        Reason::JwtIssuer => (401, b"Jwt issuer is not configured"),
        Reason::JwtKey => (401, b"Jwks doesn't have key to match kid or alg from Jwt"),
        Reason::JwtLifetime => (401, b"Jwt lifetime is not allowed"),
        Reason::JwtMalformed => (401, b"Jwt is malformed"),
        Reason::JwtMissing => (401, b"Jwt is missing"),
        Reason::JwtNotYet => (401, b"Jwt not yet valid"),
        Reason::JwtSignature => (401, b"Jwt verification fails"),
        Reason::BasicBusy => (503, b""),
        Reason::JwtKeysUnavailable => (503, b"Jwks remote fetch is failed"),
        Reason::AuthorizationDenied => (403, b"RBAC: access denied"),
        Reason::CorsOriginDenied => (403, b""),
        Reason::PathAmbiguous => (400, b""),
        Reason::HostFault => (503, b""),
        // `Allowed` is no reason to answer: whoever does so has a fault.
        Reason::Allowed
        | Reason::FilterTooOld
        | Reason::PolicyInvalid
        | Reason::PolicyMismatch
        | Reason::PolicyMissing
        | Reason::PolicyUndecodable
        | Reason::PolicyUnknown => (500, b""),
    };
    LocalReply {
        status,
        headers: Vec::new(),
        body,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answered_preflight_is_no_refusal() {
        for reason in Reason::ALL {
            let reply = refuse(*reason);
            assert_eq!(reply.reason, *reason);
            let expected: (u16, &[u8]) = match reason.as_str() {
                "cors_preflight" => (200, b""),
                "api_key_expired" | "api_key_missing" | "api_key_unknown" | "credential_missing" => {
                    (401, b"Client authentication failed.")
                }
                "basic_malformed" => (401, b"User authentication failed. Invalid basic credential format."),
                "basic_missing" => (401, b"User authentication failed. Missing username and password."),
                "basic_wrong" => (
                    401,
                    b"User authentication failed. Invalid username/password combination.",
                ),
                "csrf_origin_denied" | "csrf_origin_missing" => (403, b"Invalid origin"),
                "jwt_algorithm" => (401, b"Jwt header [alg] is not supported"),
                "jwt_audience" => (403, b"Audiences in Jwt are not allowed"),
                "jwt_expired" => (401, b"Jwt is expired"),
                "jwt_issuer" => (401, b"Jwt issuer is not configured"),
                "jwt_keys_unavailable" => (503, b"Jwks remote fetch is failed"),
                "jwt_key" => (401, b"Jwks doesn't have key to match kid or alg from Jwt"),
                "jwt_lifetime" => (401, b"Jwt lifetime is not allowed"),
                "jwt_malformed" => (401, b"Jwt is malformed"),
                "jwt_missing" => (401, b"Jwt is missing"),
                "jwt_not_yet" => (401, b"Jwt not yet valid"),
                "jwt_signature" => (401, b"Jwt verification fails"),
                "authorization_denied" => (403, b"RBAC: access denied"),
                "cors_origin_denied" => (403, b""),
                "path_ambiguous" => (400, b""),
                "basic_busy" | "host_fault" => (503, b""),
                _ => (500, b""),
            };
            assert_eq!((reply.status, reply.body), expected, "{reason:?}");
        }
    }
}
