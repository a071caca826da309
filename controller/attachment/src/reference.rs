//! Secrets that policies refer to, and the grants that such references need.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::Secret;
use portcullis_api::reference::SecretObjectReference;

use crate::{
    object::{self, PolicyKind},
    snapshot::Snapshot,
};

/// Finds Secrets and tests grants in constant time.
pub(crate) struct References<'a> {
    secrets: HashMap<(&'a str, &'a str), &'a Secret>,
    grants: HashSet<Grant<'a>>,
}

/// What a policy of one kind and namespace may refer to in another.
#[derive(PartialEq, Eq, Hash)]
struct Grant<'a> {
    policy: PolicyKind,
    from: &'a str,
    to: &'a str,
    group: &'a str,
    kind: &'a str,
    /// Any object, if absent.
    name: Option<&'a str>,
}

/// Why a reference cannot be followed.
pub(crate) struct Unresolved {
    pub(crate) code: &'static str,
    /// The text of Envoy Gateway's condition for it.
    pub(crate) message: String,
    pub(crate) fix: String,
}

impl<'a> References<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let secrets = snapshot
            .secrets
            .iter()
            .map(|secret| {
                let key = (object::namespace(&secret.metadata), object::name(&secret.metadata));
                (key, secret.as_ref())
            })
            .collect();
        let mut grants = HashSet::new();
        for grant in &snapshot.reference_grants {
            for from in &grant.spec.from {
                let policy = [PolicyKind::SecurityPolicy, PolicyKind::AccessPolicy]
                    .into_iter()
                    .find(|kind| from.group == kind.group() && from.kind == kind.name());
                let Some(policy) = policy else { continue };
                for to in &grant.spec.to {
                    grants.insert(Grant {
                        policy,
                        from: &from.namespace,
                        to: object::namespace(&grant.metadata),
                        group: &to.group,
                        kind: &to.kind,
                        // An empty name is an absent one (`ReferenceGrantTo.name`).
                        name: to.name.as_deref().filter(|name| !name.is_empty()),
                    });
                }
            }
        }
        Self { secrets, grants }
    }

    /// Whether policies of a kind in namespace `from` may refer to that object of namespace `to`.
    pub(crate) fn permits(
        &self,
        policy: PolicyKind,
        from: &str,
        to: &str,
        group: &str,
        kind: &str,
        name: &str,
    ) -> bool {
        let grant = |name| Grant {
            policy,
            from,
            to,
            group,
            kind,
            name,
        };
        from == to || self.grants.contains(&grant(None)) || self.grants.contains(&grant(Some(name)))
    }

    /// Follows a policy's reference to a Secret; the grant is tested before existence, which would leak otherwise.
    pub(crate) fn secret(
        &self,
        policy: PolicyKind,
        policy_namespace: &str,
        reference: &SecretObjectReference,
    ) -> Result<&'a Secret, Unresolved> {
        if !reference.group.is_empty() || reference.kind != "Secret" {
            return Err(Unresolved {
                code: "unsupported-reference",
                message: format!("unsupported reference to {} {:?}", reference.kind, reference.group),
                fix: "refer to a Secret of the core group".to_owned(),
            });
        }
        let namespace = reference.namespace.as_deref().unwrap_or(policy_namespace);
        let name = reference.name.as_str();
        if !self.permits(policy, policy_namespace, namespace, "", "Secret", name) {
            return Err(Unresolved {
                code: "reference-not-permitted",
                message: format!("ref to Secret {namespace}/{name} not permitted by any ReferenceGrant"),
                fix: format!(
                    "add a ReferenceGrant to namespace {namespace} from {} in {policy_namespace} to Secret {name}",
                    policy.name()
                ),
            });
        }
        self.secrets.get(&(namespace, name)).copied().ok_or_else(|| Unresolved {
            code: "secret-not-found",
            message: format!("secret {namespace}/{name} does not exist"),
            fix: format!("create Secret {namespace}/{name}"),
        })
    }
}

/// A Secret's entries by key; `stringData`, which only manifests have, wins over `data` as in the API server.
pub(crate) fn entries(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = secret.data.iter().flatten();
    let strings = secret.string_data.iter().flatten();
    data.map(|(key, value)| (key.as_str(), value.0.as_slice()))
        .chain(strings.map(|(key, value)| (key.as_str(), value.as_bytes())))
        .collect()
}
