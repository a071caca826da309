//! Listeners: sockets and certificates, one constant chain; nothing of routes and policies.

use envoy_types::pb::envoy::{
    config::{
        core::v3::{TransportSocket, transport_socket},
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter},
    },
    extensions::{
        filters::listener::tls_inspector::v3::TlsInspector,
        transport_sockets::tls::v3::{
            CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters, tls_parameters::TlsProtocol,
        },
    },
};
use portcullis_attachment::{geography::Databases, hostname};
use prost::Message;

use crate::{
    Options, Resource,
    chain::connection_manager,
    client_certificates::Validation,
    detection::{Detection, Peers},
    resource::LISTENER,
    xds::{ads, any, number, socket},
};

/// An HTTPS listener of a port.
pub(crate) struct Secure<'a> {
    /// Unique among the listeners of the Gateway.
    pub(crate) name: String,
    pub(crate) hostname: &'a str,
    /// The names of its certificates' secrets.
    pub(crate) certificates: Vec<String>,
    /// What it asks of the certificates of clients, if anything.
    pub(crate) validation: Option<&'a Validation>,
    /// How it finds out the address of a client.
    pub(crate) detection: Detection,
}

/// The name of the listener that a port's are put together in.
pub(crate) fn socket_name(protocol: &str, port: u16) -> String {
    format!("{}-{port}", protocol.to_ascii_lowercase())
}

/// The route table that all HTTP listeners of a port share.
pub(crate) fn plain_table(port: u16) -> String {
    format!("http-{port}")
}

/// The route table of one HTTPS listener.
pub(crate) fn secure_table(port: u16, listener: &str) -> String {
    format!("https-{port}-{listener}")
}

/// The socket of a port whose listeners speak HTTP.
pub(crate) fn plain(
    port: u16,
    bound: u16,
    detection: &Detection,
    databases: Option<&Databases>,
    options: &Options,
) -> Resource {
    let name = plain_table(port);
    let chain = |peers: Peers<'_>| FilterChain {
        filters: vec![http(&name, &name, &peers, databases, options)],
        name: chain_name(&name, &peers),
        filter_chain_match: peers.networks.map(|networks| FilterChainMatch {
            direct_source_prefix_ranges: networks,
            ..FilterChainMatch::default()
        }),
        ..FilterChain::default()
    };
    finish(Listener {
        filter_chains: detection.peers().into_iter().map(chain).collect(),
        ..base(name.clone(), bound)
    })
}

/// The socket of a port whose listeners speak HTTPS, told apart by the name in the TLS greeting.
pub(crate) fn secure(
    port: u16,
    bound: u16,
    listeners: &[Secure<'_>],
    databases: Option<&Databases>,
    options: &Options,
) -> Resource {
    let name = format!("https-{port}");
    let chains: Vec<FilterChain> = listeners
        .iter()
        .flat_map(|listener| {
            let names = if listener.hostname == hostname::ANY {
                Vec::new()
            } else {
                vec![listener.hostname.to_owned()]
            };
            let name = &name;
            let chain = move |peers: Peers<'_>| FilterChain {
                filters: listener
                    .validation
                    .and_then(Validation::mark)
                    .into_iter()
                    .chain([http(
                        name,
                        &secure_table(port, &listener.name),
                        &peers,
                        databases,
                        options,
                    )])
                    .collect(),
                transport_socket: Some(terminate(&listener.certificates, listener.validation)),
                name: chain_name(&listener.name, &peers),
                filter_chain_match: Some(FilterChainMatch {
                    server_names: names.clone(),
                    transport_protocol: "tls".to_owned(),
                    direct_source_prefix_ranges: peers.networks.unwrap_or_default(),
                    ..FilterChainMatch::default()
                }),
                ..FilterChain::default()
            };
            listener.detection.peers().into_iter().map(chain)
        })
        .collect();
    let inspector = ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..ListenerFilter::default()
    };
    finish(Listener {
        filter_chains: chains,
        listener_filters: vec![inspector],
        ..base(name.clone(), bound)
    })
}

fn chain_name(name: &str, peers: &Peers<'_>) -> String {
    let suffix = peers.suffix.map(|suffix| format!("/{suffix}"));
    format!("{name}{}", suffix.unwrap_or_default())
}

/// What every listener has.
pub(crate) fn base(name: String, bound: u16) -> Listener {
    Listener {
        name,
        address: socket("0.0.0.0", bound.into()),
        per_connection_buffer_limit_bytes: number(32 * 1024),
        ..Listener::default()
    }
}

fn finish(listener: Listener) -> Resource {
    Resource {
        type_url: LISTENER,
        body: listener.encode_to_vec().into(),
        name: listener.name,
    }
}

fn http(stat_prefix: &str, table: &str, peers: &Peers<'_>, databases: Option<&Databases>, options: &Options) -> Filter {
    let manager = connection_manager(stat_prefix, table, peers, databases, options);
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    }
}

fn terminate(certificates: &[String], validation: Option<&Validation>) -> TransportSocket {
    let mut context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..TlsParameters::default()
            }),
            tls_certificate_sds_secret_configs: certificates
                .iter()
                .map(|name| SdsSecretConfig {
                    name: name.clone(),
                    sds_config: ads(),
                })
                .collect(),
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    if let Some(validation) = validation {
        validation.apply(&mut context);
    }
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}
