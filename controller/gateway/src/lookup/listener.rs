//! Which filter chain takes a connection, and what its connection manager does to requests.

use std::net::IpAddr;

use envoy_types::pb::envoy::{
    config::{
        core::v3::{
            HttpProtocolOptions, address::Address, http_protocol_options::HeadersWithUnderscoresAction,
            socket_address::PortSpecifier,
        },
        listener::v3::{FilterChain, FilterChainMatch, Listener, filter},
    },
    extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager,
        http_connection_manager::{PathWithEscapedSlashesAction, RouteSpecifier},
    },
};
use prost::Message;

use super::{
    certificate::Validation,
    client::{Detection, Network},
    unclear::{Unclear, whole},
};
use crate::{
    Resource,
    chain::{GEOGRAPHY, RECHECK},
    client_certificates::MARK,
};

/// The HTTP filters of a connection manager that is understood.
const FILTERS: [&str; 5] = ["portcullis", "refresh", RECHECK, "seal", "envoy.filters.http.router"];

/// A socket that Envoy listens on.
pub(crate) struct Socket {
    pub(crate) bound: u16,
    chains: Vec<Chain>,
}

/// The connections of one server name, or of all.
pub(crate) struct Chain {
    pub(crate) name: String,
    /// In lower case; none takes every name.
    server_names: Vec<String>,
    pub(crate) secure: bool,
    /// What is asked of certificates of clients.
    pub(crate) validation: Validation,
    /// The name of the route table.
    pub(crate) table: String,
    /// The networks of the peers that it serves; none serves all others.
    peers: Vec<Network>,
    /// How the client is found out.
    pub(crate) detection: Detection,
    /// Whether databases are asked where the client is.
    pub(crate) places: bool,
}

impl Socket {
    /// Reads a listener.
    ///
    /// # Errors
    ///
    /// It says something that is not understood.
    pub(crate) fn read(resource: &Resource) -> Result<Self, Unclear> {
        let what = format!("the listener {}", resource.name);
        let listener = Listener::decode(resource.body.clone())
            .map_err(|error| Unclear::new(format!("{what} cannot be read: {error}")))?;
        let bound = match listener.address.as_ref().and_then(|address| address.address.as_ref()) {
            Some(Address::SocketAddress(socket)) => match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok(),
                _ => None,
            },
            _ => None,
        };
        let bound = bound.ok_or_else(|| Unclear::new(format!("{what} has no port")))?;
        if let Some(filter) = listener
            .listener_filters
            .iter()
            .find(|filter| filter.name != "envoy.filters.listener.tls_inspector")
        {
            return Err(Unclear::new(format!("{what} has the filter {}", filter.name)));
        }
        let chains = listener.filter_chains.iter().map(|chain| Chain::read(chain, &what));
        let socket = Self {
            bound,
            chains: chains.collect::<Result<_, _>>()?,
        };
        let rest = Listener {
            name: String::new(),
            address: None,
            filter_chains: Vec::new(),
            listener_filters: Vec::new(),
            per_connection_buffer_limit_bytes: None,
            ..listener
        };
        whole(&what, &rest)?;
        Ok(socket)
    }

    /// The chain of a connection: the exact server name, then the longest wildcard, then the chains of any name; of those
    /// the one that names the peer's network, else the one for every other peer.
    pub(crate) fn chain(&self, server_name: Option<&str>, peer: IpAddr) -> Option<&Chain> {
        let name = server_name.map(str::to_ascii_lowercase).unwrap_or_default();
        let of_peer = |takes: &dyn Fn(&Chain) -> bool| {
            let mut any = None;
            for chain in self.chains.iter().filter(|chain| takes(chain)) {
                if chain.peers.iter().any(|network| network.contains(peer)) {
                    return Some(chain);
                }
                any = any.or_else(|| Some(chain).filter(|chain| chain.peers.is_empty()));
            }
            any
        };
        let named = |wanted: &str| of_peer(&|chain| chain.server_names.iter().any(|name| name == wanted));
        if let Some(chain) = named(&name).filter(|_| !name.is_empty()) {
            return Some(chain);
        }
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(chain) = named(&format!("*.{parent}")) {
                return Some(chain);
            }
            rest = parent;
        }
        of_peer(&|chain| chain.server_names.is_empty())
    }

    /// Whether connections are in TLS.
    pub(crate) fn secure(&self) -> bool {
        self.chains.iter().any(|chain| chain.secure)
    }
}

