//! One rendered configuration, three ways.

use std::{fs, net::SocketAddr, process::Command};

use portcullis_e2e::{
    artefacts,
    client::{self, Request},
    scratch::Scratch,
};
use serde_json::{Value, json};

/// What every request carries: a key, and an origin so that the answer gets CORS headers.
pub(crate) const HEADERS: &[(&str, &str)] = &[("x-api-key", KEY), ("origin", ORIGIN)];

const KEY: &str = "bench-key-of-client-07";
const ORIGIN: &str = "https://shop.example.com";

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Nobody: the router alone.
    NoFilter,
    /// Envoy's `cors`, `api_key_auth` and `rbac`, configured as Envoy Gateway 1.9 does for the same policy.
    Native,
    /// The chain of Portcullis, seal included.
    Portcullis,
}

impl Variant {
    /// Every variant, in the order of a round.
    pub(crate) const ALL: &'static [Self] = &[Self::NoFilter, Self::Native, Self::Portcullis];

    /// The name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NoFilter => "no filter",
            Self::Native => "Envoy's own filters",
            Self::Portcullis => "Portcullis",
        }
    }

    /// The name in the summary.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::NoFilter => "no_filter",
            Self::Native => "native",
            Self::Portcullis => "portcullis",
        }
    }

    /// The rendered configuration with this variant's filters; everything else is the same, access log included.
    pub(crate) fn configure(self, rendered: &Value) -> Value {
        let mut config = rendered.clone();
        let listener = &mut config["static_resources"]["listeners"][0];
        listener["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": 0});
        let manager = connection_manager(listener);
        let router = manager["http_filters"]
            .as_array()
            .and_then(|filters| filters.last().cloned())
            .expect("a chain with a router");
        match self {
            Self::NoFilter => manager["http_filters"] = json!([router]),
            Self::Native => {
                let mut filters = native_filters();
                filters.push(router);
                manager["http_filters"] = Value::Array(filters);
                let per_route = native_policy();
                for host in manager["route_config"]["virtual_hosts"]
                    .as_array_mut()
                    .expect("virtual hosts")
                {
                    for route in host["routes"].as_array_mut().expect("routes") {
                        if route.get("route").is_some() {
                            route["typed_per_filter_config"] = per_route.clone();
                        }
                    }
                }
            }
            Self::Portcullis => {}
        }
        config
    }
}

/// A backend that does as little as possible: Envoy answering by itself.
pub(crate) fn upstream() -> Value {
    json!({"static_resources": {"listeners": [{
        "name": "upstream",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "upstream",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}]}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        }}]}],
    }]}})
}

/// The configuration that `portcullis render` makes of the benchmark's policy.
pub(crate) fn render(scratch: &Scratch, upstream: SocketAddr) -> Value {
    let keys: String = (0..32)
        .map(|client| format!("  client-{client:02}: bench-key-of-client-{client:02}\n"))
        .collect();
    let ranges: String = ranges()
        .iter()
        .map(|range| format!("            - {range}\n"))
        .collect();
    let manifests = scratch.write(
        "manifests/all.yaml",
        &format!(
            include_str!("manifests.yaml"),
            port = upstream.port(),
            keys = keys,
            ranges = ranges,
            origin = ORIGIN
        ),
    );
    let bootstrap = scratch.join("bootstrap.json");
    let output = Command::new(artefacts::controller())
        .arg("render")
        .arg("-f")
        .arg(&manifests)
        .args(["--snippet", "-o", "json", "--show-secrets"])
        .arg(&bootstrap)
        .arg("--state-dir")
        .arg(scratch.join("state"))
        .output()
        .expect("portcullis runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&bootstrap).expect("portcullis render wrote the bootstrap");
    serde_json::from_str(&text).expect("portcullis render writes JSON")
}

/// Shows that a variant does what it is measured for: admits the request, and refuses one without a key where someone decides.
pub(crate) fn prove(variant: Variant, listener: SocketAddr) {
    let mut request = Request::get("bench.example.com", "/orders");
    let without = client::once(listener, &request).status;
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let with = client::once(listener, &request);
    assert_eq!(with.status, 200, "{}: {}", variant.title(), with.text());
    assert_eq!(
        without,
        if variant == Variant::NoFilter { 200 } else { 401 },
        "{} without a key",
        variant.title()
    );
    let allowed = with.header("access-control-allow-origin");
    assert_eq!(
        allowed.as_deref(),
        (variant != Variant::NoFilter).then_some(ORIGIN),
        "{}",
        variant.title()
    );
}

fn ranges() -> Vec<String> {
    (0..15)
        .map(|net| format!("198.51.{net}.0/24"))
        .chain(["127.0.0.0/8".to_owned()])
        .collect()
}

fn connection_manager(listener: &mut Value) -> &mut Value {
    let chain = if listener.get("default_filter_chain").is_some() {
        "/default_filter_chain"
    } else {
        "/filter_chains/0"
    };
    let filters = listener
        .pointer_mut(chain)
        .and_then(|chain| chain.get_mut("filters"))
        .and_then(Value::as_array_mut);
    let manager = filters.and_then(|filters| {
        filters.iter_mut().find(|filter| {
            filter["typed_config"]["@type"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("HttpConnectionManager"))
        })
    });
    &mut manager.expect("a connection manager")["typed_config"]
}

fn native_filters() -> Vec<Value> {
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": {"@type": format!("type.googleapis.com/{kind}")}});
    let mut api_key = filter(
        "envoy.filters.http.api_key_auth",
        "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
    );
    api_key["disabled"] = json!(true);
    api_key["typed_config"]["key_sources"] = json!([{"header": "x-api-key"}]);
    vec![
        filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
        api_key,
        filter("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC"),
    ]
}

/// The same policy for Envoy's own filters, per route, in the shape that Envoy Gateway gives it.
fn native_policy() -> Value {
    let credentials: Vec<Value> =
        (0..32).map(|client| json!({"client": format!("client-{client:02}"), "key": format!("bench-key-of-client-{client:02}")})).collect();
    let ranges: Vec<Value> = ranges()
        .iter()
        .map(|range| {
            let (address, length) = range.split_once('/').expect("a range");
            json!({"address_prefix": address, "prefix_len": length.parse::<u32>().expect("a length")})
        })
        .collect();
    let action = |name: &str, action: &str| json!({"action": {"name": name, "typed_config": {"@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": name, "action": action}}});
    json!({
        "envoy.filters.http.cors": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
            "allow_origin_string_match": [{"exact": ORIGIN}],
            "allow_methods": "GET, POST",
            "allow_headers": "x-api-key",
            "max_age": "600",
            "forward_not_matching_preflights": false,
        },
        "envoy.filters.http.api_key_auth": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
            "credentials": credentials,
            "key_sources": [{"header": "x-api-key"}],
            "forwarding": {"header": "x-client-id", "hide_credentials": true},
        },
        "envoy.filters.http.rbac": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
            "rbac": {"matcher": {
                "matcher_list": {"matchers": [{
                    "predicate": {"single_predicate": {
                        "input": {"name": "client_ip", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourceIPInput"}},
                        "custom_match": {"name": "ip_range", "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.matching.input_matchers.ip.v3.Ip", "cidr_ranges": ranges, "stat_prefix": "client_ip"}},
                    }},
                    "on_match": action("ALLOW", "ALLOW"),
                }]},
                "on_no_match": action("DENY", "DENY"),
            }},
        },
    })
}
