//! Headers by which verified claims select routes (`recomputeRoute`).

use std::collections::BTreeSet;

use portcullis_api::security_policy::SecurityPolicySpec;

/// What a policy says of the headers by which its claims select routes. It counts whether or not the policy can be enforced: the
/// rules behind these headers must not open because the policy that guards them is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selecting {
    /// The headers that it sets and no client may, in lower case and with `-` for `_`; nothing if the policy cannot be read.
    pub headers: Option<BTreeSet<String>>,
    /// Whether it bears on routes of every namespace: it is a Gateway's or a ListenerSet's.
    pub everywhere: bool,
}

impl Selecting {
    /// The headers of a policy as it is written; nothing if no claim of its tokens selects a route.
    pub(crate) fn headers(spec: &SecurityPolicySpec) -> Option<BTreeSet<String>> {
        let jwt = spec.jwt.as_ref()?;
        if !jwt
            .providers
            .iter()
            .any(|provider| provider.recompute_route == Some(true))
        {
            return None;
        }
        let claims = jwt.providers.iter().flat_map(|provider| &provider.claim_to_headers);
        let client = spec
            .api_key_auth
            .as_ref()
            .and_then(|auth| auth.forward_client_id_header.as_ref());
        let user = spec
            .basic_auth
            .as_ref()
            .and_then(|auth| auth.forward_username_header.as_ref());
        let names = claims.map(|claim| &claim.header).chain(client).chain(user);
        Some(names.map(|name| backend_name(name)).collect())
    }
}

/// Returns the name of a header as a backend may read it: in lower case, and with `-` for `_`.
#[must_use]
pub fn backend_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}
