//! Secrets and ConfigMaps that policies refer to, and the grants that such references need.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use portcullis_api::reference::SecretObjectReference;

use crate::{
    memo::same,
    object::{self, PolicyKind},
    snapshot::Snapshot,
};

/// Finds Secrets and ConfigMaps and tests grants in constant time.
///
/// Whoever makes something out of the answers may have it made again only when one of them changed, so there must be no
/// way to an answer that is not noted.
pub(crate) struct References<'a> {
    secrets: HashMap<(&'a str, &'a str), &'a Arc<Secret>>,
    config_maps: HashMap<(&'a str, &'a str), &'a Arc<ConfigMap>>,
    grants: HashSet<Grant<'a>>,
    /// The answers that were given, while they are noted.
    noted: RefCell<Option<Vec<Noted>>>,
}

/// A question with its answer. Not printable: it holds Secrets.
#[derive(Clone)]
pub(crate) enum Noted {
    Permission {
        asked: Permission,
        given: bool,
    },
    Secret {
        policy: PolicyKind,
        namespace: String,
        reference: SecretObjectReference,
        found: Result<Arc<Secret>, Unresolved>,
    },
    ConfigMap {
        namespace: String,
        name: String,
        found: Result<Arc<ConfigMap>, Unresolved>,
    },
}

/// Whether policies of a kind in one namespace may refer to an object of another.
#[derive(Clone)]
pub(crate) struct Permission {
    policy: PolicyKind,
    from: String,
    to: String,
    group: String,
    kind: String,
    name: String,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
                (key, secret)
            })
            .collect();
        let config_maps = snapshot
            .config_maps
            .iter()
            .map(|map| {
                let key = (object::namespace(&map.metadata), object::name(&map.metadata));
                (key, map)
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
        Self {
            secrets,
            config_maps,
            grants,
            noted: RefCell::new(None),
        }
    }

    /// Does something, and gives every answer that it was given on the way.
    pub(crate) fn noting<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<Noted>) {
        self.noted.replace(Some(Vec::new()));
        let done = work();
        (done, self.noted.take().unwrap_or_default())
    }

    /// Whether every question would be answered alike today.
    pub(crate) fn agree(&self, noted: &[Noted]) -> bool {
        noted.iter().all(|noted| match noted {
            Noted::Permission { asked, given } => {
                let Permission {
                    policy,
                    from,
                    to,
                    group,
                    kind,
                    name,
                } = asked;
                self.granted(*policy, from, to, group, kind, name) == *given
            }
            Noted::Secret {
                policy,
                namespace,
                reference,
                found,
            } => agrees(self.found(*policy, namespace, reference), found),
            Noted::ConfigMap { namespace, name, found } => agrees(self.found_config_map(namespace, name), found),
        })
    }

    fn note(&self, noted: impl FnOnce() -> Noted) {
        if let Some(all) = self.noted.borrow_mut().as_mut() {
            all.push(noted());
        }
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
        let given = self.granted(policy, from, to, group, kind, name);
        self.note(|| Noted::Permission {
            asked: Permission {
                policy,
                from: from.to_owned(),
                to: to.to_owned(),
                group: group.to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
            },
            given,
        });
        given
    }

    /// Follows a policy's reference to a Secret; the grant is tested before existence, which would leak otherwise.
    pub(crate) fn secret(
        &self,
        policy: PolicyKind,
        policy_namespace: &str,
        reference: &SecretObjectReference,
    ) -> Result<&'a Secret, Unresolved> {
        let found = self.found(policy, policy_namespace, reference);
        self.note(|| Noted::Secret {
            policy,
            namespace: policy_namespace.to_owned(),
            reference: reference.clone(),
            found: found.clone().map(Arc::clone),
        });
        found.map(AsRef::as_ref)
    }

    /// Finds a ConfigMap of the policy's own namespace: a reference to one cannot lead out of it.
    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Result<&'a ConfigMap, Unresolved> {
        let found = self.found_config_map(namespace, name);
        self.note(|| Noted::ConfigMap {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            found: found.clone().map(Arc::clone),
        });
        found.map(AsRef::as_ref)
    }

    fn granted(&self, policy: PolicyKind, from: &str, to: &str, group: &str, kind: &str, name: &str) -> bool {
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

    fn found(
        &self,
        policy: PolicyKind,
        policy_namespace: &str,
        reference: &SecretObjectReference,
    ) -> Result<&'a Arc<Secret>, Unresolved> {
        if !reference.group.is_empty() || reference.kind != "Secret" {
            return Err(Unresolved {
                code: "unsupported-reference",
                message: format!("unsupported reference to {} {:?}", reference.kind, reference.group),
                fix: "refer to a Secret of the core group".to_owned(),
            });
        }
        let namespace = reference.namespace.as_deref().unwrap_or(policy_namespace);
        let name = reference.name.as_str();
        if !self.granted(policy, policy_namespace, namespace, "", "Secret", name) {
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

    fn found_config_map(&self, namespace: &str, name: &str) -> Result<&'a Arc<ConfigMap>, Unresolved> {
        self.config_maps
            .get(&(namespace, name))
            .copied()
            .ok_or_else(|| Unresolved {
                code: "config-map-not-found",
                message: format!("ConfigMap {namespace}/{name} does not exist"),
                fix: format!("create ConfigMap {namespace}/{name}"),
            })
    }
}

/// Whether an answer is the one that was given.
fn agrees<T: PartialEq>(now: Result<&Arc<T>, Unresolved>, then: &Result<Arc<T>, Unresolved>) -> bool {
    match (now, then) {
        (Ok(now), Ok(then)) => same(now, then),
        (Err(now), Err(then)) => now == *then,
        _ => false,
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
