//! What a `backendRef` leads to.

mod backend;
mod service;

use std::collections::{BTreeMap, HashMap};

use gateway_api::httproutes::{HttpRouteRulesBackendRefs, HttpRouteRulesFiltersRequestMirrorBackendRef};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use portcullis_api::backend::Backend;
use portcullis_attachment::{
    object::{self, GATEWAY_GROUP, ObjectRef, POLICY_GROUP, PolicyKind},
    snapshot::Snapshot,
};

use crate::{
    backend_tls::BackendTls,
    cluster::Upstream,
    grants::{End, Grants},
    report::Fault,
    route::source::Kind,
};

/// A reference to a backend, wherever it stands in a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    port: Option<i32>,
}

macro_rules! reference {
    ($spec:expr) => {
        Reference {
            group: $spec.group.as_deref().unwrap_or_default(),
            kind: $spec.kind.as_deref().unwrap_or("Service"),
            namespace: $spec.namespace.as_deref(),
            name: $spec.name.as_str(),
            port: $spec.port,
        }
    };
}

impl<'a> Reference<'a> {
    pub(crate) fn of_backend(spec: &'a HttpRouteRulesBackendRefs) -> Self {
        reference!(spec)
    }

    pub(crate) const fn of_policy(
        group: &'a str,
        kind: &'a str,
        namespace: &'a str,
        name: &'a str,
        port: Option<i32>,
    ) -> Self {
        Self {
            group,
            kind,
            namespace: Some(namespace),
            name,
            port,
        }
    }

    pub(crate) fn of_mirror(spec: &'a HttpRouteRulesFiltersRequestMirrorBackendRef) -> Self {
        reference!(spec)
    }
}

/// Why a reference is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// The reason of the route's `ResolvedRefs`.
    pub(crate) reason: &'static str,
    pub(crate) fault: Fault,
}

/// A reference that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The name of the cluster.
    pub(crate) cluster: String,
    /// Whether there is nothing to send a request to at the moment.
    pub(crate) empty: bool,
    /// What has no effect or may surprise.
    pub(crate) warnings: Vec<Fault>,
}

type Key<'a> = (&'a str, &'a str);

/// All backends, by name.
pub(crate) struct Backends<'a> {
    grants: &'a Grants<'a>,
    overrides: &'a BTreeMap<String, String>,
    services: HashMap<Key<'a>, &'a Service>,
    slices: HashMap<Key<'a>, Vec<&'a EndpointSlice>>,
    backends: HashMap<Key<'a>, &'a Backend>,
    tls: &'a BackendTls<'a>,
    /// Every upstream that some reference led to.
    pub(crate) upstreams: BTreeMap<String, Upstream>,
}

