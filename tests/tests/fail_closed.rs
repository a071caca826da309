//! What happens when a part of the chain is broken: the client is refused, and the backend never hears of the request.
//!
//! Every configuration is what `render` prints, with one thing changed; [`Broken::assert_only`] holds that.

use std::{net::SocketAddr, path::Path, time::Duration};

use portcullis_e2e::{
    artefacts,
    backend::Backend,
    client::{self, Connection, Request},
    controller::{self, Controller, Place},
    envoy::Envoy,
    live, manifests,
    scratch::{self, Scratch},
    spawned, tables,
    wait::{self, PATIENCE},
};
use portcullis_engine::seal;
use serde_json::{Value, json};

const KEY: &str = "key-of-alice";

/// What `render` prints for one route with an API key and one without a policy.
struct Scene {
    scratch: Scratch,
    backend: Backend,
    rendered: Value,
}

impl Scene {
    fn new() -> Self {
        let scratch = Scratch::new();
        let backend = Backend::start();
        let folder = scratch.join("manifests");
        scratch::write(&folder.join("all.yaml"), &objects(18080, &backend));
        let mut rendered = Place::new(&scratch, &folder).snippet(&scratch);
        tables::on_free_ports(&mut rendered);
        Self {
            scratch,
            backend,
            rendered,
        }
    }

    /// Changes one thing of it.
    fn broken(&self, change: impl Fn(&mut Value)) -> Broken<'_> {
        let mut bootstrap = self.rendered.clone();
        change(&mut bootstrap);
        Broken { scene: self, bootstrap }
    }

    /// Loads another build of the filter, and changes nothing else.
    fn with_filter(&self, file: &Path) -> Broken<'_> {
        self.broken(|bootstrap| tables::use_filter(bootstrap, file))
            .assert_only("/filename")
    }

    /// Loads the build that breaks on demand.
    fn faulty(&self) -> Broken<'_> {
        self.with_filter(&artefacts::faults_filter())
    }
}

fn objects(port: u16, backend: &Backend) -> String {
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", KEY)]),
        manifests::route("orders", &[], "/orders", "echo"),
        manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
        manifests::route("public", &[], "/public", "echo"),
    ])
}

/// A scene with one thing changed.
struct Broken<'a> {
    scene: &'a Scene,
    bootstrap: Value,
}

impl Broken<'_> {
    /// Panics unless everything that differs from the rendered configuration is at places that contain `part`.
    fn assert_only(self, part: &str) -> Self {
        let differences = tables::differences(&self.scene.rendered, &self.bootstrap);
        assert!(!differences.is_empty(), "something must be broken");
        assert!(
            differences.iter().all(|place| place.contains(part)),
            "only {part}: {differences:?}"
        );
        self
    }

    /// The same without the seal.
    fn unsealed(&self) -> Broken<'_> {
        let mut bootstrap = self.bootstrap.clone();
        tables::remove_filter(&mut bootstrap, "seal");
        Broken {
            scene: self.scene,
            bootstrap,
        }
    }

    fn start(&self) -> Envoy {
        let envoy = Envoy::start_with(&self.scene.scratch, &self.bootstrap, 4);
        if self.bootstrap == self.scene.rendered {
            envoy
        } else {
            envoy.beside_manifests("something is broken that no manifest tells of")
        }
    }

    /// Sends a request that the policy would allow; gives its status, the reason in the access log, and how many
    /// requests reached the backend.
    fn ask(&self) -> (u16, Option<String>, usize) {
        let envoy = self.start();
        let before = self.scene.backend.count();
        let status = client::once(envoy.listener(), &with_key()).status;
        (status, envoy.entry(0).reason(), self.scene.backend.count() - before)
    }

    /// The seal covers this case: 403 with it, 200 without.
    fn assert_sealed(&self) {
        let (status, _, reached) = self.ask();
        assert_eq!((status, reached), (403, 0), "with the seal");
        let (status, _, reached) = self.unsealed().ask();
        assert_eq!(
            (status, reached),
            (200, 1),
            "without the seal the door is open: this test can fail"
        );
    }

    /// The filter itself refuses with 500 and this reason.
    fn assert_refused(&self, reason: &str) {
        assert_eq!(self.ask(), (500, Some(reason.to_owned()), 0));
    }
}

fn with_key() -> Request {
    Request::get("shop.example.com", "/orders/1").header("x-api-key", KEY)
}

#[test]
fn control_the_unbroken_chain_decides() {
    let scene = Scene::new();
    let whole = scene.broken(|_| {});
    assert_eq!(whole.ask(), (200, Some("allowed".to_owned()), 1));
    let envoy = whole.start();
    let status = client::once(envoy.listener(), &Request::get("shop.example.com", "/orders/1")).status;
    assert_eq!(
        (status, envoy.entry(0).reason().as_deref()),
        (401, Some("api_key_missing"))
    );
    assert_eq!(scene.backend.count(), 1);
}

