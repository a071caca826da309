//! Texts to everything that follows from them. Pure: one function for `run`, `check` and `render`, so that what is
//! checked is what is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_attachment::{
    binding,
    effective::{self, Attachment},
    finding::Severity,
    snapshot::Snapshot,
};
use portcullis_gateway::{KeySets, Translation};
use portcullis_manifest::{Diagnostic, Loaded};

use crate::{cli::ManifestArgs, failure::Failure};

/// What is added to listener ports below 1024 when they may not be bound.
pub(crate) const PORT_SHIFT: u16 = 10_000;

/// Where Envoy writes one JSON object per request, in a container as well as here.
const ACCESS_LOG: &str = "/dev/stdout";

/// Where systems keep the certificates that they trust: Debian and Alpine, Fedora, openSUSE, OpenBSD and macOS.
const SYSTEM_TRUST: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Everything beside the manifests that decides what is served.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Whose GatewayClasses are served.
    pub controller_name: String,
    /// Only these namespaces; all if empty.
    pub namespaces: BTreeSet<String>,
    /// The namespace that the controller runs in, if it does so in a cluster.
    pub namespace: Option<String>,
    /// Endpoints of Services that have no EndpointSlices, by `namespace/name`.
    pub backends: BTreeMap<String, String>,
    /// The filter's file, as Envoy sees it.
    pub wasm: String,
    /// What is added to ports below 1024.
    pub port_shift: u16,
    /// The file of certificates that the proxies' system trusts, as Envoy sees it; empty if there is none.
    pub system_trust: String,
    /// The key from which salts are derived.
    pub salt_key: [u8; 32],
}

impl Settings {
    /// The settings of a command line; ports below 1024 are shifted unless this user is root.
    pub(crate) fn new(args: &ManifestArgs, wasm: String, salt_key: [u8; 32]) -> Self {
        Self {
            controller_name: args.controller_name.clone(),
            namespaces: args.namespaces.iter().cloned().collect(),
            namespace: None,
            backends: args
                .backends
                .iter()
                .map(|backend| (backend.service.clone(), backend.endpoint.clone()))
                .collect(),
            wasm,
            port_shift: if rustix::process::geteuid().is_root() {
                0
            } else {
                PORT_SHIFT
            },
            system_trust: args.system_ca.as_ref().map_or_else(
                || SYSTEM_TRUST.first().copied().unwrap_or_default().to_owned(),
                |file| file.display().to_string(),
            ),
            salt_key,
        }
    }

    /// The same for an Envoy on this system, where it is known which files there are.
    ///
    /// # Errors
    ///
    /// The file that the command line names is not there.
    pub(crate) fn here(mut self, args: &ManifestArgs) -> Result<Self, Failure> {
        match &args.system_ca {
            Some(file) if !file.is_file() => Err(Failure::new(
                format!("--system-ca: {} is no file", file.display()),
                "name a file of certificates in PEM",
            )),
            Some(_) => Ok(self),
            None => {
                let found = SYSTEM_TRUST.iter().find(|file| Path::new(file).is_file());
                self.system_trust = found.copied().unwrap_or_default().to_owned();
                Ok(self)
            }
        }
    }
}

/// Everything that follows from a set of manifests.
#[derive(Debug)]
pub(crate) struct Evaluation {
    /// Which policies apply where.
    pub attachment: Attachment,
    /// What Envoy is given.
    pub translation: Translation,
    /// What is wrong, by file and line.
    pub diagnostics: Vec<Diagnostic>,
    /// Files that hold something that a Kubernetes API server would refuse.
    pub failed_files: BTreeSet<String>,
}

impl Evaluation {
    /// How many diagnostics are errors, and how many are warnings.
    pub(crate) fn count(&self) -> (usize, usize) {
        let errors = self
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count();
        (errors, self.diagnostics.len() - errors)
    }
}

impl Evaluation {
    /// The diagnostics of files that a Kubernetes API server would not take whole: what follows from the rest of the
    /// manifests may be another thing once they are mended.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| {
            let place = diagnostic.place.as_ref();
            diagnostic.severity == Severity::Error && place.is_some_and(|place| self.failed_files.contains(&place.file))
        })
    }
}

/// Files that hold something that a Kubernetes API server would refuse.
pub(crate) fn failed_files(loaded: &Loaded) -> BTreeSet<String> {
    loaded.failed_files().map(ToOwned::to_owned).collect()
}

