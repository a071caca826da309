//! Changing one thing of a rendered configuration, and telling what was changed.

use std::{net::SocketAddr, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_engine::seal;
use serde_json::{Value, json};

use crate::{
    backend::Backend,
    clock,
    controller::Place,
    manifests,
    scratch::{self, Scratch},
};

/// What `render` makes of a listener whose only route leads to a backend, on a free port and behind a proxy that tells the
/// client's address.
///
/// # Panics
/// If the configuration cannot be rendered.
#[must_use]
pub fn of_one_route(scratch: &Scratch, backend: &Backend) -> Value {
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", 18080, None)]),
        manifests::backend("echo", backend.address()),
        manifests::route("all", &[], "/", "echo"),
    ];
    let folder = scratch.join("manifests");
    scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
    let mut bootstrap = Place::new(scratch, &folder).snippet(scratch);
    on_free_ports(&mut bootstrap);
    behind_a_proxy(&mut bootstrap);
    bootstrap
}

/// Lets the kernel choose every listener's port.
pub fn on_free_ports(bootstrap: &mut Value) {
    for listener in array(&mut bootstrap["static_resources"]["listeners"]) {
        listener["address"]["socket_address"]["address"] = "127.0.0.1".into();
        listener["address"]["socket_address"]["port_value"] = 0.into();
    }
}

/// Makes every listener take the client's address from a PROXY protocol header.
pub fn behind_a_proxy(bootstrap: &mut Value) {
    let filter = json!({
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        },
    });
    for listener in array(&mut bootstrap["static_resources"]["listeners"]) {
        listener["listener_filters"] = json!([filter]);
    }
}

/// Loads another build of the filter.
pub fn use_filter(bootstrap: &mut Value, file: &Path) {
    let instances = ["portcullis", "portcullis-recheck"];
    for filter in filters(bootstrap).filter(|filter| instances.iter().any(|name| filter["name"] == *name)) {
        filter["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"] = file.to_string_lossy().into();
    }
}

/// Takes an HTTP filter out of every chain.
///
/// # Panics
/// If there is none of that name.
pub fn remove_filter(bootstrap: &mut Value, name: &str) {
    for manager in managers(bootstrap) {
        let filters = array(&mut manager["http_filters"]);
        let before = filters.len();
        filters.retain(|filter| filter["name"] != name);
        assert_eq!(filters.len(), before - 1, "one filter is called {name}");
    }
}

/// Puts an HTTP filter behind the one called `name`.
///
/// # Panics
/// If there is none of that name.
pub fn insert_after(bootstrap: &mut Value, name: &str, filter: &Value) {
    for manager in managers(bootstrap) {
        let filters = array(&mut manager["http_filters"]);
        let place = filters
            .iter()
            .position(|filter| filter["name"] == name)
            .expect("the filter is there");
        filters.insert(place + 1, filter.clone());
    }
}

/// Every connection manager.
pub fn managers(bootstrap: &mut Value) -> impl Iterator<Item = &mut Value> {
    array(&mut bootstrap["static_resources"]["listeners"])
        .iter_mut()
        .flat_map(|listener| array(&mut listener["filter_chains"]).iter_mut())
        .flat_map(|chain| array(&mut chain["filters"]).iter_mut())
        .map(|filter| &mut filter["typed_config"])
}

/// Every HTTP filter.
fn filters(bootstrap: &mut Value) -> impl Iterator<Item = &mut Value> {
    managers(bootstrap).flat_map(|manager| array(&mut manager["http_filters"]).iter_mut())
}

/// Every virtual host.
pub fn virtual_hosts(bootstrap: &mut Value) -> impl Iterator<Item = &mut Value> {
    managers(bootstrap).flat_map(|manager| array(&mut manager["route_config"]["virtual_hosts"]).iter_mut())
}

/// The route that sends a path prefix to a cluster.
///
/// # Panics
/// If there is none.
pub fn route<'a>(bootstrap: &'a mut Value, prefix: &str) -> &'a mut Value {
    virtual_hosts(bootstrap)
        .flat_map(|host| array(&mut host["routes"]).iter_mut())
        .find(|route| {
            let matched = &route["match"];
            let forwards = route["route"].is_object();
            forwards && (matched["path_separated_prefix"] == prefix || matched["prefix"] == prefix)
        })
        .unwrap_or_else(|| panic!("no route for {prefix}"))
}

