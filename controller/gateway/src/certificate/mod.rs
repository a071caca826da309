//! Certificates of HTTPS listeners.

mod authority;
mod pair;

use std::collections::HashMap;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use gateway_api::gateways::GatewayListenersTlsCertificateRefs;
use k8s_openapi::api::core::v1::Secret as KubernetesSecret;
use portcullis_attachment::{
    object::{self, GATEWAY_GROUP, ObjectRef},
    snapshot::Snapshot,
};
use prost::Message;

use crate::{
    Resource,
    grants::{End, Grants},
    report::Fault,
    resource::SECRET,
    xds::inline,
};

/// Why a certificate cannot be used.
pub(crate) struct Refused {
    /// The reason of the listener's `ResolvedRefs`.
    pub(crate) reason: &'static str,
    pub(crate) fault: Fault,
}

/// All Secrets, by namespace and name.
pub(crate) type Secrets<'a> = HashMap<(&'a str, &'a str), &'a KubernetesSecret>;

/// Indexes a snapshot's Secrets.
pub(crate) fn secrets(snapshot: &Snapshot) -> Secrets<'_> {
    let secrets = snapshot.secrets.iter();
    secrets
        .map(|secret| {
            let metadata = &secret.metadata;
            ((object::namespace(metadata), object::name(metadata)), secret.as_ref())
        })
        .collect()
}

/// An entry of a Secret.
pub(crate) fn entry(secret: &KubernetesSecret, key: &str) -> Option<Vec<u8>> {
    let data = secret.data.as_ref().and_then(|data| Some(data.get(key)?.0.clone()));
    data.or_else(|| Some(secret.string_data.as_ref()?.get(key)?.clone().into_bytes()))
}

/// The certificates of authorities in PEM text (RFC 7468), encoded anew: Envoy reads nothing that an author has written.
///
/// # Errors
///
/// Says what is wrong, without repeating any of it.
pub(crate) fn authorities(pem: &[u8]) -> Result<Vec<u8>, &'static str> {
    authority::read(pem)
}

/// Follows a `certificateRef` of a Gateway or a ListenerSet; the resource is named `<namespace>/<secret>`.
pub(crate) fn resolve(
    grants: &Grants<'_>,
    secrets: &Secrets<'_>,
    owner: &ObjectRef,
    reference: &GatewayListenersTlsCertificateRefs,
) -> Result<Resource, Refused> {
    let invalid = |fault| Refused {
        reason: "InvalidCertificateRef",
        fault,
    };
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    let namespace = reference.namespace.as_deref().unwrap_or(&owner.namespace);
    let name = reference.name.as_str();
    if !group.is_empty() || kind != "Secret" {
        return Err(invalid(
            Fault::new(
                "invalid-certificate-kind",
                "kind",
                format!("kind {kind:?} of group {group:?} holds no certificate"),
            )
            .fix("refer to a Secret of type kubernetes.io/tls"),
        ));
    }
    let from = End {
        group: GATEWAY_GROUP,
        kind: owner.kind,
        namespace: &owner.namespace,
    };
    let to = End { group, kind, namespace };
    if !grants.permits(from, to, name) {
        return Err(Refused {
            reason: "RefNotPermitted",
            fault: Fault::new(
                "reference-not-permitted",
                "namespace",
                format!(
                    "no ReferenceGrant in namespace {namespace} permits the reference to Secret {namespace}/{name}"
                ),
            )
            .fix(format!(
                "add a ReferenceGrant to namespace {namespace} from {} of {} to Secret {name}",
                owner.kind, owner.namespace
            )),
        });
    }
    let Some(secret) = secrets.get(&(namespace, name)) else {
        return Err(invalid(Fault::new(
            "certificate-not-found",
            "name",
            format!("Secret {namespace}/{name} does not exist"),
        )));
    };
    let (chain, key) = (
        entry(secret, "tls.crt").unwrap_or_default(),
        entry(secret, "tls.key").unwrap_or_default(),
    );
    if let Err(why) = pair::check(&chain, &key) {
        return Err(invalid(Fault::new(
            "invalid-certificate",
            "name",
            format!("Secret {namespace}/{name}: {why}"),
        )));
    }
    let message = Secret {
        name: format!("{namespace}/{name}"),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(chain),
            private_key: inline(key),
            ..TlsCertificate::default()
        })),
    };
    Ok(Resource {
        type_url: SECRET,
        name: message.name.clone(),
        body: message.encode_to_vec().into(),
    })
}