/// Reads, binds, attaches and translates.
pub(crate) fn evaluate(texts: &[(String, String)], settings: &Settings) -> Evaluation {
    let loaded = portcullis_manifest::load(texts);
    translate(loaded, settings, &Arc::default(), &mut Memory::default())
}

/// What the last evaluation came to, so that the next one costs what changed. A new one gives the same, later.
#[derive(Default)]
pub(crate) struct Memory {
    attachment: portcullis_attachment::memory::Memory,
    translation: portcullis_gateway::Memory,
}

/// What [`evaluate`] does after reading, with the key sets that were fetched.
pub(crate) fn translate(
    mut loaded: Loaded,
    settings: &Settings,
    key_sets: &Arc<KeySets>,
    memory: &mut Memory,
) -> Evaluation {
    if !settings.namespaces.is_empty() {
        keep(&mut loaded.snapshot, &settings.namespaces, settings.namespace.as_ref());
    }
    let snapshot = &loaded.snapshot;
    let bindings = binding::bind(snapshot, &settings.controller_name);
    let options = effective::Options {
        controller_name: settings.controller_name.clone(),
        salt_key: settings.salt_key,
    };
    let attachment = memory.attachment.attach(snapshot, &bindings, &options);
    let translation = memory.translation.translate(
        snapshot,
        &bindings,
        &attachment,
        &portcullis_gateway::Options {
            controller_name: settings.controller_name.clone(),
            controller_namespace: settings.namespace.clone(),
            wasm: settings.wasm.clone(),
            privileged_port_shift: settings.port_shift,
            backend_overrides: settings.backends.clone(),
            system_trust: settings.system_trust.clone(),
            key_sets: Arc::clone(key_sets),
            access_log: Some(ACCESS_LOG.to_owned()),
            none: effective::none(&options),
        },
    );
    let findings = bindings
        .findings
        .iter()
        .chain(&attachment.findings)
        .chain(&translation.findings);
    let mut diagnostics = loaded.diagnostics.clone();
    diagnostics.extend(findings.map(|finding| loaded.diagnose(finding)));
    diagnostics.sort();
    diagnostics.dedup();
    Evaluation {
        attachment,
        translation,
        diagnostics,
        failed_files: failed_files(&loaded),
    }
}

/// Drops every object of another namespace; of the controller's `own`, its Services stay.
fn keep(snapshot: &mut Snapshot, namespaces: &BTreeSet<String>, own: Option<&String>) {
    let kept = |metadata: &ObjectMeta| {
        metadata
            .namespace
            .as_ref()
            .is_some_and(|name| namespaces.contains(name))
    };
    let Snapshot {
        gateway_classes: _,
        namespaces: _,
        gateways,
        listener_sets,
        http_routes,
        http_route_retries,
        grpc_routes,
        tcp_routes,
        reference_grants,
        security_policies,
        access_policies,
        broken_policies,
        client_traffic_policies,
        broken_client_traffic_policies,
        envoy_proxies,
        backends,
        backend_tls_policies,
        broken_backend_tls_policies,
        config_maps,
        services,
        endpoint_slices,
        secrets,
        unknown_fields,
    } = snapshot;
    gateways.retain(|object| kept(&object.metadata));
    listener_sets.retain(|object| kept(&object.metadata));
    http_routes.retain(|object| kept(&object.metadata));
    http_route_retries.retain(|object| kept(&object.metadata));
    grpc_routes.retain(|object| kept(&object.metadata));
    tcp_routes.retain(|object| kept(&object.metadata));
    reference_grants.retain(|object| kept(&object.metadata));
    security_policies.retain(|object| kept(&object.metadata));
    access_policies.retain(|object| kept(&object.metadata));
    broken_policies.retain(|object| kept(&object.metadata));
    client_traffic_policies.retain(|object| kept(&object.metadata));
    broken_client_traffic_policies.retain(|object| kept(&object.metadata));
    envoy_proxies.retain(|object| kept(&object.metadata));
    backends.retain(|object| kept(&object.metadata));
    backend_tls_policies.retain(|object| kept(&object.metadata));
    broken_backend_tls_policies.retain(|object| kept(&object.metadata));
    config_maps.retain(|object| kept(&object.metadata));
    services.retain(|object| kept(&object.metadata) || own.is_some() && object.metadata.namespace.as_ref() == own);
    endpoint_slices.retain(|object| kept(&object.metadata));
    secrets.retain(|object| kept(&object.metadata));
    unknown_fields.retain(|unknown| namespaces.contains(&unknown.object.namespace));
}
