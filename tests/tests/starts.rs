//! Who starts first does not matter, and an Envoy gets the configuration of its own Gateway alone.

use std::{net::SocketAddr, thread, time::Duration};

use portcullis_e2e::{
    backend::Backend,
    client::{self, Connection, Request},
    controller::{self, Controller, Place},
    envoy::Envoy,
    manifests,
    scratch::{self, Scratch},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

fn gateway(name: &str, port: u16) -> Value {
    let mut gateway = manifests::gateway(&[manifests::http_listener("http", port, None)]);
    gateway["metadata"]["name"] = name.into();
    gateway
}

fn route(name: &str, gateway: &str, to: &str) -> Value {
    let mut route = manifests::route(name, &[], "/", to);
    route["spec"]["parentRefs"] = json!([{"name": gateway, "namespace": "edge"}]);
    route
}

#[test]
fn an_envoy_without_its_controller_serves_nothing_and_then_everything() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let port = controller::free_port();
    let folder = scratch.join("manifests");
    let objects = [
        manifests::gateway_class(),
        gateway("public", port),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        route("orders", "public", "echo"),
        manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
    ];
    scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
    let place = Place::new(&scratch, &folder);
    let address = SocketAddr::from(([127, 0, 0, 1], port));

    let envoy = Envoy::launch(&scratch, &place.bootstrap(), 4);
    thread::sleep(Duration::from_secs(1));
    assert!(Connection::try_open(address).is_err(), "nobody listens");
    assert_ne!(
        client::once(envoy.admin(), &Request::get("admin", "/ready")).status,
        200,
        "and it says so"
    );

    let _controller = Controller::start(&place);
    let mut connection = wait::until("the gateway is open", PATIENCE, || Connection::try_open(address).ok());
    // From its first request on the policy is in force.
    assert_eq!(connection.send(&Request::get("shop.example.com", "/")).status, 401);
    assert_eq!(
        connection
            .send(&Request::get("shop.example.com", "/").header("x-api-key", "key-of-alice"))
            .status,
        200
    );
}

#[test]
fn an_envoy_gets_the_configuration_of_its_own_gateway_alone() {
    let scratch = Scratch::new();
    let backends = [Backend::named("one"), Backend::named("two")];
    let ports = [controller::free_port(), controller::free_port()];
    let folder = scratch.join("manifests");
    let objects = [
        manifests::gateway_class(),
        gateway("one", ports[0]),
        gateway("two", ports[1]),
        manifests::backend("one", backends[0].address()),
        manifests::backend("two", backends[1].address()),
        manifests::secret("shop", "clients", &[("alice", "canary-of-the-first-gateway")]),
        route("one", "one", "one"),
        manifests::policy("one", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
        route("two", "two", "two"),
    ];
    scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
    let place = Place::new(&scratch, &folder);
    let _controller = Controller::start(&place);
    let mut bootstrap = place.bootstrap_of("edge/one");
    assert_eq!(bootstrap["node"]["cluster"], "edge/one");
    bootstrap["node"] = json!({"cluster": "edge/two", "id": "second", "metadata": bootstrap["node"]["metadata"]});
    let envoy = Envoy::start_with(&scratch, &bootstrap, 4);
    let two = SocketAddr::from(([127, 0, 0, 1], ports[1]));
    let mut connection = wait::until("the gateway is open", PATIENCE, || Connection::try_open(two).ok());
    assert_eq!(
        connection
            .send(&Request::get("shop.example.com", "/"))
            .header("x-backend")
            .as_deref(),
        Some("two")
    );
    assert!(
        Connection::try_open(([127, 0, 0, 1], ports[0]).into()).is_err(),
        "the other gateway's port is closed"
    );
    let dump = envoy.get("/config_dump?include_eds");
    for foreign in ["edge/one", "backend/shop/one", "shop/one"] {
        assert!(!dump.contains(&format!("\"{foreign}\"")), "{foreign}");
    }
}
