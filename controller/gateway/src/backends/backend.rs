//! Backends: endpoints outside Kubernetes.

use std::sync::Arc;

use portcullis_api::backend::{AppProtocol, Backend, BackendType};
use portcullis_attachment::object::POLICY_GROUP;

use super::{Backends, Resolved, Speaks, Unresolved, is_dns_name, not_trusted};
use crate::{
    backend_tls::Trust,
    cluster::{Destination, Discovery, Upstream},
    report::{Fault, ignored},
    route::source::Kind,
};

impl Backends<'_> {
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

    pub(super) fn backend(
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
                format!("Backend {namespace}/{name} has no endpoints: {}", route.unanswered()),
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
        let upstream = Upstream {
            name: cluster,
            discovery: discovery.unwrap_or(Discovery::Static),
            http2: speaks != Speaks::Http1,
            tls,
            destinations,
        };
        Ok(self.resolved(upstream, empty, warnings))
    }
}
