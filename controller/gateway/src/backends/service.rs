//! Services: their ports and endpoints.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::ServicePort;

use super::{Backends, Resolved, Speaks, Unresolved, is_dns_name, not_trusted};
use crate::{
    backend_tls::Trust,
    cluster::{Destination, Discovery, Upstream},
    report::Fault,
    route::source::Kind,
};

impl Backends<'_> {
    pub(super) fn service(
        &mut self,
        route: Kind,
        namespace: &str,
        name: &str,
        port: Option<i32>,
    ) -> Result<Resolved, Unresolved> {
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
                        "Service {namespace}/{name} has no ready endpoints on port {port}: {}",
                        route.unanswered()
                    ),
                )
                .fix(format!("name an endpoint with --backend {namespace}/{name}=HOST:PORT")),
            ]
        } else {
            Vec::new()
        };
        let upstream = Upstream {
            name: cluster,
            discovery: Discovery::Endpoints,
            http2: speaks != Speaks::Http1,
            tls,
            destinations,
        };
        Ok(self.resolved(upstream, empty, warnings))
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
