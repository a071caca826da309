//! Where the servers of keys are reached: a cluster each, and an address for the controller's own fetch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_attachment::{
    effective::EffectivePolicy,
    finding::{Finding, Severity},
    key_server::KeyServer,
};

use crate::{
    backend_tls::{Authorities, Name, Trust},
    backends::{Backends, Reference},
    cluster::{Destination, Upstream},
    report::Fault,
};

/// A key set as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedKeys {
    /// When, in seconds since 1970.
    pub fetched: u64,
    /// The JSON Web Key Set.
    pub jwks: Arc<str>,
}

/// Key sets by the identities of their servers.
pub type KeySets = BTreeMap<String, FetchedKeys>;

/// How a server of keys is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The server.
    pub server: Arc<KeyServer>,
    /// Hosts and ports, any of which will do.
    pub endpoints: Vec<(String, u16)>,
    /// How it proves itself; connections are not encrypted if absent.
    pub tls: Option<Verified>,
}

/// What the certificate of a server must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The name that it is asked for.
    pub server_name: String,
    /// DNS names of which its certificate must hold one.
    pub names: Vec<String>,
    /// PEM text of the trusted authorities; absent for those of the system.
    pub authorities: Option<Vec<u8>>,
}

/// Adds an upstream for each server of keys that a policy names, and tells how it is reached.
pub(crate) fn resolve<'p>(
    policies: impl Iterator<Item = &'p Arc<EffectivePolicy>>,
    backends: &mut Backends<'_>,
    system_trust: &str,
    findings: &mut Vec<Finding>,
) -> Vec<Reached> {
    let mut known = BTreeSet::new();
    let mut reached = Vec::new();
    for server in policies.flat_map(|policy| &policy.key_servers) {
        if !known.insert(server.id.as_str()) {
            continue;
        }
        let found = match &server.backend {
            None => Ok(of_address(server, system_trust)),
            Some(_) => of_backend(server, backends),
        };
        match found {
            Ok(upstream) => {
                reached.push(Reached {
                    server: Arc::clone(server),
                    endpoints: upstream
                        .destinations
                        .iter()
                        .map(|destination| (destination.host.clone(), destination.port))
                        .collect(),
                    tls: upstream.tls.as_deref().map(verified),
                });
                backends.upstreams.insert(upstream.name.clone(), upstream);
            }
            Err(fault) => findings.push(fault.below(&server.field).finding(Severity::Error, &server.policy)),
        }
    }
    reached
}

fn of_address(server: &KeyServer, system_trust: &str) -> Upstream {
    let trust = || {
        Arc::new(Trust {
            server_name: server.host.clone(),
            names: vec![Name::Dns(server.host.clone())],
            authorities: Authorities::File(system_trust.to_owned()),
        })
    };
    Upstream {
        name: server.cluster(),
        discovery: Upstream::discovery_of(&server.host),
        http2: false,
        tls: server.encrypted.then(trust),
        destinations: vec![Destination {
            host: server.host.clone(),
            port: server.port,
            draining: false,
        }],
    }
}

/// A cluster of its own, though others may lead to the same backend: keys are told apart by it.
fn of_backend(server: &KeyServer, backends: &mut Backends<'_>) -> Result<Upstream, Fault> {
    let Some(backend) = &server.backend else {
        return Err(Fault::new("backend-not-found", "", "there is no backend".to_owned()));
    };
    let reference = Reference::of_policy(
        &backend.group,
        &backend.kind,
        &backend.namespace,
        &backend.name,
        backend.port,
    );
    let resolved = backends
        .resolve_for_policy(&server.policy, &reference)
        .map_err(|unresolved| unresolved.fault)?;
    let upstream = backends.upstreams.get(&resolved.cluster).cloned();
    let upstream =
        upstream.ok_or_else(|| Fault::new("backend-not-found", "", "the backend is not served".to_owned()))?;
    Ok(Upstream {
        name: server.cluster(),
        ..upstream
    })
}

fn verified(trust: &Trust) -> Verified {
    let names = trust.names.iter().filter_map(|name| match name {
        Name::Dns(name) => Some(name.clone()),
        Name::Uri(_) => None,
    });
    Verified {
        server_name: trust.server_name.clone(),
        names: names.collect(),
        authorities: match &trust.authorities {
            Authorities::Pem(pem) => Some(pem.clone()),
            Authorities::File(_) => None,
        },
    }
}

/// The key sets of a policy's servers, as far as they were fetched.
pub(crate) fn of_policy(policy: &EffectivePolicy, fetched: &KeySets) -> impl Iterator<Item = (String, FetchedKeys)> {
    policy
        .key_servers
        .iter()
        .filter_map(|server| Some((server.id.clone(), fetched.get(&server.id)?.clone())))
}
