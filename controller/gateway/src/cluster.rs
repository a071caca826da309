//! Clusters and their endpoints.

use std::{collections::HashMap, net::IpAddr};

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig, LbPolicy},
        },
        core::v3::{HealthStatus, Http2ProtocolOptions},
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    },
    extensions::{
        clusters::{common::dns::v3::DnsLookupFamily, dns::v3::DnsCluster},
        upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
    },
};
use prost::{Message, Name};

use crate::{
    Resource,
    resource::{CLUSTER, LOAD_ASSIGNMENT},
    xds::{ads, any, milliseconds, number, socket},
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
                        body: cluster.encode_to_vec(),
                    },
                    Resource {
                        type_url: LOAD_ASSIGNMENT,
                        name: self.name.clone(),
                        body: assignment.encode_to_vec(),
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
            body: cluster.encode_to_vec(),
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
