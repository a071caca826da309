//! The bootstrap of an Envoy that takes everything else over xDS.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Where Envoy's admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// On a unix socket, which nothing but files' rights guards.
    Pipe(String),
    /// On an address, which should be a loopback one: whoever reaches it can stop Envoy.
    Tcp(SocketAddr),
}

/// What a bootstrap depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapOptions {
    /// `namespace/name` of the Gateway: the node's cluster, by which the controller chooses what to send.
    pub gateway: String,
    /// The unix socket of the controller's xDS server.
    pub xds_socket: String,
    /// Where the admin interface listens.
    pub admin: Admin,
    /// The path of the filter's .wasm file, for the controller to know what serves.
    pub wasm: String,
    /// The versions of policy documents that this filter decodes: its custom section `portcullis` says so.
    pub documents: Vec<u32>,
}

/// Writes a bootstrap, as JSON that Envoy loads.
#[must_use]
pub fn bootstrap(options: &BootstrapOptions) -> Value {
    let admin = match &options.admin {
        Admin::Pipe(path) => json!({ "address": { "pipe": { "path": path } } }),
        Admin::Tcp(address) => admin(&address.ip().to_string(), address.port()),
    };
    json!({
        "node": {
            "id": options.gateway,
            "cluster": options.gateway,
            "metadata": {
                "portcullis": {
                    "version": env!("CARGO_PKG_VERSION"),
                    "wasm": options.wasm,
                    "documents": options.documents,
                },
            },
        },
        "admin": admin,
        "stats_config": stats(),
        "layered_runtime": runtime(),
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{
                    "envoy_grpc": {
                        "cluster_name": "xds",
                        // A controller that was restarted is found again within a second or two.
                        "retry_policy": { "retry_back_off": { "base_interval": "0.1s", "max_interval": "2s" } },
                    },
                }],
            },
            "lds_config": discovered(),
            "cds_config": discovered(),
        },
        "static_resources": {
            "clusters": [{
                "name": "xds",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {
                            "http2_protocol_options": {
                                "connection_keepalive": { "interval": "30s", "timeout": "5s" },
                            },
                        },
                    },
                },
                "load_assignment": {
                    "cluster_name": "xds",
                    "endpoints": [{
                        "lb_endpoints": [{
                            "endpoint": { "address": { "pipe": { "path": options.xds_socket } } },
                        }],
                    }],
                },
            }],
        },
    })
}

fn discovered() -> Value {
    // Without a time limit: a proxy without configuration serves nothing rather than half of it.
    json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" })
}

pub(crate) fn admin(address: &str, port: u16) -> Value {
    json!({ "address": { "socket_address": { "address": address, "port_value": port } } })
}

/// Turns the filter's counters into metrics with labels: `portcullis_decisions{policy,outcome,reason}`,
/// `portcullis_shadow{policy,enforced,outcome,reason,rule}`, `portcullis_key_fetches{server,source,result}` and
/// `portcullis_keys_fetched{server,source}`.
pub(crate) fn stats() -> Value {
    const BOTH: &str = "(?:decisions|shadow)";
    const KEYS: &str = "(?:key_fetches|keys_fetched)";
    let any = format!("{BOTH}.*?");
    let tag = |name: &str, counters: &str| {
        json!({
            "tag_name": name,
            "regex": format!(r"^wasmcustom\.portcullis_{counters}(;{name}=([^;]*))"),
        })
    };
    json!({ "stats_tags": [
        tag("policy", BOTH),
        tag("enforced", "shadow.*?"),
        tag("outcome", &any),
        tag("reason", &any),
        tag("rule", "shadow.*?"),
        tag("server", KEYS),
        tag("source", &format!("{KEYS}.*?")),
        tag("result", "key_fetches.*?"),
    ] })
}

/// Regular expressions are bounded before they are sent, in time linear in the input; Envoy's own bound is far lower.
pub(crate) fn runtime() -> Value {
    json!({
        "layers": [{
            "name": "portcullis",
            "static_layer": { "re2.max_program_size.error_level": 4_294_967_295_u32 },
        }],
    })
}
