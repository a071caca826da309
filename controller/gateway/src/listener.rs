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
use portcullis_attachment::hostname;
use prost::Message;

use crate::{
    Options, Resource,
    chain::connection_manager,
    resource::LISTENER,
    xds::{ads, any, number, socket},
};

/// An HTTPS listener of a port.
pub(crate) struct Secure<'a> {
    pub(crate) name: &'a str,
    pub(crate) hostname: &'a str,
    /// The names of its certificates' secrets.
    pub(crate) certificates: Vec<String>,
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
pub(crate) fn plain(port: u16, bound: u16, options: &Options) -> Resource {
    let name = plain_table(port);
    let chain = FilterChain {
        filters: vec![http(&name, &name, options)],
        name: name.clone(),
        ..FilterChain::default()
    };
    finish(Listener {
        filter_chains: vec![chain],
        ..base(name, bound)
    })
}

/// The socket of a port whose listeners speak HTTPS, told apart by the name in the TLS greeting.
pub(crate) fn secure(port: u16, bound: u16, listeners: &[Secure<'_>], options: &Options) -> Resource {
    let name = format!("https-{port}");
    let chains = listeners.iter().map(|listener| {
        let names = if listener.hostname == hostname::ANY {
            Vec::new()
        } else {
            vec![listener.hostname.to_owned()]
        };
        FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                server_names: names,
                transport_protocol: "tls".to_owned(),
                ..FilterChainMatch::default()
            }),
            filters: vec![http(&name, &secure_table(port, listener.name), options)],
            transport_socket: Some(terminate(&listener.certificates)),
            name: listener.name.to_owned(),
            ..FilterChain::default()
        }
    });
    let inspector = ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..ListenerFilter::default()
    };
    finish(Listener {
        filter_chains: chains.collect(),
        listener_filters: vec![inspector],
        ..base(name.clone(), bound)
    })
}

fn base(name: String, bound: u16) -> Listener {
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
        body: listener.encode_to_vec(),
        name: listener.name,
    }
}

fn http(stat_prefix: &str, table: &str, options: &Options) -> Filter {
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&connection_manager(
            stat_prefix,
            table,
            options,
        )))),
    }
}

fn terminate(certificates: &[String]) -> TransportSocket {
    let context = DownstreamTlsContext {
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
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}
