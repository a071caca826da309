//! Envoys that reach the controller on TCP: who proves nothing gets nothing, and nobody gets what is another Gateway's.

use std::{fs, net::SocketAddr, time::Duration};

use portcullis_e2e::{
    backend::Backend,
    client::{Connection, Request, once},
    controller::{self, Controller, Place},
    envoy::Envoy,
    manifests,
    scratch::{self, Scratch},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const HOST: &str = "api.example.com";
const WHY: &str = "another Gateway's Envoy, or none that is served";

/// Two Gateways, each with a route of its own.
struct Scene {
    scratch: Scratch,
    place: Place,
    controller: Controller,
    public: SocketAddr,
    inner: SocketAddr,
}

fn inner(port: u16) -> Value {
    let mut gateway = manifests::gateway(&[manifests::http_listener("http", port, None)]);
    gateway["metadata"]["name"] = json!("inner");
    gateway
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Scene {
    fn start(backend: &Backend) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.join("manifests");
        let (public, other) = (controller::free_port(), controller::free_port());
        let objects = [
            manifests::gateway_class(),
            manifests::gateway(&[manifests::http_listener("http", public, None)]),
            inner(other),
            manifests::backend("orders", backend.address()),
            manifests::route("orders", &[HOST], "/", "orders"),
        ];
        scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
        let place = Place::new(&scratch, &folder).on(local(controller::free_port()));
        let controller = Controller::start(&place);
        Self {
            scratch,
            place,
            controller,
            public: local(public),
            inner: local(other),
        }
    }

    fn bootstrap(&self, gateway: &str, credentials: &str) -> Value {
        let folder = self.place.credentials(credentials);
        self.place.bootstrap_over_tls(gateway, &folder)
    }
}

fn opens(address: SocketAddr) {
    wait::until("the gateway's port is open", PATIENCE, || {
        Connection::try_open(address).ok()
    });
}

/// The sum of a metric of Envoy.
fn stat(envoy: &Envoy, name: &str) -> u64 {
    envoy.stats().get(name)
}

#[test]
fn credentials_open_one_gateway_and_are_followed_when_they_change() {
    let backend = Backend::start();
    let mut scene = Scene::start(&backend);
    let envoy = Envoy::start(&scene.scratch, &scene.bootstrap("edge/public", "edge/public"));
    opens(scene.public);
    assert_eq!(once(scene.public, &Request::get(HOST, "/")).status, 200);

    // What is missing is made anew, as at two thirds of a life, and Envoy follows; it needs it only when it connects again.
    let folder = scene.place.credentials("edge/public");
    let before = fs::read_to_string(folder.join("tls.crt")).expect("a certificate");
    fs::remove_file(folder.join("certificate.json")).expect("the file was there");
    scene.controller.stop();
    scene.controller = Controller::start(&scene.place);
    let after = fs::read_to_string(folder.join("tls.crt")).expect("a certificate");
    assert_ne!(before, after);
    wait::until("Envoy has read the new certificate", PATIENCE, || {
        (stat(&envoy, "sds.xds_certificate.update_success") >= 2).then_some(())
    });
    wait::until("Envoy is connected again", PATIENCE, || {
        (stat(&envoy, "control_plane.connected_state") == 1).then_some(())
    });
    assert_eq!(once(scene.public, &Request::get(HOST, "/")).status, 200);
}

#[test]
fn nobody_gets_what_is_another_gateways() {
    let backend = Backend::start();
    let scene = Scene::start(&backend);
    // The one Gateway's credentials, the other one's name.
    let thief = Envoy::launch(&scene.scratch, &scene.bootstrap("edge/public", "edge/inner"), 2).beside_manifests(WHY);
    wait::until("it was sent away", PATIENCE, || {
        (stat(&thief, "control_plane.connected_state") == 0 && stat(&thief, "cluster.xds.upstream_rq_total") >= 2)
            .then_some(())
    });
    let config = thief.get("/config_dump");
    assert!(!config.contains(HOST), "{config}");
    assert!(Connection::try_open(scene.public).is_err() && Connection::try_open(scene.inner).is_err());
    assert!(!scene.controller.output().contains("envoy edge/public"));

    // No credentials at all.
    let nobody = Scratch::new();
    let mut bootstrap = scene.bootstrap("edge/public", "edge/inner");
    let context = "/static_resources/clusters/0/transport_socket/typed_config/common_tls_context";
    let tls = bootstrap
        .pointer_mut(context)
        .and_then(Value::as_object_mut)
        .expect("TLS");
    assert!(tls.remove("tls_certificate_sds_secret_configs").is_some());
    let nobody = Envoy::launch(&nobody, &bootstrap, 2).beside_manifests(WHY);
    wait::until("it was refused", PATIENCE, || {
        (stat(&nobody, "cluster.xds.upstream_cx_total") >= 2).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!nobody.get("/config_dump").contains(HOST));

    // And the right ones.
    let owner = Scratch::new();
    let _owner = Envoy::start(&owner, &scene.bootstrap("edge/inner", "edge/inner")).beside_manifests(WHY);
    opens(scene.inner);
}

#[test]
fn an_envoy_takes_nothing_from_who_is_not_its_controller() {
    let backend = Backend::start();
    let scene = Scene::start(&backend);
    // Whoever has the address of the controller without its authority.
    let stranger = Scene::start(&backend);
    let folder = scene.place.credentials("edge/public");
    let bootstrap = stranger.place.bootstrap_over_tls("edge/public", &folder);
    let envoy = Envoy::launch(&scene.scratch, &bootstrap, 2).beside_manifests(WHY);
    wait::until("it refused the server", PATIENCE, || {
        (stat(&envoy, "cluster.xds.ssl.fail_verify_error") >= 1).then_some(())
    });
    assert!(!envoy.get("/config_dump").contains(HOST));
}
