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

/// Where a controller's xDS server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xds {
    /// On a unix socket, which nothing but files' rights guards.
    Socket(String),
    /// On TCP, in mutual TLS.
    Tls {
        /// Its host: a name or an address.
        host: String,
        /// Its port.
        port: u16,
        /// The folder with the certificate that this proxy shows and with what it demands of the controller's. Envoy reads them
        /// anew when another file is moved into the folder.
        credentials: String,
    },
}

/// The names of both files in the folder of a proxy's credentials, and of the secrets in them.
const CREDENTIALS: [(&str, &str); 2] = [("certificate.json", "xds_certificate"), ("trust.json", "xds_trust")];

/// Writes the files of a proxy's credentials: names, and texts that Envoy loads (`path_config_source`). `certificate`, `key` and
/// `trusted` are PEM; `controller` is the URI that the controller's certificate must hold.
#[must_use]
pub fn credentials(certificate: &str, key: &str, trusted: &str, controller: &str) -> [(&'static str, String); 2] {
    let shown = json!({
        "certificate_chain": { "inline_string": certificate },
        "private_key": { "inline_string": key },
    });
    let demanded = json!({
        "trusted_ca": { "inline_string": trusted },
        "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": controller } }],
    });
    let [certificate, trust] = CREDENTIALS;
    let file = |(file, secret): (&'static str, &str), kind: &str, value: Value| {
        let resource = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": secret,
            kind: value,
        });
        (file, format!("{}\n", json!({ "resources": [resource] })))
    };
    [
        file(certificate, "tls_certificate", shown),
        file(trust, "validation_context", demanded),
    ]
}

/// What a bootstrap depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapOptions {
    /// `namespace/name` of the Gateway: the node's cluster, by which the controller chooses what to send.
    pub gateway: String,
    /// Where the controller's xDS server is.
    pub xds: Xds,
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
            "clusters": [cluster(&options.xds)],
        },
    })
}

/// The cluster of the controller.
fn cluster(xds: &Xds) -> Value {
    let (discovery, address) = match xds {
        Xds::Socket(path) => ("STATIC", json!({ "pipe": { "path": path } })),
        Xds::Tls { host, port, .. } => {
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
            let discovery = if is_address { "STATIC" } else { "STRICT_DNS" };
            let address = json!({ "socket_address": { "address": host, "port_value": port } });
            (discovery, address)
        }
    };
    let mut cluster = json!({
        "name": "xds",
        "type": discovery,
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
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
    });
    if let (Xds::Tls { credentials, .. }, Some(fields)) = (xds, cluster.as_object_mut()) {
        fields.insert("transport_socket".to_owned(), transport(credentials));
    }
    cluster
}

/// Mutual TLS with credentials from files that are followed.
fn transport(folder: &str) -> Value {
    let [certificate, trust] = CREDENTIALS.map(|(file, secret)| {
        json!({
            "name": secret,
            "sds_config": {
                "path_config_source": {
                    "path": format!("{folder}/{file}"),
                    "watched_directory": { "path": folder },
                },
                "resource_api_version": "V3",
            },
        })
    });
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                // Envoy's own highest version for a client is 1.2.
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [certificate],
                "validation_context_sds_secret_config": trust,
            },
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
