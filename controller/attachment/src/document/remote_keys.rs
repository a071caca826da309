//! Where a provider's key set is fetched (`spec.jwt.providers[].remoteJWKS`).

use std::{net::IpAddr, sync::Arc};

use portcullis_api::{reference::BackendRef, security_policy::RemoteJwks};
use portcullis_engine::{document::RemoteKeySet, jwt::remote::MAX_INTERVAL};

use super::{Builder, duration::milliseconds};
use crate::{
    fault::{Feature, Notice},
    key_server::{Address, Backend, KeyServer},
    object::{ObjectRef, POLICY_GROUP},
};

/// After how long keys are fetched anew, in seconds, as in Envoy Gateway.
const CACHE_DURATION: u64 = 300;
/// After how long a failed fetch is repeated, in seconds, as in Envoy Gateway.
const FAILED_REFETCH_DURATION: u64 = 1;
/// How long a fetch may take, in milliseconds.
const TIMEOUT: u64 = 5_000;

impl Builder<'_> {
    /// The server of a provider's keys.
    pub(super) fn key_server(&mut self, path: &str, remote: &RemoteJwks) -> Option<Arc<KeyServer>> {
        let path = format!("{path}.remoteJWKS");
        let before = self.build.faults.len();
        let address = match Address::parse(&remote.uri) {
            Ok(address) => Some(address),
            Err(why) => {
                let message = format!("{:?} {why}", remote.uri);
                let fix = "write the whole address, as in \"https://idp.example.com/keys\"";
                self.token_fault(&format!("{path}.uri"), "invalid-uri", message, fix);
                None
            }
        };
        let backend = self.backend(&path, &remote.backend_refs);
        let unproven = address.as_ref().filter(|address| {
            address.encrypted && remote.backend_refs.is_empty() && address.host.parse::<IpAddr>().is_ok()
        });
        if let Some(address) = unproven {
            let message = format!(
                "the certificate of {:?} cannot be held against an IP address",
                address.host
            );
            let fix = "write the name of the host, or refer to a Backend with tls";
            self.token_fault(&format!("{path}.uri"), "invalid-uri", message, fix);
        }
        let interval = self.interval(&path, "cacheDuration", remote.cache_duration.as_deref(), CACHE_DURATION);
        let retry = remote.failed_refetch_duration.as_deref();
        let retry_interval = self.interval(&path, "failedRefetchDuration", retry, FAILED_REFETCH_DURATION);
        if remote.backend_ref.is_some() {
            self.unsupported_field(Feature::Jwt, format!("{path}.backendRef"), "backendRef");
        }
        if remote.backend_settings.is_some() {
            self.build.notices.push(Notice {
                code: "field-ignored",
                path: format!("{path}.backendSettings"),
                message: "has no effect: fetches have a timeout and repetitions of their own".to_owned(),
                fix: "remove it".to_owned(),
                condition: None,
            });
        }
        let address = address.filter(|_| self.build.faults.len() == before)?;
        let owner = self.owners.jwt;
        Some(Arc::new(KeyServer {
            id: KeyServer::identity(&remote.uri, backend.as_ref()),
            policy: ObjectRef::new(owner.kind.name(), owner.namespace, owner.name),
            field: if backend.is_some() {
                format!("{path}.backendRefs[0]")
            } else {
                format!("{path}.uri")
            },
            encrypted: address.encrypted,
            host: address.host,
            port: address.port,
            authority: address.authority,
            path: address.path,
            backend,
            interval: interval?,
            retry_interval: retry_interval?,
            timeout: TIMEOUT,
        }))
    }

    fn interval(&mut self, path: &str, field: &str, written: Option<&str>, default: u64) -> Option<u64> {
        let Some(written) = written else { return Some(default) };
        // Nobody fetches oftener than once a second.
        let read = milliseconds(written).map(|milliseconds| milliseconds.div_ceil(1_000).max(1));
        if read.is_none() {
            let message = format!("{written:?} is not a duration");
            self.token_fault(
                &format!("{path}.{field}"),
                "invalid-duration",
                message,
                "write \"5m\" or \"30s\"",
            );
        }
        if read.is_some_and(|read| read > MAX_INTERVAL) {
            let message = format!("{written:?} is longer than a week");
            let fix = "write \"5m\" or \"30s\"";
            self.token_fault(&format!("{path}.{field}"), "invalid-interval", message, fix);
        }
        read
    }

    /// The backend that serves the keys, if it is not the host of the URI.
    fn backend(&mut self, path: &str, references: &[BackendRef]) -> Option<Backend> {
        let (reference, others) = references.split_first()?;
        let path = format!("{path}.backendRefs");
        if !others.is_empty() {
            let message = "keys are fetched from one backend".to_owned();
            self.token_fault(
                &format!("{path}[1]"),
                "too-many",
                message,
                "keep one; a Backend can have several endpoints",
            );
            return None;
        }
        let path = format!("{path}[0]");
        let BackendRef { group, kind, name, .. } = reference;
        if !matches!(
            (group.as_str(), kind.as_str()),
            ("", "Service") | (POLICY_GROUP, "Backend")
        ) {
            let message = format!("kind {kind:?} of group {group:?} is no backend");
            let fix = "refer to a Service, or to a Backend of gateway.envoyproxy.io";
            self.token_fault(&format!("{path}.kind"), "unsupported-reference", message, fix);
            return None;
        }
        let owner = self.owners.jwt;
        let namespace = reference.namespace.as_deref().unwrap_or(owner.namespace);
        if !self
            .references
            .permits(owner.kind, owner.namespace, namespace, group, kind, name)
        {
            let message = format!(
                "no ReferenceGrant in namespace {namespace} permits the reference to {kind} {namespace}/{name}"
            );
            let fix = format!(
                "add a ReferenceGrant to namespace {namespace} from {} in {} to {kind} {name}",
                owner.kind.name(),
                owner.namespace
            );
            self.token_fault(&path, "reference-not-permitted", message, &fix);
            return None;
        }
        Some(Backend {
            group: group.clone(),
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.clone(),
            port: reference.port,
        })
    }
}

impl KeyServer {
    /// The key set as a document names it.
    pub(super) fn key_set(&self) -> RemoteKeySet {
        RemoteKeySet {
            id: self.id.clone(),
            cluster: self.cluster(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            interval: self.interval,
            retry_interval: self.retry_interval,
            timeout: self.timeout,
        }
    }
}