impl Chain {
    fn read(chain: &FilterChain, what: &str) -> Result<Self, Unclear> {
        let matched = chain.filter_chain_match.clone().unwrap_or_default();
        let rest = FilterChainMatch {
            server_names: Vec::new(),
            transport_protocol: String::new(),
            direct_source_prefix_ranges: Vec::new(),
            ..matched.clone()
        };
        whole(&format!("the match of a filter chain of {what}"), &rest)?;
        let secure = chain.transport_socket.is_some();
        let rest = FilterChain {
            filter_chain_match: None,
            filters: Vec::new(),
            transport_socket: None,
            name: String::new(),
            ..chain.clone()
        };
        whole(&format!("a filter chain of {what}"), &rest)?;
        let (marked, only) = match chain.filters.as_slice() {
            [only] => (false, only),
            [mark, only] if mark.name == MARK => (true, only),
            _ => return Err(Unclear::new(format!("a filter chain of {what} has several filters"))),
        };
        let validation = Validation::read(chain.transport_socket.as_ref(), marked, what)?;
        let manager = match &only.config_type {
            Some(filter::ConfigType::TypedConfig(any)) => HttpConnectionManager::decode(any.value.as_slice()).ok(),
            _ => None,
        };
        let manager = manager.ok_or_else(|| Unclear::new(format!("a filter chain of {what} serves no HTTP")))?;
        let (table, detection, places) = manage(manager, what)?;
        let peers = matched.direct_source_prefix_ranges.iter().map(Network::read);
        Ok(Self {
            name: chain.name.clone(),
            server_names: matched
                .server_names
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            secure,
            validation,
            table,
            peers: peers.collect::<Result<_, _>>()?,
            detection,
            places,
        })
    }
}

/// Checks that a connection manager does to requests what [`super::head`] does.
fn manage(mut manager: HttpConnectionManager, what: &str) -> Result<(String, Detection, bool), Unclear> {
    let what = format!("the connection manager of {what}");
    let Some(RouteSpecifier::Rds(routes)) = &manager.route_specifier else {
        return Err(Unclear::new(format!("{what} names no route table")));
    };
    let table = routes.route_config_name.clone();
    let filters: Vec<&str> = manager.http_filters.iter().map(|filter| filter.name.as_str()).collect();
    let [ours, look_up, done] = GEOGRAPHY;
    let [first, rest @ ..] = &FILTERS;
    let geography: Vec<&str> = [ours, look_up, *first, done]
        .into_iter()
        .chain(rest.iter().copied())
        .collect();
    let places = filters == geography;
    if filters != FILTERS && !places {
        return Err(Unclear::new(format!("{what} has the filters {}", filters.join(", "))));
    }
    let yes = |flag: Option<envoy_types::pb::google::protobuf::BoolValue>| flag.is_some_and(|flag| flag.value);
    let common = manager.common_http_protocol_options.unwrap_or_default();
    let understood = yes(manager.normalize_path)
        && manager.merge_slashes
        && manager.path_with_escaped_slashes_action == i32::from(PathWithEscapedSlashesAction::UnescapeAndRedirect)
        && manager.strip_trailing_host_dot
        && common.headers_with_underscores_action == i32::from(HeadersWithUnderscoresAction::RejectRequest);
    if !understood {
        return Err(Unclear::new(format!(
            "{what} reads requests in another way than every other"
        )));
    }
    whole(
        &what,
        &HttpProtocolOptions {
            headers_with_underscores_action: 0,
            ..common
        },
    )?;
    let detection = Detection::take(&mut manager)?;
    let rest = HttpConnectionManager {
        stat_prefix: String::new(),
        route_specifier: None,
        http_filters: Vec::new(),
        common_http_protocol_options: None,
        http2_protocol_options: None,
        access_log: Vec::new(),
        stream_idle_timeout: None,
        forward_client_cert_details: 0,
        server_header_transformation: 0,
        normalize_path: None,
        merge_slashes: false,
        path_with_escaped_slashes_action: 0,
        strip_trailing_host_dot: false,
        // Requests that ask for an upgrade are not answered here.
        upgrade_configs: Vec::new(),
        ..manager
    };
    whole(&what, &rest)?;
    Ok((table, detection, places))
}