#[test]
fn worker_only_on_configure_failure() {
    let scene = Scene::new();
    let file = scene.scratch.join("configure.wasm");
    artefacts::write_unconfigurable_filter(&file);
    let broken = scene.with_filter(&file);
    broken.assert_sealed();
    // The fault is what it says: the first virtual machines configured, those of the workers did not.
    let envoy = broken.start();
    assert!(
        envoy.log().contains("Failed to configure thread-local Wasm plugin"),
        "{}",
        envoy.log()
    );
}

#[test]
fn missing_wasm_file() {
    let scene = Scene::new();
    let missing = scene.scratch.join("missing.wasm");
    let broken = scene.with_filter(&missing);
    let (status, log) = Envoy::refused(&scene.scratch, &broken.bootstrap);
    assert!(!status.success() && log.contains("missing.wasm"), "{log}");

    // Over xDS: Envoy refuses the listener, so that nobody is connected at all.
    let live = Served::new();
    let file = live.scratch.join("moved.wasm");
    std::fs::copy(artefacts::filter(), &file).expect("the filter can be copied");
    let place = live.place.clone().with_filter(&file);
    let _controller = Controller::start(&place);
    std::fs::remove_file(&file).expect("the copy can be removed");
    let envoy = Envoy::launch(&live.scratch, &live.place.bootstrap(), 4);
    wait_for_refusal(&envoy);
    assert!(Connection::try_open(live.address).is_err(), "nobody listens");
    assert_eq!(live.backend.count(), 0);
}

#[test]
fn missing_wasm_file_of_an_update() {
    // The listener in force keeps the filter that it has loaded.
    let live = Served::new();
    let mut controller = Controller::start(&live.place);
    let envoy = Envoy::start_with(&live.scratch, &live.place.bootstrap(), 4);
    let mut connection = Connection::open(live.address);
    assert_eq!(connection.send(&with_key()).status, 200);
    controller.kill();

    let file = live.scratch.join("moved.wasm");
    std::fs::copy(artefacts::filter(), &file).expect("the filter can be copied");
    // Envoy sleeps until the file, which the controller wants to see, is gone again.
    spawned::signal(envoy.pid(), "STOP");
    let _controller = Controller::start(&live.place.clone().with_filter(&file));
    std::fs::remove_file(&file).expect("the copy can be removed");
    spawned::signal(envoy.pid(), "CONT");
    wait_for_refusal(&envoy);
    let bare = Request::get("shop.example.com", "/orders/1");
    for _ in 0..20 {
        assert_eq!(connection.send(&bare).status, 401);
        assert_eq!(client::once(live.address, &bare).status, 401);
    }
    assert_eq!(connection.send(&with_key()).status, 200);
    assert_eq!(live.backend.count(), 2);
}

/// The scene's manifests for a controller.
struct Served {
    scratch: Scratch,
    backend: Backend,
    place: Place,
    address: SocketAddr,
}

