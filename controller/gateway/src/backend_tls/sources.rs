//! What a backend has to prove, and where the certificates of those who vouch for it stand.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gateway_api::backendtlspolicies::{
    BackendTlsPolicyValidation, BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use portcullis_attachment::{object, snapshot::Snapshot};

use crate::{certificate, report::Fault};

/// How a backend proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    /// The name that the backend is asked for in the TLS greeting.
    pub(crate) server_name: String,
    /// The names of which its certificate must hold one.
    pub(crate) names: Vec<Name>,
    pub(crate) authorities: Authorities,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Dns(String),
    Uri(String),
}

/// Whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorities {
    /// A file, as Envoy sees it.
    File(String),
    /// PEM text (RFC 7468).
    Pem(Vec<u8>),
}

/// Where certificates of authorities may stand.
pub(super) struct Sources<'a> {
    config_maps: HashMap<(&'a str, &'a str), &'a ConfigMap>,
    secrets: HashMap<(&'a str, &'a str), &'a Secret>,
    system: &'a str,
}

impl<'a> Sources<'a> {
    /// Everything that may hold certificates; `system` is a file as Envoy sees it, or empty.
    pub(super) fn new(snapshot: &'a Snapshot, system: &'a str) -> Self {
        let config_maps = snapshot.config_maps.iter().map(|map| {
            let metadata = &map.metadata;
            ((object::namespace(metadata), object::name(metadata)), map.as_ref())
        });
        Self {
            config_maps: config_maps.collect(),
            secrets: certificate::secrets(snapshot),
            system,
        }
    }
}

impl Sources<'_> {
    /// What a policy asks for.
    ///
    /// # Errors
    ///
    /// The reason and the message of `Accepted`, where nobody is trusted.
    pub(super) fn validation(
        &self,
        namespace: &str,
        validation: &BackendTlsPolicyValidation,
        tell: &mut impl FnMut(&'static str, Fault),
    ) -> Result<Arc<Trust>, (&'static str, String)> {
        let references = validation.ca_certificate_refs.iter().flatten();
        let references = references.map(|reference| {
            (
                reference.group.as_str(),
                reference.kind.as_str(),
                reference.name.as_str(),
            )
        });
        let system = validation
            .well_known_ca_certificates
            .as_deref()
            .filter(|known| !known.is_empty());
        let Some(authorities) = self.authorities(namespace, references, system, tell) else {
            let message = "no authority is trusted: none of its CA certificates can be used".to_owned();
            return Err(("NoValidCACertificate", message));
        };
        let mut names: Vec<Name> = Vec::new();
        for name in validation.subject_alt_names.iter().flatten() {
            let named = match name.r#type {
                NameType::Hostname => name.hostname.clone().map(Name::Dns),
                NameType::Uri => name.uri.clone().map(Name::Uri),
            };
            names.extend(named);
        }
        if names.is_empty() {
            names.push(Name::Dns(validation.hostname.clone()));
        }
        Ok(Arc::new(Trust {
            server_name: validation.hostname.clone(),
            names,
            authorities,
        }))
    }

    /// Everything that the references which can be followed hold; none where nothing does.
    pub(super) fn authorities<'r>(
        &self,
        namespace: &str,
        references: impl Iterator<Item = (&'r str, &'r str, &'r str)>,
        well_known: Option<&str>,
        tell: &mut impl FnMut(&'static str, Fault),
    ) -> Option<Authorities> {
        match well_known {
            Some("System") if self.system.is_empty() => {
                let message = "where this system keeps its certificates is not known".to_owned();
                let fault = Fault::new("no-system-certificates", "wellKnownCACertificates", message);
                tell("InvalidCACertificateRef", fault.fix("name their file by --system-ca"));
                return None;
            }
            Some("System") => return Some(Authorities::File(self.system.to_owned())),
            Some(other) => {
                let message = format!("{other:?} is not known");
                let fault = Fault::new("unknown-value", "wellKnownCACertificates", message).fix("write \"System\"");
                tell("InvalidCACertificateRef", fault);
                return None;
            }
            None => {}
        }
        let mut pem = Vec::new();
        for (index, (group, kind, name)) in references.enumerate() {
            let path = format!("caCertificateRefs[{index}]");
            let text = match (group, kind) {
                ("", "ConfigMap") => self.config_maps.get(&(namespace, name)).map(|map| of_config_map(map)),
                ("", "Secret") => self.secrets.get(&(namespace, name)).map(|secret| of_secret(secret)),
                _ => {
                    let message = format!("kind {kind:?} of group {group:?} holds no CA certificate");
                    let fault = Fault::new("invalid-certificate-kind", format!("{path}.kind"), message);
                    tell("InvalidKind", fault.fix("refer to a ConfigMap or a Secret"));
                    continue;
                }
            };
            let what = format!("{kind} {namespace}/{name}");
            let checked = match text {
                None => Err(("certificate-not-found", format!("{what} does not exist"))),
                Some(None) => Err(("invalid-certificate", format!("{what} has no entry \"ca.crt\""))),
                Some(Some(text)) => {
                    certificate::authorities(&text).map_err(|why| ("invalid-certificate", format!("{what}: {why}")))
                }
            };
            match checked {
                Ok(text) => pem.extend(text),
                Err((code, message)) => {
                    tell(
                        "InvalidCACertificateRef",
                        Fault::new(code, format!("{path}.name"), message),
                    );
                }
            }
        }
        (!pem.is_empty()).then_some(Authorities::Pem(pem))
    }
}

/// `ca.crt`, or `tls.crt`, or the only entry, as Envoy Gateway reads it.
fn of_config_map(map: &ConfigMap) -> Option<Vec<u8>> {
    let data = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_bytes()));
    choose(&data.collect())
}

fn of_secret(secret: &Secret) -> Option<Vec<u8>> {
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()));
    choose(&data.collect())
}

fn choose(entries: &BTreeMap<&str, &[u8]>) -> Option<Vec<u8>> {
    let named = entries.get("ca.crt").or_else(|| entries.get("tls.crt"));
    let only = entries.values().next().filter(|_| entries.len() == 1);
    named.or(only).map(|text| text.to_vec())
}
