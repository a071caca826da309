//! The messages of `envoy.service.discovery.v3` that the delta protocol needs, declared by field number.
//!
//! Fields that this server does not read are left out; protobuf skips them on decoding.

use std::collections::BTreeMap;

use bytes::Bytes;

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// The proxy; set at least on the first request of a stream.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type that the request is about.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to follow from now on; `*` means every resource of the type.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to follow no longer.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What the client holds already, by name; only in a stream's first request for the type.
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    /// The nonce of the response that this request acknowledges or rejects; else empty.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Present when the request rejects that response.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// The version of the whole snapshot; for people only.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Added and changed resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// The type of the resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// What the request that answers this response must carry.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that exist no longer, or never did.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// `envoy.service.discovery.v3.Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// The version of this resource alone.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The resource.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// The name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// The type of the message in `value`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message; shared with the snapshot, not copied per stream.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `google.rpc.Status`, without details.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The client's own words. They may quote the rejected resource, secrets included: never to be shown or logged.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// The proxy's own name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What selects the proxy's configuration.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// What the bootstrap says about the proxy.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
}

/// The part of `envoy.config.cluster.v3.Cluster` that says where its endpoints come from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cluster {
    /// The cluster's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Present when the endpoints are a resource of their own.
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
}

/// The part of `envoy.config.cluster.v3.Cluster.EdsClusterConfig` that names the endpoints.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EdsClusterConfig {
    /// The endpoints' name; empty for the cluster's.
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    /// The members.
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// The value; absent means null.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<Kind>,
}

/// The alternatives of `google.protobuf.Value`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// `null_value`.
    #[prost(int32, tag = "1")]
    Null(i32),
    /// `number_value`.
    #[prost(double, tag = "2")]
    Number(f64),
    /// `string_value`.
    #[prost(string, tag = "3")]
    Text(String),
    /// `bool_value`.
    #[prost(bool, tag = "4")]
    Bool(bool),
    /// `struct_value`.
    #[prost(message, tag = "5")]
    Struct(Struct),
    /// `list_value`.
    #[prost(message, tag = "6")]
    List(List),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    /// The elements.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

impl Struct {
    /// Returns the same as JSON; numbers that JSON cannot hold become null.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.fields
            .iter()
            .map(|(name, value)| (name.clone(), value.to_json()))
            .collect()
    }
}

impl Value {
    // As deep as the decoder lets a message nest (100).
    fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            None | Some(Kind::Null(_)) => serde_json::Value::Null,
            Some(Kind::Number(number)) => serde_json::Value::from(*number),
            Some(Kind::Text(text)) => serde_json::Value::from(text.as_str()),
            Some(Kind::Bool(bool)) => serde_json::Value::from(*bool),
            Some(Kind::Struct(fields)) => fields.to_json(),
            Some(Kind::List(list)) => list.values.iter().map(Self::to_json).collect(),
        }
    }
}