impl Served {
    fn new() -> Self {
        let (scratch, backend, port) = (Scratch::new(), Backend::start(), controller::free_port());
        let folder = scratch.join("manifests");
        scratch::write(&folder.join("all.yaml"), &objects(port, &backend));
        let place = Place::new(&scratch, &folder);
        Self {
            scratch,
            backend,
            place,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

fn wait_for_refusal(envoy: &Envoy) {
    wait::until("Envoy has refused the listener", PATIENCE, || {
        (envoy.stats().get("listener_manager.lds.update_rejected") > 0).then_some(())
    });
}

#[test]
fn filter_disabled_on_a_route() {
    let scene = Scene::new();
    let off = json!({
        "portcullis": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true},
    });
    let broken = scene.broken(|bootstrap| tables::route(bootstrap, "/orders")["typed_per_filter_config"] = off.clone());
    broken.assert_only("/typed_per_filter_config").assert_sealed();
}

#[test]
fn route_without_h() {
    let scene = Scene::new();
    let bare = |bootstrap: &mut Value| {
        tables::route(bootstrap, "/orders")
            .as_object_mut()
            .expect("a route is an object")
            .remove("metadata");
    };
    scene
        .broken(bare)
        .assert_only("/metadata")
        .assert_refused("policy_missing");

    // Nothing equals nothing, one might think: with the filter gone there is neither a seal nor an `h`.
    let faulty = scene.broken(|bootstrap| {
        bare(bootstrap);
        tables::use_filter(bootstrap, &artefacts::faults_filter());
    });
    let vanished = |broken: &Broken<'_>| {
        let envoy = broken.start();
        let mut connection = Connection::open(envoy.listener());
        let before = scene.backend.count();
        let public = Request::get("shop.example.com", "/public").header("x-fault", "vanish");
        assert_eq!(connection.send(&public).status, 200);
        (connection.send(&with_key()).status, scene.backend.count() - before - 1)
    };
    assert_eq!(vanished(&faulty), (403, 0));
    assert_eq!(vanished(&faulty.unsealed()), (200, 1));
}

#[test]
fn wrong_h() {
    let scene = Scene::new();
    let name = |bootstrap: &mut Value, hash: &str| {
        tables::route(bootstrap, "/orders")["metadata"]["filter_metadata"]["portcullis"]["h"] = hash.into();
    };
    let unknown = scene.broken(|bootstrap| name(bootstrap, "00000000000000000000000000000000"));
    unknown.assert_only("/metadata").assert_refused("policy_unknown");

    // A readable policy under a name that is not its hash: `none` passed off as the policy of the route.
    let forged = scene.broken(|bootstrap| {
        let none = tables::hash(tables::route(bootstrap, "/public"));
        let real = tables::hash(tables::route(bootstrap, "/orders"));
        for host in tables::virtual_hosts(bootstrap) {
            let documents = &mut host["metadata"]["filter_metadata"]["portcullis"];
            documents[&real] = documents[&none].clone();
        }
    });
    forged.assert_only("/metadata").assert_refused("policy_mismatch");
}

#[test]
fn undecodable_body() {
    let scene = Scene::new();
    let bodies = [
        ("", "policy_undecodable"),
        ("{", "policy_undecodable"),
        (
            r#"{"version":1,"policy":"shop/orders","captcha":{}}"#,
            "policy_undecodable",
        ),
        (r#"{"version":2,"policy":"shop/orders"}"#, "filter_too_old"),
    ];
    for (body, reason) in bodies {
        let secrets = r#"{"salt":"00"}"#;
        let hash = seal::hash(body.as_bytes(), secrets.as_bytes());
        let broken = scene.broken(|bootstrap| {
            tables::route(bootstrap, "/orders")["metadata"]["filter_metadata"]["portcullis"]["h"] = hash.clone().into();
            for host in tables::virtual_hosts(bootstrap) {
                tables::deliver(host, &hash, body, secrets);
            }
        });
        broken.assert_only("/metadata").assert_refused(reason);
    }
}

#[test]
fn re_route_after_the_check() {
    let scene = Scene::new();
    let code = r#"
        function envoy_on_request(request)
          request:headers():replace(":path", "/orders/1")
          request:clearRouteCache()
        end"#;
    let lua = json!({
        "name": "re-route",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": code},
        },
    });
    let broken = scene.broken(|bootstrap| tables::insert_after(bootstrap, "portcullis", &lua));
    let broken = broken.assert_only("/http_filters");
    // Allowed as /public, where nothing is asked for, and then sent to /orders.
    let ask = |broken: &Broken<'_>| {
        let envoy = broken.start();
        let before = scene.backend.count();
        let status = client::once(envoy.listener(), &Request::get("shop.example.com", "/public")).status;
        (status, scene.backend.count() - before)
    };
    assert_eq!(ask(&broken), (403, 0));
    assert_eq!(ask(&broken.unsealed()), (200, 1));
}

#[test]
fn trap_in_a_request() {
    dies_and_comes_back("trap");
}

#[test]
fn out_of_memory_in_the_vm() {
    dies_and_comes_back("oom");
}

/// The request that kills its virtual machine is refused; so is everybody else until the machine is back.
fn dies_and_comes_back(fault: &str) {
    let scene = Scene::new();
    let faulty = scene.faulty();
    let envoy = faulty.start();
    let mut connection = Connection::open(envoy.listener());
    assert_eq!(connection.send(&with_key().header("x-fault", fault)).status, 503);
    assert_eq!(scene.backend.count(), 0);
    let (_, took) = live::until_status(&mut connection, &with_key(), 200, Duration::from_secs(2));
    assert!(took < Duration::from_secs(1), "back after {took:?}");
    assert_eq!(
        connection.send(&Request::get("shop.example.com", "/orders/1")).status,
        401
    );
}

#[test]
fn allowed_then_broken_on_the_same_connection() {
    let scene = Scene::new();
    let faulty = scene.faulty();
    let ask = |broken: &Broken<'_>, fault: &str| {
        let envoy = broken.start();
        let mut connection = Connection::open(envoy.listener());
        assert_eq!(connection.send(&with_key().header("x-fault", fault)).status, 200);
        let before = scene.backend.count();
        // Without a key: whoever lets this pass asked nobody.
        let status = connection.send(&Request::get("shop.example.com", "/orders/1")).status;
        (status, scene.backend.count() - before)
    };
    // The machine is dead: Envoy itself refuses.
    assert_eq!(ask(&faulty, "break"), (503, 0));
    // The filter is skipped: the seal of the request before must not admit this one.
    assert_eq!(ask(&faulty, "vanish"), (403, 0));
    assert_eq!(ask(&faulty.unsealed(), "vanish"), (200, 1));
}
