//! The part of Envoy's route configuration that holds maps of several entries, with the maps in order.
//!
//! A resource's version is the hash of its bytes. The generated types keep maps in hash tables, whose order differs each
//! time; these types have the same wire form (`envoy.config.route.v3`, `envoy.config.core.v3.Metadata`,
//! `google.protobuf.Struct`) in sorted order, and the tests hold them against the generated ones.

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::{Any, BoolValue};
use prost::bytes::Bytes;

/// `envoy.config.route.v3.RouteConfiguration`; the virtual hosts are encoded already.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RouteTable {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) virtual_hosts: Vec<Bytes>,
    #[prost(message, optional, tag = "7")]
    pub(crate) validate_clusters: Option<BoolValue>,
    #[prost(bool, tag = "14")]
    pub(crate) ignore_port_in_host_matching: bool,
}

/// `envoy.config.route.v3.VirtualHost`; the routes are encoded already.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VirtualHost {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) domains: Vec<String>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) routes: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "24")]
    pub(crate) metadata: Option<Metadata>,
}

/// The name of an `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VirtualHostName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// `envoy.config.core.v3.Metadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) filter_metadata: BTreeMap<String, Struct>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) typed_filter_metadata: BTreeMap<String, Any>,
}

/// `google.protobuf.Struct`, of strings only.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`, a string.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(crate) string_value: Option<String>,
}

impl Struct {
    pub(crate) fn of(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            fields: fields
                .into_iter()
                .map(|(name, value)| {
                    (
                        name,
                        Value {
                            string_value: Some(value),
                        },
                    )
                })
                .collect(),
        }
    }
}
