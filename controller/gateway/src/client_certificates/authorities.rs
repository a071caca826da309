//! The certificates of those whose signatures count: `ca.crt` of a ConfigMap or a Secret.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ConfigMap;
use portcullis_attachment::{object, snapshot::Snapshot};

use crate::{certificate, gateway::World, grants::End, report::Fault};

/// The entry that holds them.
const ENTRY: &str = "ca.crt";

/// All ConfigMaps, by namespace and name.
pub(crate) type ConfigMaps<'a> = HashMap<(&'a str, &'a str), &'a ConfigMap>;

/// Indexes a snapshot's ConfigMaps.
pub(crate) fn config_maps(snapshot: &Snapshot) -> ConfigMaps<'_> {
    let maps = snapshot.config_maps.iter();
    maps.map(|map| {
        let metadata = &map.metadata;
        ((object::namespace(metadata), object::name(metadata)), map.as_ref())
    })
    .collect()
}

/// Who refers to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

/// A reference to them.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    group: String,
    kind: String,
    name: String,
    namespace: Option<String>,
}

impl Reference {
    pub(super) fn new(group: &str, kind: &str, name: &str, namespace: Option<&str>) -> Self {
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned),
        }
    }
}

/// Follows a reference to PEM text.
///
/// # Errors
///
/// The reason of `ResolvedRefs`, and what is wrong below the reference.
pub(super) fn resolve(
    world: &World<'_>,
    owner: Owner<'_>,
    reference: &Reference,
) -> Result<Vec<u8>, (&'static str, Fault)> {
    let Reference { group, kind, name, .. } = reference;
    let namespace = reference.namespace.as_deref().unwrap_or(owner.namespace);
    if !group.is_empty() || !matches!(kind.as_str(), "ConfigMap" | "Secret") {
        let message = format!("kind {kind:?} of group {group:?} holds no CA certificate");
        let fault = Fault::new("invalid-certificate-kind", "kind", message).fix("refer to a ConfigMap or a Secret");
        return Err(("InvalidCACertificateKind", fault));
    }
    let from = End {
        group: owner.group,
        kind: owner.kind,
        namespace: owner.namespace,
    };
    let what = format!("{kind} {namespace}/{name}");
    if !world.grants.permits(from, End { group, kind, namespace }, name) {
        let message = format!("no ReferenceGrant in namespace {namespace} permits the reference to {what}");
        let fix = format!(
            "add a ReferenceGrant to namespace {namespace} from {} of {} to {kind} {name}",
            owner.kind, owner.namespace
        );
        let fault = Fault::new("reference-not-permitted", "namespace", message).fix(fix);
        return Err(("RefNotPermitted", fault));
    }
    let invalid = |code, message| Err(("InvalidCACertificateRef", Fault::new(code, "name", message)));
    let key = (namespace, name.as_str());
    let found = if kind == "ConfigMap" {
        world.config_maps.get(&key).map(|map| {
            let text = map.data.as_ref().and_then(|data| data.get(ENTRY));
            text.map(|text| text.clone().into_bytes())
        })
    } else {
        world.secrets.get(&key).map(|secret| certificate::entry(secret, ENTRY))
    };
    match found {
        None => invalid("certificate-not-found", format!("{what} does not exist")),
        Some(None) => invalid("invalid-certificate", format!("{what} has no entry {ENTRY:?}")),
        Some(Some(pem)) => {
            certificate::authorities(&pem).or_else(|why| invalid("invalid-certificate", format!("{what}: {why}")))
        }
    }
}