impl<'a> Backends<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        grants: &'a Grants<'a>,
        tls: &'a BackendTls<'a>,
        overrides: &'a BTreeMap<String, String>,
    ) -> Self {
        let services = snapshot.services.iter().map(|service| {
            let metadata = &service.metadata;
            ((object::namespace(metadata), object::name(metadata)), service.as_ref())
        });
        let backends = snapshot.backends.iter().map(|backend| {
            let metadata = &backend.metadata;
            ((object::namespace(metadata), object::name(metadata)), backend.as_ref())
        });
        let mut slices: HashMap<Key<'a>, Vec<&'a EndpointSlice>> = HashMap::new();
        for slice in &snapshot.endpoint_slices {
            let labels = slice.metadata.labels.as_ref();
            if let Some(service) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) {
                let key = (object::namespace(&slice.metadata), service.as_str());
                slices.entry(key).or_default().push(slice);
            }
        }
        Self {
            grants,
            overrides,
            services: services.collect(),
            slices,
            backends: backends.collect(),
            tls,
            upstreams: BTreeMap::new(),
        }
    }

    /// Notes where a reference leads; whatever led there before, the upstream is the same.
    fn resolved(&mut self, upstream: Upstream, empty: bool, warnings: Vec<Fault>) -> Resolved {
        let cluster = upstream.name.clone();
        self.upstreams.entry(cluster.clone()).or_insert(upstream);
        Resolved {
            cluster,
            empty,
            warnings,
        }
    }

    /// Follows one reference of a route of the given kind and namespace. Permission is tested before existence, which it
    /// would otherwise tell.
    pub(crate) fn resolve(
        &mut self,
        (route, route_namespace): (Kind, &str),
        reference: &Reference<'_>,
    ) -> Result<Resolved, Unresolved> {
        let from = End {
            group: GATEWAY_GROUP,
            kind: route.name(),
            namespace: route_namespace,
        };
        self.resolve_from(from, route, reference)
    }

    /// Follows one reference of a policy, to a backend that is spoken to in HTTP/1.1 unless it says otherwise.
    pub(crate) fn resolve_for_policy(
        &mut self,
        policy: &ObjectRef,
        reference: &Reference<'_>,
    ) -> Result<Resolved, Unresolved> {
        let kinds = [PolicyKind::SecurityPolicy, PolicyKind::AccessPolicy];
        let kind = kinds
            .into_iter()
            .find(|kind| kind.name() == policy.kind)
            .unwrap_or_default();
        let from = End {
            group: kind.group(),
            kind: kind.name(),
            namespace: &policy.namespace,
        };
        self.resolve_from(from, Kind::Http, reference)
    }

    fn resolve_from(&mut self, from: End<'_>, speaks: Kind, reference: &Reference<'_>) -> Result<Resolved, Unresolved> {
        let Reference { group, kind, name, .. } = *reference;
        let namespace = reference.namespace.unwrap_or(from.namespace);
        if !matches!((group, kind), ("", "Service") | (POLICY_GROUP, "Backend")) {
            return Err(Unresolved {
                reason: "InvalidKind",
                fault: Fault::new(
                    "invalid-backend-kind",
                    "kind",
                    format!("kind {kind:?} of group {group:?} is no backend"),
                )
                .fix("refer to a Service, or to a Backend of gateway.envoyproxy.io"),
            });
        }
        let to = End { group, kind, namespace };
        if !self.grants.permits(from, to, name) {
            return Err(Unresolved {
                reason: "RefNotPermitted",
                fault: Fault::new(
                    "reference-not-permitted",
                    "namespace",
                    format!(
                        "no ReferenceGrant in namespace {namespace} permits the reference to {kind} {namespace}/{name}"
                    ),
                )
                .fix(format!(
                    "add a ReferenceGrant to namespace {namespace} from {} of {} to {kind} {name}",
                    from.kind, from.namespace
                )),
            });
        }
        if kind == "Backend" {
            self.backend(speaks, from.namespace, namespace, name)
        } else {
            self.service(speaks, namespace, name, reference.port)
        }
    }
}

/// Sending in clear what somebody wants encrypted is no fallback.
fn not_trusted(message: String) -> Unresolved {
    Unresolved {
        reason: "InvalidBackendTLS",
        fault: Fault::new("invalid-backend-tls", "name", message),
    }
}

/// The protocol between Envoy and a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    /// As the backend's own settings say.
    Http2,
    /// As gRPC needs it, though the backend's settings say nothing: other routes send HTTP/1.1 to it.
    Grpc,
}

impl Speaks {
    /// The protocol of a Service's port (`appProtocol`, GEP-1911); the error is a protocol that such a route is not sent by.
    fn of(route: Kind, app_protocol: Option<&str>) -> Result<Self, &str> {
        match (app_protocol, route) {
            (Some("kubernetes.io/h2c" | "gateway.envoyproxy.io/h2c" | "grpc"), _) => Ok(Self::Http2),
            // What the bytes of a connection mean is its two ends' business.
            (_, Kind::Tcp) => Ok(Self::Http1),
            (Some(other @ "kubernetes.io/wss"), _) | (Some(other @ "kubernetes.io/ws"), Kind::Grpc) => Err(other),
            _ => Ok(Self::by_default(route)),
        }
    }

    const fn by_default(route: Kind) -> Self {
        match route {
            Kind::Http | Kind::Tcp => Self::Http1,
            Kind::Grpc => Self::Grpc,
        }
    }

    fn named(self, cluster: String) -> String {
        match self {
            Self::Http1 | Self::Http2 => cluster,
            Self::Grpc => format!("{cluster}/h2c"),
        }
    }
}

fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}
