//! The files that users paste from: Envoy accepts each, and the one without a controller decides as it says.

use std::fs;

use portcullis_e2e::{
    artefacts,
    backend::Backend,
    client::{self, Request},
    controller::Place,
    envoy::{self, Envoy},
    scratch::Scratch,
    tables,
};
use serde_json::{Value, json};

fn read(name: &str) -> Value {
    let path = artefacts::root().join("envoy-config").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn envoy_accepts_every_configuration() {
    let scratch = Scratch::new();
    for name in ["by-hand.yaml", "bootstrap.yaml", "echo.yaml"] {
        let mut config = read(name);
        if name == "by-hand.yaml" {
            tables::use_filter(&mut config, &artefacts::filter());
        }
        let path = scratch.write("config.json", &config.to_string());
        envoy::validate(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_bootstrap_is_the_one_that_render_prints() {
    let scratch = Scratch::new();
    let place = Place::new(&scratch, &artefacts::root().join("manifests/examples/quickstart"));
    let mut rendered = place.bootstrap();
    // Where the containers have them.
    rendered["node"]["metadata"]["portcullis"]["wasm"] = "/portcullis.wasm".into();
    let endpoint = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
    *rendered.pointer_mut(endpoint).expect("the controller's socket") = "/run/portcullis/xds.sock".into();
    assert_eq!(
        tables::differences(&rendered, &read("bootstrap.yaml")),
        Vec::<String>::new()
    );
}

#[test]
fn by_hand_decides_without_a_controller() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let mut config = read("by-hand.yaml");
    tables::use_filter(&mut config, &artefacts::filter());
    tables::on_free_ports(&mut config);
    let endpoint = json!({
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": backend.address().port()}},
    });
    config["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"] =
        endpoint;
    let envoy =
        Envoy::start_with(&scratch, &config, 4).beside_manifests("the file has its policies without a controller");
    let gateway = envoy.listener();
    let send = |request: Request| client::once(gateway, &request).status;
    let keyed = |path: &str| Request::get("api.example.com", path).header("x-api-key", "by-hand-key");

    assert_eq!(send(Request::get("api.example.com", "/")), 401);
    assert_eq!(send(keyed("/")), 200);
    assert_eq!(backend.last().header("x-client-id").as_deref(), Some("alice"));
    assert_eq!(send(Request::get("api.example.com", "/public")), 200);
    assert_eq!(send(Request::get("other.example.com", "/")), 404);
    assert_eq!(send(Request::get("u@api.example.com", "/")), 400);
    let preflight = Request::new("OPTIONS", "api.example.com", "/")
        .header("origin", "https://shop.example.com")
        .header("access-control-request-method", "GET");
    assert_eq!(send(preflight), 200);
    assert_eq!(backend.count(), 2);
    let stats = envoy.get("/stats/prometheus");
    let counted = r#"portcullis_decisions{policy="shop/orders",outcome="deny",reason="api_key_missing"}"#;
    let wanted = [
        "policy=\"shop/orders\"",
        "outcome=\"deny\"",
        "reason=\"api_key_missing\"",
    ];
    let line = stats
        .lines()
        .find(|line| line.contains("portcullis_decisions{") && wanted.iter().all(|tag| line.contains(tag)));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{counted} 1 in\n{stats}");
}