/// Delivers a policy in a virtual host, under `hash` whether that is its hash or not.
pub fn deliver(host: &mut Value, hash: &str, document: &str, secrets: &str) {
    let metadata = &mut host["metadata"];
    metadata["filter_metadata"][seal::METADATA_NAMESPACE][hash] = document.into();
    metadata["typed_filter_metadata"][format!("{}{hash}", seal::SECRETS_KEY_PREFIX)] = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.GenericSecret",
        "secret": {"inline_bytes": STANDARD.encode(secrets)},
    });
}

/// Has the filter's second instance decide what the claims of a route's requests send to another one.
pub fn recheck(route: &mut Value) {
    route["typed_per_filter_config"]["portcullis-recheck"] = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {},
    });
}

/// Lets a route take only requests with this header, made of a verified claim.
pub fn select_by_claim(route: &mut Value, header: &str, value: &str) {
    let name = header.replace('_', "-");
    route["match"]["headers"] = json!([{"name": header, "string_match": {"exact": value}}]);
    route["match"]["filter_state"] = json!([{
        "key": "wasm.portcullis.claims", "string_match": {"contains": format!(",{name},")},
    }]);
}

/// Delivers a key set as the controller fetched it, `age` seconds ago.
pub fn ship_keys(host: &mut Value, id: &str, jwks: &str, age: u64) {
    let now = clock::seconds();
    host["metadata"]["filter_metadata"][seal::KEYS_NAMESPACE][id] = format!("{}\n{jwks}", now - age).into();
}

/// Adds a cluster of one plain HTTP/1.1 host.
///
/// # Panics
/// If it is no bootstrap.
pub fn add_cluster(bootstrap: &mut Value, name: &str, address: SocketAddr) {
    array(&mut bootstrap["static_resources"]["clusters"]).push(json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": address.ip().to_string(), "port_value": address.port()},
        }}}]}]},
    }));
}

/// The document and the secrets that are delivered under `hash`.
///
/// # Panics
/// If no virtual host has them.
pub fn delivered(bootstrap: &mut Value, hash: &str) -> (String, String) {
    let found = virtual_hosts(bootstrap).find_map(|host| {
        let metadata = &host["metadata"];
        let document = metadata["filter_metadata"][seal::METADATA_NAMESPACE][hash].as_str()?;
        let secret = &metadata["typed_filter_metadata"][format!("{}{hash}", seal::SECRETS_KEY_PREFIX)]["secret"];
        let secrets = STANDARD.decode(secret["inline_bytes"].as_str()?).ok()?;
        Some((document.to_owned(), String::from_utf8(secrets).ok()?))
    });
    found.unwrap_or_else(|| panic!("{hash} is not delivered"))
}

/// The hash on a route.
#[must_use]
pub fn hash(route: &Value) -> String {
    route["metadata"]["filter_metadata"][seal::METADATA_NAMESPACE]["h"]
        .as_str()
        .expect("the route has h")
        .to_owned()
}

/// Every hash on a route of the configuration, sorted, once each.
#[must_use]
pub fn hashes(bootstrap: &Value) -> Vec<String> {
    let mut bootstrap = bootstrap.clone();
    let mut all: Vec<String> = virtual_hosts(&mut bootstrap)
        .flat_map(|host| array(&mut host["routes"]).iter().map(hash).collect::<Vec<_>>())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Where two configurations differ: JSON pointers, down to the smallest differing part.
#[must_use]
pub fn differences(left: &Value, right: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(left, right, String::new(), &mut found);
    found
}

fn compare(left: &Value, right: &Value, at: String, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&of(left), &of(right), format!("{at}/{key}"), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(left, right, format!("{at}/{index}"), found);
            }
        }
        _ if left == right => {}
        _ => found.push(at),
    }
}

/// A JSON array.
///
/// # Panics
/// If it is something else, or missing.
pub fn array(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("an array")
}
