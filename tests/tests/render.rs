//! What `render` prints is what Envoy is served: tests that start from the one speak for the other.

use std::collections::BTreeMap;

use portcullis_e2e::{backend::Backend, controller, live::Live, manifests, tables};
use serde_json::{Value, json};

fn objects(port: u16, backend: &Backend) -> String {
    let mut orders = manifests::route("orders", &["shop.example.com"], "/orders", "echo");
    orders["spec"]["rules"][0]["matches"][0]["method"] = "POST".into();
    let cidr = json!({"name": "office", "action": "Allow", "principal": {"clientCIDRs": ["127.0.0.0/8"]}});
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[
            manifests::http_listener("any", port, None),
            manifests::http_listener("shop", port, Some("*.example.com")),
        ]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        orders,
        manifests::route("public", &[], "/public", "echo"),
        manifests::policy(
            "orders",
            json!({
                "apiKeyAuth": manifests::api_key_auth("clients"),
                "cors": {"allowOrigins": ["https://shop.example.com"], "allowMethods": ["POST"]},
                "authorization": {"defaultAction": "Deny", "rules": [cidr]},
            }),
        ),
    ])
}

#[test]
fn the_snippet_is_what_run_serves() {
    let backend = Backend::start();
    let port = controller::free_port();
    let live = Live::start(&[("all.yaml", objects(port, &backend))], &[port]);
    let mut snippet = live.snippet();
    let dump = live.envoy.get("/config_dump?include_eds");
    let mut dump: Value = serde_json::from_str(&dump).unwrap_or_else(|error| panic!("{error}: {dump}"));

    let mut printed_tables = BTreeMap::new();
    let mut printed_managers = Vec::new();
    for manager in tables::managers(&mut snippet) {
        let table = manager["route_config"].take();
        printed_tables.insert(table["name"].as_str().expect("a name").to_owned(), table);
        printed_managers.push(manager.clone());
    }
    let (mut served_tables, mut served_managers) = (BTreeMap::new(), Vec::new());
    for section in tables::array(&mut dump["configs"]) {
        for table in section["dynamic_route_configs"].as_array().into_iter().flatten() {
            let mut table = table["route_config"].clone();
            table.as_object_mut().expect("an object").remove("@type");
            served_tables.insert(table["name"].as_str().expect("a name").to_owned(), table);
        }
        for listener in section["dynamic_listeners"].as_array_mut().into_iter().flatten() {
            for chain in tables::array(&mut listener["active_state"]["listener"]["filter_chains"]) {
                for filter in tables::array(&mut chain["filters"]) {
                    served_managers.push(filter["typed_config"].take());
                }
            }
        }
    }

    assert_eq!(
        served_tables.keys().collect::<Vec<_>>(),
        printed_tables.keys().collect::<Vec<_>>()
    );
    assert!(!served_tables.is_empty(), "there are route tables");
    for (name, served) in &served_tables {
        let differences = tables::differences(served, &printed_tables[name]);
        // The dump redacts exactly the secrets of policies, and shows nothing else otherwise.
        let others: Vec<_> = differences
            .iter()
            .filter(|place| !place.ends_with("/secret/inline_bytes"))
            .collect();
        assert!(others.is_empty(), "{name}: {others:#?}");
        assert!(!differences.is_empty(), "{name}: the secrets are redacted");
    }
    assert_eq!(served_managers.len(), printed_managers.len());
    for (served, printed) in served_managers.iter().zip(&printed_managers) {
        let differences = tables::differences(served, printed);
        let others: Vec<_> = differences
            .iter()
            .filter(|place| !place.starts_with("/rds") && !place.starts_with("/route_config"))
            .filter(|place| !same_duration(served.pointer(place), printed.pointer(place)))
            .collect();
        assert!(others.is_empty(), "{others:#?}\n{served:#}\n{printed:#}");
    }
}

/// `0.050s` is `0.05s`.
fn same_duration(left: Option<&Value>, right: Option<&Value>) -> bool {
    let seconds = |value: Option<&Value>| value?.as_str()?.strip_suffix('s')?.parse::<f64>().ok();
    seconds(left).is_some() && seconds(left) == seconds(right)
}
