//! What a `backendRef` leads to.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use gateway_api::httproutes::{HttpRouteRulesBackendRefs, HttpRouteRulesFiltersRequestMirrorBackendRef};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};
use portcullis_api::backend::{AppProtocol, Backend, BackendType};
use portcullis_attachment::{
    object::{self, GATEWAY_GROUP, POLICY_GROUP},
    snapshot::Snapshot,
};

use crate::{
    backend_tls::{BackendTls, Trust},
    cluster::{Destination, Discovery, Upstream},
    grants::{End, Grants},
    report::{Fault, ignored},
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

    /// Follows one reference of a route of the given kind and namespace. Permission is tested before existence, which it
    /// would otherwise tell.
    pub(crate) fn resolve(
        &mut self,
        (route, route_namespace): (Kind, &str),
        reference: &Reference<'_>,
    ) -> Result<Resolved, Unresolved> {
        let Reference { group, kind, name, .. } = *reference;
        let namespace = reference.namespace.unwrap_or(route_namespace);
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
        let from = End {
            group: GATEWAY_GROUP,
            kind: route.name(),
            namespace: route_namespace,
        };
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
                    "add a ReferenceGrant to namespace {namespace} from {} of {route_namespace} to {kind} {name}",
                    route.name()
                )),
            });
        }
        if kind == "Backend" {
            self.backend(route, route_namespace, namespace, name)
        } else {
            self.service(route, namespace, name, reference.port)
        }
    }

    fn service(&mut self, route: Kind, namespace: &str, name: &str, port: Option<i32>) -> Result<Resolved, Unresolved> {
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) else {
            return Err(Unresolved {
                reason: "PortNotSpecified",
                fault: Fault::new(
                    "missing-backend-port",
                    "port",
                    format!("a reference to Service {namespace}/{name} needs a port between 1 and 65535"),
                ),
            });
        };
        let service = self.services.get(&(namespace, name)).copied();
        let number = i32::from(port);
        let found = service
            .and_then(|service| service.spec.as_ref()?.ports.as_deref())
            .unwrap_or_default()
            .iter()
            .find(|candidate| {
                candidate.port == number && candidate.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
            });
        let protocol = found.and_then(|port| port.app_protocol.as_deref());
        let speaks = Speaks::of(route, protocol).map_err(|why| Unresolved {
            reason: "UnsupportedProtocol",
            fault: Fault::new(
                "unsupported-protocol",
                "port",
                format!(
                    "port {port} of Service {namespace}/{name} has the appProtocol {why:?}, which is not spoken for {}s",
                    route.name()
                ),
            ),
        })?;
        let cluster = speaks.named(format!("service/{namespace}/{name}/{port}"));
        if let Some(upstream) = self.overridden(namespace, name, &cluster, speaks, found)? {
            self.upstreams.insert(cluster.clone(), upstream);
            return Ok(Resolved {
                cluster,
                empty: false,
                warnings: Vec::new(),
            });
        }
        let Some(service) = service else {
            return Err(Unresolved {
                reason: "BackendNotFound",
                fault: Fault::new(
                    "backend-not-found",
                    "name",
                    format!("Service {namespace}/{name} does not exist"),
                )
                .fix(format!(
                    "add it, or name an endpoint with --backend {namespace}/{name}=HOST:PORT"
                )),
            });
        };
        let spec = service.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            return Err(Unresolved {
                reason: "UnsupportedValue",
                fault: Fault::new(
                    "external-name-service",
                    "name",
                    format!("Service {namespace}/{name} is of type ExternalName, which is not followed"),
                )
                .fix("use a Backend with an fqdn endpoint"),
            });
        }
        let Some(found) = found else {
            return Err(Unresolved {
                reason: "PortNotFound",
                fault: Fault::new(
                    "backend-port-not-found",
                    "port",
                    format!("Service {namespace}/{name} has no TCP port {port}"),
                ),
            });
        };
        let tls = self.trust(("", "Service", namespace, name), Some(found))?;
        let destinations = self.endpoints(namespace, name, found);
        let empty = destinations.iter().all(|destination| destination.draining);
        let warnings = if empty {
            vec![
                Fault::new(
                    "no-endpoints",
                    "name",
                    format!(
                        "Service {namespace}/{name} has no ready endpoints on port {port}: requests are answered 503"
                    ),
                )
                .fix(format!("name an endpoint with --backend {namespace}/{name}=HOST:PORT")),
            ]
        } else {
            Vec::new()
        };
        self.upstreams.entry(cluster.clone()).or_insert_with(|| Upstream {
            name: cluster.clone(),
            discovery: Discovery::Endpoints,
            http2: speaks != Speaks::Http1,
            tls,
            destinations,
        });
        Ok(Resolved {
            cluster,
            empty,
            warnings,
        })
    }

    /// How a port of a Service proves itself, by the policies on it.
    fn trust(
        &self,
        target: (&str, &str, &str, &str),
        port: Option<&ServicePort>,
    ) -> Result<Option<Arc<Trust>>, Unresolved> {
        let section = port.and_then(|port| port.name.as_deref());
        self.tls.of(target, section.as_slice()).map_err(not_trusted)
    }

    fn overridden(
        &self,
        namespace: &str,
        name: &str,
        cluster: &str,
        speaks: Speaks,
        port: Option<&ServicePort>,
    ) -> Result<Option<Upstream>, Unresolved> {
        let Some(endpoint) = self.overrides.get(&format!("{namespace}/{name}")) else {
            return Ok(None);
        };
        let Some(destination) = destination(endpoint) else {
            return Err(Unresolved {
                reason: "UnsupportedValue",
                fault: Fault::new(
                    "invalid-backend-override",
                    "name",
                    format!("the endpoint {endpoint:?} given for {namespace}/{name} is not HOST:PORT"),
                ),
            });
        };
        Ok(Some(Upstream {
            name: cluster.to_owned(),
            discovery: Upstream::discovery_of(&destination.host),
            tls: self.trust(("", "Service", namespace, name), port)?,
            http2: speaks != Speaks::Http1,
            destinations: vec![destination],
        }))
    }

    fn endpoints(&self, namespace: &str, name: &str, port: &ServicePort) -> Vec<Destination> {
        let mut destinations = Vec::new();
        for slice in self.slices.get(&(namespace, name)).into_iter().flatten() {
            if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
                continue;
            }
            let wanted = port.name.as_deref().unwrap_or_default();
            let number = slice
                .ports
                .iter()
                .flatten()
                .find(|candidate| candidate.name.as_deref().unwrap_or_default() == wanted)
                .and_then(|candidate| u16::try_from(candidate.port?).ok())
                .filter(|port| *port > 0);
            let Some(number) = number else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.as_ref();
                // An absent `ready` counts as ready (EndpointConditions).
                let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
                let draining = conditions
                    .is_some_and(|conditions| conditions.terminating == Some(true) && conditions.serving == Some(true));
                if ready || draining {
                    // An address that is none would make Envoy refuse all of them.
                    let addresses = endpoint
                        .addresses
                        .iter()
                        .filter(|address| address.parse::<IpAddr>().is_ok());
                    destinations.extend(addresses.map(|address| Destination {
                        host: address.clone(),
                        port: number,
                        draining: !ready,
                    }));
                }
            }
        }
        destinations.sort();
        destinations.dedup_by(|one, other| (&one.host, one.port) == (&other.host, other.port));
        destinations
    }

    /// The Backends that a reference could mean, or that there is none.
    fn instead_of(&self, namespace: &str, name: &str) -> String {
        let of_namespace = self.backends.keys().filter(|(of, _)| *of == namespace);
        let mut names: Vec<String> = of_namespace.map(|(_, name)| format!("{name:?}")).collect();
        names.sort();
        names.truncate(5);
        match names.as_slice() {
            [] => format!("create Backend {namespace}/{name}"),
            [name] => format!("write {name}"),
            names => format!("write one of {}", names.join(", ")),
        }
    }

    /// How a Backend proves itself: a policy on it beats its own settings.
    fn trust_of(
        &self,
        backend: &Backend,
        namespace: &str,
        name: &str,
        destinations: &[Destination],
    ) -> Result<Option<Arc<Trust>>, Unresolved> {
        let target = (POLICY_GROUP, "Backend", namespace, name);
        let mut ports: Vec<String> = destinations.iter().map(|to| to.port.to_string()).collect();
        ports.sort();
        ports.dedup();
        let mut found: Vec<Option<Arc<Trust>>> = Vec::new();
        for port in &ports {
            let of_port = self.tls.of(target, &[port]).map_err(not_trusted)?;
            if !found.contains(&of_port) {
                found.push(of_port);
            }
        }
        if found.len() > 1 {
            let message = format!("the ports of Backend {namespace}/{name} are to prove themselves in different ways");
            return Err(not_trusted(message));
        }
        match (found.pop().flatten(), &backend.spec.tls) {
            (Some(trust), _) => Ok(Some(trust)),
            (None, Some(settings)) => {
                let own = self.tls.of_settings(namespace, settings, &backend.spec.endpoints);
                own.map(Some)
                    .map_err(|why| not_trusted(format!("Backend {namespace}/{name} {why}")))
            }
            (None, None) => Ok(None),
        }
    }

    fn backend(
        &mut self,
        route: Kind,
        route_namespace: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Resolved, Unresolved> {
        let unsupported = |what: &str| Unresolved {
            reason: "UnsupportedValue",
            fault: Fault::new(
                "unsupported-backend",
                "name",
                format!("Backend {namespace}/{name} {what}"),
            ),
        };
        let Some(backend) = self.backends.get(&(namespace, name)).copied() else {
            return Err(Unresolved {
                reason: "BackendNotFound",
                fault: Fault::new(
                    "backend-not-found",
                    "name",
                    format!("Backend {namespace}/{name} does not exist"),
                )
                // A grant for one name is none for the names of others.
                .fix(if route_namespace == namespace {
                    self.instead_of(namespace, name)
                } else {
                    format!("create Backend {namespace}/{name}")
                }),
            });
        };
        let spec = &backend.spec;
        if spec.r#type != BackendType::Endpoints {
            return Err(unsupported("is of a type that is not supported; list its endpoints"));
        }
        let mut destinations = Vec::new();
        let mut discovery = None;
        for endpoint in &spec.endpoints {
            let (host, port, kind) = match (&endpoint.ip, &endpoint.fqdn) {
                (Some(ip), None) => (&ip.address, ip.port, Discovery::Static),
                (None, Some(fqdn)) => (&fqdn.hostname, fqdn.port, Discovery::Dns),
                _ => return Err(unsupported("has an endpoint that is neither ip nor fqdn")),
            };
            if kind == Discovery::Static && Upstream::discovery_of(host) != Discovery::Static {
                return Err(unsupported(&format!(
                    "has the endpoint {host:?}, which is not an IP address"
                )));
            }
            if kind == Discovery::Dns && !is_dns_name(host) {
                return Err(unsupported(&format!(
                    "has the endpoint {host:?}, which is not a DNS name"
                )));
            }
            if *discovery.get_or_insert(kind) != kind {
                return Err(unsupported("mixes ip and fqdn endpoints"));
            }
            let Some(port) = u16::try_from(port).ok().filter(|port| *port > 0) else {
                return Err(unsupported("has an endpoint whose port is not between 1 and 65535"));
            };
            destinations.push(Destination {
                host: host.clone(),
                port,
                draining: false,
            });
        }
        destinations.sort();
        destinations.dedup();
        let tls = self.trust_of(backend, namespace, name, &destinations)?;
        let mut warnings = Vec::new();
        if destinations.is_empty() {
            warnings.push(Fault::new(
                "no-endpoints",
                "name",
                format!("Backend {namespace}/{name} has no endpoints: requests are answered 503"),
            ));
        }
        let unused = [
            (
                spec.fallback == Some(true),
                "sets fallback, but gets its weight's share like any other",
            ),
            (
                spec.endpoints.iter().any(|endpoint| endpoint.zone.is_some()),
                "sets zone, but no zone is preferred",
            ),
            (
                spec.endpoints.iter().any(|endpoint| endpoint.hostname.is_some()),
                "sets hostname, but no host is rewritten by it",
            ),
            (
                spec.app_protocols.iter().any(|protocol| *protocol != AppProtocol::H2c),
                "sets an appProtocol other than gateway.envoyproxy.io/h2c",
            ),
        ];
        warnings.extend(
            unused
                .into_iter()
                .filter(|(set, _)| *set)
                .map(|(_, why)| ignored("name", &format!("Backend {namespace}/{name} {why}"))),
        );
        let speaks = if spec.app_protocols.contains(&AppProtocol::H2c) {
            Speaks::Http2
        } else {
            Speaks::by_default(route)
        };
        let cluster = speaks.named(format!("backend/{namespace}/{name}"));
        let empty = destinations.is_empty();
        self.upstreams.entry(cluster.clone()).or_insert_with(|| Upstream {
            name: cluster.clone(),
            discovery: discovery.unwrap_or(Discovery::Static),
            http2: speaks != Speaks::Http1,
            tls,
            destinations,
        });
        Ok(Resolved {
            cluster,
            empty,
            warnings,
        })
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
            (Some(other @ "kubernetes.io/wss"), _) | (Some(other @ "kubernetes.io/ws"), Kind::Grpc) => Err(other),
            _ => Ok(Self::by_default(route)),
        }
    }

    const fn by_default(route: Kind) -> Self {
        match route {
            Kind::Http => Self::Http1,
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

/// `host:port`, `[v6]:port`.
fn destination(endpoint: &str) -> Option<Destination> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let valid = Upstream::discovery_of(host) == Discovery::Static || is_dns_name(host);
    valid.then(|| Destination {
        host: host.to_owned(),
        port,
        draining: false,
    })
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
