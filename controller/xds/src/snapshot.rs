//! What one cluster's proxies are to hold: resources under versions made from their content.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Endpoints of clusters.
pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Route tables.
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Secrets.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One xDS resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    type_url: &'static str,
    name: String,
    version: Arc<str>,
    body: Bytes,
}

impl Resource {
    /// Makes a resource whose version is a hash of `body`, so that equal bodies have equal versions in every run.
    #[must_use]
    pub fn new(type_url: &'static str, name: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let version = hex(&Sha256::digest(&body)).into();
        Self {
            type_url,
            name: name.into(),
            version,
            body,
        }
    }

    /// Returns the type URL.
    #[must_use]
    pub const fn type_url(&self) -> &'static str {
        self.type_url
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the version: 128 bits of SHA-256 in hexadecimal.
    #[must_use]
    pub const fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Returns the encoded message.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Two resources of one type share a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two resources of type {type_url} are named {name:?}")]
pub struct Duplicate {
    /// The type.
    pub type_url: &'static str,
    /// The name.
    pub name: String,
}

/// All resources of one cluster's proxies at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    generation: u64,
    version: Arc<str>,
    types: BTreeMap<&'static str, BTreeMap<String, Resource>>,
}

impl Snapshot {
    /// Sorts `resources` into a snapshot; `generation` only says which snapshot is the newer one.
    ///
    /// # Errors
    ///
    /// Refuses a name that occurs twice within a type.
    pub fn new(generation: u64, resources: impl IntoIterator<Item = Resource>) -> Result<Self, Duplicate> {
        let mut types = BTreeMap::<_, BTreeMap<_, _>>::new();
        for resource in resources {
            let Resource { type_url, ref name, .. } = resource;
            let name = name.clone();
            if let Some(other) = types.entry(type_url).or_default().insert(name, resource) {
                return Err(Duplicate {
                    type_url,
                    name: other.name,
                });
            }
        }
        let mut hash = Sha256::new();
        for (type_url, resources) in &types {
            for (name, resource) in resources {
                for part in [type_url.as_bytes(), name.as_bytes(), resource.version.as_bytes()] {
                    hash.update(part);
                    // No part holds a zero byte in practice; a collision would only blur the version shown to people.
                    hash.update([0]);
                }
            }
        }
        Ok(Self {
            generation,
            version: hex(&hash.finalize()).into(),
            types,
        })
    }

    /// Returns the number under which the snapshot was published.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) const fn number(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Returns a hash of everything in the snapshot.
    #[must_use]
    pub const fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Returns one resource.
    #[must_use]
    pub fn get(&self, type_url: &str, name: &str) -> Option<&Resource> {
        self.types.get(type_url)?.get(name)
    }

    /// Returns a type's resources by name.
    #[must_use]
    pub fn of_type(&self, type_url: &str) -> Option<&BTreeMap<String, Resource>> {
        self.types.get(type_url)
    }

    /// Whether both hold the same resources, generation aside.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
