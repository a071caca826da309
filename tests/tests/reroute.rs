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

/// Two rules of one route: clients called `admin` go to the second backend. Either one policy covers both, or each has
/// its own.
fn rendered(scratch: &Scratch, everyone: &Backend, admin: &Backend, policies: &[Value]) -> Value {
    let mut route = manifests::route("orders", &[], "/", "everyone");
    route["spec"]["rules"][0]["name"] = "everyone".into();
    route["spec"]["rules"].as_array_mut().expect("rules").push(json!({
        "name": "admin",
        "matches": [{
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"name": "x-client-id", "value": "admin"}],
        }],
        "backendRefs": [manifests::backend_ref("admin")],
    }));
    let mut objects = vec![
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", 18080, None)]),
        manifests::backend("everyone", everyone.address()),
        manifests::backend("admin", admin.address()),
        manifests::secret(
            "shop",
            "clients",
            &[("alice", "key-of-alice"), ("admin", "key-of-admin")],
        ),
        manifests::secret("shop", "admins", &[("root", "key-of-root")]),
        route,
    ];
    objects.extend(policies.iter().cloned());
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
    let policy = manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")}));
    let bootstrap = rendered(&scratch, &everyone, &admin, &[policy]);
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

#[test]
fn a_spoofed_client_id_does_not_carry_one_policy_to_the_route_of_another() {
    let scratch = Scratch::new();
    let (everyone, admin) = (Backend::named("everyone"), Backend::named("admin"));
    let of = |section: &str, secret: &str| {
        let mut policy = manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth(secret)}));
        policy["metadata"]["name"] = section.into();
        policy["spec"]["targetRefs"][0]["sectionName"] = section.into();
        policy
    };
    let mut bootstrap = rendered(
        &scratch,
        &everyone,
        &admin,
        &[of("everyone", "clients"), of("admin", "admins")],
    );
    assert_eq!(
        tables::hashes(&bootstrap).len(),
        3,
        "a policy for each rule, and `none` for everything else"
    );
    // The header chooses the second rule, whose policy knows this key, and writes another id: the first rule is selected,
    // whose policy does not know it.
    let ask = |bootstrap: &Value| {
        let envoy = Envoy::start_with(&scratch, bootstrap, 4);
        let request = Request::get("shop.example.com", "/orders/1")
            .header("x-api-key", "key-of-root")
            .header("x-client-id", "admin");
        let status = client::once(envoy.listener(), &request).status;
        (status, everyone.count() + admin.count())
    };
    assert_eq!(ask(&bootstrap), (403, 0));
    tables::remove_filter(&mut bootstrap, "seal");
    assert_eq!(
        ask(&bootstrap),
        (200, 1),
        "without the seal the door is open: this test can fail"
    );
}
