//! A header that the policy writes cannot be used to choose the route.

use portcullis_e2e::{
    backend::Backend,
    client::{self, Request},
    controller::Place,
    envoy::Envoy,
    manifests,
    scratch::{self, Scratch},
    tables,
};
use serde_json::{Value, json};

/// Two rules of one route under one policy: clients called `admin` go to the second backend.
fn rendered(scratch: &Scratch, everyone: &Backend, admin: &Backend) -> Value {
    let mut route = manifests::route("orders", &[], "/", "everyone");
    route["spec"]["rules"].as_array_mut().expect("rules").push(json!({
        "matches": [{
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"name": "x-client-id", "value": "admin"}],
        }],
        "backendRefs": [manifests::backend_ref("admin")],
    }));
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", 18080, None)]),
        manifests::backend("everyone", everyone.address()),
        manifests::backend("admin", admin.address()),
        manifests::secret(
            "shop",
            "clients",
            &[("alice", "key-of-alice"), ("admin", "key-of-admin")],
        ),
        route,
        manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
    ];
    let folder = scratch.join("manifests");
    scratch::write(&folder.join("all.yaml"), &manifests::file(&objects));
    let mut rendered = Place::new(scratch, &folder).snippet(scratch);
    tables::on_free_ports(&mut rendered);
    rendered
}

#[test]
fn a_spoofed_client_id_is_judged_on_the_re_selected_route() {
    let scratch = Scratch::new();
    let (everyone, admin) = (Backend::named("everyone"), Backend::named("admin"));
    let bootstrap = rendered(&scratch, &everyone, &admin);
    assert_eq!(
        tables::hashes(&bootstrap).len(),
        2,
        "one policy for both rules, and `none` for everything else"
    );
    let envoy = Envoy::start_with(&scratch, &bootstrap, 4);
    let ask = |key: &str, spoofed: Option<&str>| {
        let mut request = Request::get("shop.example.com", "/orders/1").header("x-api-key", key);
        if let Some(spoofed) = spoofed {
            request = request.header("x-client-id", spoofed);
        }
        client::once(envoy.listener(), &request)
    };

    let spoofed = ask("key-of-alice", Some("admin"));
    assert_eq!(
        (spoofed.status, spoofed.header("x-backend").as_deref()),
        (200, Some("everyone"))
    );
    assert_eq!(everyone.last().header("x-client-id").as_deref(), Some("alice"));
    assert_eq!(admin.count(), 0);

    assert_eq!(
        ask("key-of-alice", None).header("x-backend").as_deref(),
        Some("everyone")
    );
    assert_eq!(ask("no-key", Some("admin")).status, 401);
    assert_eq!(admin.count(), 0);
}
