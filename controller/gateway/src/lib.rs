//! Gateway API resources to Envoy's listeners, route tables, clusters, endpoints and secrets. Pure.

use portcullis_attachment::{
    binding::Bindings, effective::Attachment, finding::Finding, snapshot::Snapshot, status::ObjectStatus,
};

/// What the translation needs to know beside the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The controller's name.
    pub controller_name: String,
    /// The path of the filter's .wasm file, as Envoy sees it.
    pub wasm: String,
    /// What is added to listener ports below 1024; zero where Envoy may bind them.
    pub privileged_port_shift: u16,
    /// Endpoints for Services that have no EndpointSlices: `namespace/name` to `host:port`.
    pub backend_overrides: std::collections::BTreeMap<String, String>,
}

/// One xDS resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The type URL, such as `type.googleapis.com/envoy.config.listener.v3.Listener`.
    pub type_url: &'static str,
    /// The name.
    pub name: String,
    /// The encoded message.
    pub body: Vec<u8>,
}

/// The configuration of one Gateway's proxies.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// `namespace/name` of the Gateway, the proxies' `node.cluster`.
    pub gateway: String,
    /// Every resource, by type and name.
    pub resources: Vec<Resource>,
    /// Listeners for people: name, address, protocol, as bound after any port shift.
    pub listeners: Vec<BoundPort>,
}

/// One port that Envoy binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPort {
    /// The listeners' names in the Gateway.
    pub listeners: Vec<String>,
    /// The port of the Gateway API listener.
    pub port: u16,
    /// The port that Envoy binds.
    pub bound: u16,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
}

/// The whole translation.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// One configuration per accepted Gateway, by name.
    pub configurations: Vec<Configuration>,
    /// Statuses of GatewayClasses, Gateways and routes.
    pub statuses: Vec<ObjectStatus>,
    /// Faults of those and of what they refer to.
    pub findings: Vec<Finding>,
}

/// Translates every Gateway of this controller.
#[must_use]
pub fn translate(snapshot: &Snapshot, bindings: &Bindings, attachment: &Attachment, options: &Options) -> Translation {
    let _ = (snapshot, bindings, attachment, options);
    Translation::default()
}
