//! Clusters and their endpoints.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig, LbPolicy},
        },
        core::v3::{DataSource, HealthStatus, Http2ProtocolOptions, TransportSocket, data_source, transport_socket},
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    },
    extensions::{
        clusters::{common::dns::v3::DnsLookupFamily, dns::v3::DnsCluster},
        transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
            common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
        },
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use prost::{Message, Name};

use crate::{
    Resource,
    backend_tls::{Authorities, Name as CertificateName, Trust},
    resource::{CLUSTER, LOAD_ASSIGNMENT},
    xds::{ads, any, inline, milliseconds, number, socket},
};

/// Where a cluster's endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// Addresses that change often and without the cluster.
    Endpoints,
    /// Addresses that stand in the manifest.
    Static,
    /// Names.
    Dns,
}

/// A host and a port that a request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Destination {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Finishes what it has and takes no new connections.
    pub(crate) draining: bool,
}

/// One backend as Envoy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) discovery: Discovery,
    pub(crate) http2: bool,
    /// How it proves itself; connections are not encrypted if absent.
    pub(crate) tls: Option<Arc<Trust>>,
    /// Sorted and without repetition.
    pub(crate) destinations: Vec<Destination>,
}

impl Upstream {
    /// A host that is an address is static, any other a name.
    pub(crate) fn discovery_of(host: &str) -> Discovery {
        if host.parse::<IpAddr>().is_ok() {
            Discovery::Static
        } else {
            Discovery::Dns
        }
    }

    /// The cluster, and its endpoints if they travel apart.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let assignment = ClusterLoadAssignment {
            cluster_name: self.name.clone(),
            endpoints: self.localities(),
            ..ClusterLoadAssignment::default()
        };
        let mut cluster = Cluster {
            name: self.name.clone(),
            connect_timeout: milliseconds(10_000),
            lb_policy: LbPolicy::LeastRequest.into(),
            typed_extension_protocol_options: self.protocol(),
            transport_socket: self.tls.as_deref().map(encrypt),
            ..Cluster::default()
        };
        let kind = |kind: DiscoveryType| Some(ClusterDiscoveryType::Type(kind.into()));
        match self.discovery {
            Discovery::Endpoints => {
                cluster.cluster_discovery_type = kind(DiscoveryType::Eds);
                cluster.eds_cluster_config = Some(EdsClusterConfig {
                    eds_config: ads(),
                    ..EdsClusterConfig::default()
                });
                cluster.ignore_health_on_host_removal = true;
                return vec![
                    Resource {
                        type_url: CLUSTER,
                        name: self.name.clone(),
                        body: cluster.encode_to_vec().into(),
                    },
                    Resource {
                        type_url: LOAD_ASSIGNMENT,
                        name: self.name.clone(),
                        body: assignment.encode_to_vec().into(),
                    },
                ];
            }
            Discovery::Static => cluster.cluster_discovery_type = kind(DiscoveryType::Static),
            Discovery::Dns => {
                cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                    name: "envoy.clusters.dns".to_owned(),
                    typed_config: Some(any(&DnsCluster {
                        dns_refresh_rate: milliseconds(30_000),
                        respect_dns_ttl: true,
                        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
                        ..DnsCluster::default()
                    })),
                }));
            }
        }
        cluster.load_assignment = Some(assignment);
        vec![Resource {
            type_url: CLUSTER,
            name: self.name.clone(),
            body: cluster.encode_to_vec().into(),
        }]
    }

    fn localities(&self) -> Vec<LocalityLbEndpoints> {
        if self.destinations.is_empty() {
            return Vec::new();
        }
        let endpoints = self.destinations.iter().map(|destination| LbEndpoint {
            health_status: if destination.draining {
                HealthStatus::Draining.into()
            } else {
                HealthStatus::Unknown.into()
            },
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: socket(&destination.host, destination.port.into()),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        });
        vec![LocalityLbEndpoints {
            lb_endpoints: endpoints.collect(),
            load_balancing_weight: number(1),
            ..LocalityLbEndpoints::default()
        }]
    }

    fn protocol(&self) -> HashMap<String, envoy_types::pb::google::protobuf::Any> {
        if !self.http2 {
            return HashMap::new();
        }
        let options = HttpProtocolOptions {
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
            })),
            ..HttpProtocolOptions::default()
        };
        HashMap::from([(HttpProtocolOptions::full_name(), any(&options))])
    }
}

/// TLS that ends the connection unless the backend proves itself.
fn encrypt(trust: &Trust) -> TransportSocket {
    let names = trust.names.iter().map(|name| {
        let (kind, name) = match name {
            CertificateName::Dns(name) => (SanType::Dns, name),
            CertificateName::Uri(name) => (SanType::Uri, name),
        };
        SubjectAltNameMatcher {
            san_type: kind.into(),
            matcher: Some(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(name.clone())),
                ..StringMatcher::default()
            }),
            ..SubjectAltNameMatcher::default()
        }
    });
    let validation = CertificateValidationContext {
        trusted_ca: match &trust.authorities {
            Authorities::Pem(pem) => inline(pem.clone()),
            Authorities::File(path) => Some(DataSource {
                specifier: Some(data_source::Specifier::Filename(path.clone())),
                ..DataSource::default()
            }),
        },
        match_typed_subject_alt_names: names.collect(),
        ..CertificateValidationContext::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..TlsParameters::default()
            }),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        sni: trust.server_name.clone(),
        ..UpstreamTlsContext::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
    }
}
