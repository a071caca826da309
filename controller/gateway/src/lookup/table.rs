//! Which virtual host and which route of a table take a request.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{Metadata, data_source::Specifier},
            route::v3::{Route, RouteConfiguration, route::Action},
        },
        extensions::transport_sockets::tls::v3::GenericSecret,
    },
    google::protobuf::value::Kind,
};
use portcullis_engine::{
    http::{RequestHead, origin::without_port},
    seal::{METADATA_NAMESPACE, SECRETS_KEY_PREFIX},
};
use prost::Message;

use super::{
    matching::{first, takes},
    unclear::{Unclear, whole},
};
use crate::{Resource, chain::rechecked};

/// A route table.
pub(crate) struct Table {
    hosts: Vec<Host>,
    /// Positions in `hosts`, by domain in lower case.
    domains: HashMap<String, usize>,
}

/// A virtual host.
pub(crate) struct Host {
    pub(crate) name: String,
    routes: Vec<Route>,
    metadata: Metadata,
    /// Whether it says nothing else.
    understood: Result<(), Unclear>,
}

/// The route of a request, with the virtual host that it stands in.
#[derive(Clone, Copy)]
pub(crate) struct Selected<'a> {
    pub(crate) host: &'a Host,
    pub(crate) route: &'a Route,
}

impl Table {
    /// Reads a route table.
    ///
    /// # Errors
    ///
    /// It says something that is not understood; of a single host or route only when a request comes to it.
    pub(crate) fn read(resource: &Resource) -> Result<Self, Unclear> {
        let what = format!("the route table {}", resource.name);
        let mut table = RouteConfiguration::decode(resource.body.clone())
            .map_err(|error| Unclear::new(format!("{what} cannot be read: {error}")))?;
        let mut read = Self {
            hosts: Vec::new(),
            domains: HashMap::new(),
        };
        for mut host in std::mem::take(&mut table.virtual_hosts) {
            for domain in std::mem::take(&mut host.domains) {
                read.domains.insert(domain.to_ascii_lowercase(), read.hosts.len());
            }
            let name = std::mem::take(&mut host.name);
            let (routes, metadata) = (std::mem::take(&mut host.routes), host.metadata.take());
            read.hosts.push(Host {
                understood: whole(&format!("the virtual host {name}"), &host),
                name,
                routes,
                metadata: metadata.unwrap_or_default(),
            });
        }
        if !std::mem::take(&mut table.ignore_port_in_host_matching) {
            return Err(Unclear::new(format!("{what} tells hosts apart by their ports")));
        }
        table.name.clear();
        table.validate_clusters = None;
        whole(&what, &table)?;
        Ok(read)
    }

    /// Selects the route of a request: the host without case, exact, then the longest wildcard, then `*`; the first route
    /// that takes the request, of which the filter has noted those `claims`. Nothing if none does.
    ///
    /// # Errors
    ///
    /// The host, or a route on the way, is not understood.
    pub(crate) fn select(&self, head: &RequestHead, claims: Option<&str>) -> Result<Option<Selected<'_>>, Unclear> {
        let authority = first(head, b":authority").to_ascii_lowercase();
        let host = authority
            .get(..without_port(authority.as_bytes()).len())
            .unwrap_or_default();
        let Some(host) = self.host(host) else {
            return Ok(None);
        };
        host.understood.clone()?;
        for route in &host.routes {
            let Some(matched) = &route.r#match else {
                return Err(Unclear::new(format!("the route {} has no match", route.name)));
            };
            if takes(matched, head, claims, &route.name)? {
                return Ok(Some(Selected { host, route }));
            }
        }
        Ok(None)
    }

    fn host(&self, authority: &str) -> Option<&Host> {
        let named = |domain: &str| self.domains.get(domain).and_then(|position| self.hosts.get(*position));
        if let Some(host) = named(authority).filter(|_| authority != "*") {
            return Some(host);
        }
        // `*.a.b` takes whatever ends in `.a.b` and has something before it, dots included.
        let dots = authority.match_indices('.').filter(|(at, _)| *at > 0);
        dots.filter_map(|(at, _)| authority.get(at..))
            .find_map(|suffix| named(&format!("*{suffix}")))
            .or_else(|| named("*"))
    }
}

impl Selected<'_> {
    /// Whether the filter's second instance decides what claims send to another route.
    pub(crate) fn rechecks(&self) -> bool {
        self.route.typed_per_filter_config == rechecked()
    }

    /// The name of the policy on the route.
    pub(crate) fn hash(&self) -> Option<&str> {
        let metadata = self.route.metadata.as_ref()?;
        let fields = metadata.filter_metadata.get(METADATA_NAMESPACE)?;
        match fields.fields.get("h")?.kind.as_ref()? {
            Kind::StringValue(hash) => Some(hash),
            _ => None,
        }
    }

    /// A policy's document and secrets, as they are delivered with the virtual host.
    pub(crate) fn policy(&self, hash: &str) -> Option<(String, Vec<u8>)> {
        let metadata = &self.host.metadata;
        let document = match metadata
            .filter_metadata
            .get(METADATA_NAMESPACE)?
            .fields
            .get(hash)?
            .kind
            .as_ref()?
        {
            Kind::StringValue(document) => document.clone(),
            _ => return None,
        };
        let secret = metadata
            .typed_filter_metadata
            .get(&format!("{SECRETS_KEY_PREFIX}{hash}"))?;
        let secret = GenericSecret::decode(secret.value.as_slice()).ok()?;
        match secret.secret?.specifier? {
            Specifier::InlineBytes(bytes) => Some((document, bytes)),
            _ => None,
        }
    }

    /// What the route does, if nothing else about it is unknown.
    pub(crate) fn action(&self) -> Result<&Action, Unclear> {
        let route = self.route;
        let filters = &route.typed_per_filter_config;
        let rest = Route {
            name: String::new(),
            r#match: None,
            metadata: None,
            typed_per_filter_config: if self.rechecks() {
                HashMap::new()
            } else {
                filters.clone()
            },
            request_headers_to_add: Vec::new(),
            request_headers_to_remove: Vec::new(),
            response_headers_to_add: Vec::new(),
            response_headers_to_remove: Vec::new(),
            action: None,
            ..route.clone()
        };
        whole(&format!("the route {}", route.name), &rest)?;
        route
            .action
            .as_ref()
            .ok_or_else(|| Unclear::new(format!("the route {} does nothing", route.name)))
    }
}
