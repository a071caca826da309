use serde_json::json;

use super::*;

const ROUTES: Watched = ("HTTPRoute", Scope::All);
const SECRETS: Watched = ("Secret", Scope::All);
const POLICIES: Watched = ("SecurityPolicy", Scope::All);

fn route(name: &str, version: &str, path: &str) -> Json {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version, "managedFields": [{"time": version}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": version}},
        "spec": {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}]},
        "status": {"parents": [version]},
    })
}

fn admit(store: &mut Store) {
    store.hold();
    store.admit();
}

/// Something was asked for beside its watch, and this is the answer.
fn read(store: &mut Store, kind: &'static str, json: Json) -> bool {
    let name = named(json["metadata"]["name"].as_str().unwrap_or_default());
    store.ask(kind, &name);
    store.answer(kind, &name, json)
}

fn named(name: &str) -> Name {
    ("shop".to_owned(), name.to_owned())
}

#[test]
fn where_a_service_is_reached_is_read_of_its_status_and_nothing_else() {
    let services: Watched = ("Service", Scope::All);
    let service = |version: &str, status: Json| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "public", "namespace": "shop", "resourceVersion": version},
            "spec": {"type": "LoadBalancer"}, "status": status,
        })
    };
    let mut store = Store::default();
    store.apply(&services, service("1", json!({"loadBalancer": {}})));
    let assigned = json!({"ingress": [{"ip": "192.0.2.1"}]});
    assert!(store.apply(&services, service("2", json!({"loadBalancer": assigned}))));
    let conditions = json!([{"type": "Ready"}]);
    let told = json!({"loadBalancer": assigned, "conditions": conditions});
    assert!(
        !store.apply(&services, service("3", told)),
        "it is reached where it was"
    );
    admit(&mut store);
    let services = store.load().snapshot.services;
    let reached = services[0]
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.clone());
    let ingress = reached.and_then(|reached| reached.ingress).unwrap_or_default();
    assert_eq!(ingress[0].ip.as_deref(), Some("192.0.2.1"));
}

fn policies(store: &mut Store) -> usize {
    store.load().snapshot.security_policies.len()
}

fn policy(secret: &str) -> Json {
    policy_at(secret, "7")
}

fn policy_at(secret: &str, version: &str) -> Json {
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": "orders", "namespace": "shop", "resourceVersion": version},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders"}],
            "apiKeyAuth": {"credentialRefs": [{"name": secret}], "extractFrom": [{"headers": ["x-key"]}]},
        },
    })
}

fn secret(version: &str) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "keys", "namespace": "shop", "resourceVersion": version},
        "data": {"alice": "azE="},
    })
}

#[test]
fn a_status_or_an_apply_that_changes_nothing_is_no_change() {
    let mut store = Store::default();
    assert!(store.apply(&ROUTES, route("orders", "1", "/")));
    admit(&mut store);
    let before = store.load().snapshot.http_routes;
    assert!(
        !store.apply(&ROUTES, route("orders", "2", "/")),
        "only the status changed"
    );
    let after = store.load().snapshot.http_routes;
    assert!(Arc::ptr_eq(&before[0], &after[0]), "it is not read twice");
    assert_eq!(after[0].metadata.managed_fields, None);
    assert_eq!(after[0].metadata.annotations.as_ref().map(BTreeMap::len), Some(0));
    assert!(store.apply(&ROUTES, route("orders", "3", "/orders")));
}

#[test]
fn what_a_new_listing_does_not_name_is_gone_and_other_namespaces_stay() {
    let mut store = Store::default();
    let here: Watched = ("HTTPRoute", Scope::Namespace("shop".to_owned()));
    let there: Watched = ("HTTPRoute", Scope::Namespace("edge".to_owned()));
    store.expect(here.clone());
    store.expect(there.clone());
    store.begin(&here);
    store.apply(&here, route("one", "1", "/"));
    store.apply(&here, route("two", "1", "/"));
    assert!(store.end(&here));
    assert!(!store.is_whole(), "the other namespace was not listed");
    store.begin(&there);
    let mut other = route("three", "1", "/");
    other["metadata"]["namespace"] = json!("edge");
    store.apply(&there, other);
    assert!(store.end(&there));
    assert!(store.is_whole());

    admit(&mut store);
    store.begin(&here);
    assert!(!store.apply(&here, route("two", "1", "/")));
    assert_eq!(
        store.load().snapshot.http_routes.len(),
        3,
        "nothing goes before the listing is over"
    );
    assert!(store.end(&here));
    admit(&mut store);
    let names: Vec<_> = store
        .load()
        .snapshot
        .http_routes
        .iter()
        .filter_map(|route| route.metadata.name.clone())
        .collect();
    assert_eq!(names, ["three", "two"]);
    store.begin(&here);
    store.apply(&here, route("two", "1", "/"));
    assert!(!store.end(&here));
}

#[test]
fn a_secret_is_wanted_when_something_refers_to_it_and_again_when_it_changes() {
    let mut store = Store::default();
    assert!(!store.apply(&SECRETS, secret("1")), "nobody refers to it");
    assert!(store.wanted().is_empty());
    store.apply(&POLICIES, policy("keys"));
    let wanted: Vec<_> = store.wanted().into_iter().map(|wanted| wanted.name).collect();
    assert_eq!(wanted, ["keys"]);
    assert!(
        store.load().snapshot.secrets.is_empty(),
        "not more than its name is known"
    );
    assert!(read(&mut store, "Secret", secret("1")));
    assert!(store.wanted().is_empty());
    assert_eq!(store.load().snapshot.secrets.len(), 1);
    assert!(store.apply(&SECRETS, secret("2")));
    assert_eq!(store.wanted().len(), 1, "it changed");
    assert!(read(&mut store, "Secret", secret("2")));
    assert!(store.wanted().is_empty());
    store.apply(&POLICIES, policy("others"));
    store.release();
    assert!(store.load().snapshot.secrets.is_empty());
    store.apply(&POLICIES, policy("keys"));
    assert_eq!(store.wanted().len(), 1);
    store.delete("Secret", &named("keys"), "3");
    assert!(store.wanted().is_empty());
}

#[test]
fn an_object_is_here_from_its_version_on() {
    let mut store = Store::default();
    store.apply(&POLICIES, policy("keys"));
    let name = named("orders");
    let has = |store: &Store, version: &str| store.has("SecurityPolicy", &name, version);
    assert!(has(&store, "7") && has(&store, "6") && !has(&store, "8") && !has(&store, "10"));
    assert!(!has(&store, "x"));
    assert!(!store.has("SecurityPolicy", &named("none"), "1"));
}

#[test]
fn a_route_is_not_evaluated_before_it_is_admitted_and_one_that_came_later_not_with_it() {
    let mut store = Store::default();
    store.apply(&POLICIES, policy("keys"));
    assert!(!store.hold(), "a policy opens nothing");
    let routes = |store: &mut Store| {
        let paths = store.load().snapshot.http_routes.into_iter();
        let names = paths.map(|route| format!("{:?}", route.spec.rules).contains("/b"));
        names.collect::<Vec<_>>()
    };
    store.apply(&ROUTES, route("orders", "1", "/a"));
    assert!(routes(&mut store).is_empty());
    assert!(store.hold());
    store.apply(&ROUTES, route("orders", "2", "/b"));
    store.admit();
    assert_eq!(routes(&mut store), [false], "the later one waits for its turn");
    assert!(
        !store.apply(&ROUTES, route("orders", "3", "/b")),
        "only its status changed"
    );
    assert!(store.hold());
    store.admit();
    assert_eq!(routes(&mut store), [true]);
    assert!(!store.hold());
    store.apply(&ROUTES, route("orders", "4", "/a"));
    assert!(store.delete("HTTPRoute", &named("orders"), "5"));
    assert!(store.hold());
    assert_eq!(routes(&mut store), [true], "it may hide a wider one");
    store.admit();
    assert!(routes(&mut store).is_empty());
    store.apply(&ROUTES, route("orders", "6", "/a"));
    store.delete("HTTPRoute", &named("orders"), "7");
    assert!(!store.hold(), "it was never evaluated");
}

#[test]
fn what_was_taken_back_before_an_end_goes_with_it_and_what_went_later_waits() {
    let mut store = Store::default();
    let names = |store: &mut Store| {
        let routes = store.load().snapshot.http_routes.into_iter();
        routes
            .filter_map(|route| route.metadata.name.clone())
            .collect::<Vec<_>>()
    };
    store.apply(&POLICIES, policy("keys"));
    for name in ["before", "later", "orders"] {
        store.apply(&ROUTES, route(name, "1", "/"));
    }
    store.hold();
    assert!(!store.holds_an_end(), "routes that come are no end");
    store.admit();
    assert!(store.delete("SecurityPolicy", &named("orders"), "20"));
    store.hold();
    assert!(store.holds_an_end());

    // The API server has neither `before` nor the version of `orders` that is here.
    let listed = BTreeSet::from([named("later"), named("orders")]);
    let unlisted = |store: &Store| store.unlisted("HTTPRoute", &Scope::All, &listed, "21");
    assert!(!store.is_past("HTTPRoute", &named("orders"), "19"));
    assert!(
        store.is_past("HTTPRoute", &named("unknown"), "19"),
        "it lets nothing through yet"
    );
    assert_eq!(unlisted(&store), BTreeSet::from([named("before")]));
    store.delete("HTTPRoute", &named("before"), "18");
    store.apply(&ROUTES, route("orders", "19", "/other"));
    store.apply(&ROUTES, route("young", "22", "/"));
    store.delete("HTTPRoute", &named("later"), "23");
    assert!(store.is_past("HTTPRoute", &named("orders"), "19"));
    assert!(unlisted(&store).is_empty(), "what came after the listing is in none");

    store.hold_with_ends("HTTPRoute", &Scope::All, &listed);
    assert_eq!(names(&mut store), ["before", "later", "orders"]);
    store.admit();
    assert_eq!(names(&mut store), ["later", "orders", "young"]);
    assert!(store.load().snapshot.security_policies.is_empty());
    store.hold();
    assert!(store.holds_an_end(), "that of the later one");
    store.admit();
    assert_eq!(names(&mut store), ["orders", "young"]);
}

#[test]
fn a_kind_that_is_gone_takes_its_objects_along() {
    let mut store = Store::default();
    store.expect(POLICIES);
    store.begin(&POLICIES);
    store.apply(&POLICIES, policy("keys"));
    store.end(&POLICIES);
    assert!(store.forget("SecurityPolicy"));
    assert!(!store.forget("SecurityPolicy"));
    assert!(store.load().snapshot.security_policies.is_empty());
}

#[test]
fn what_opens_access_waits_and_what_closes_it_does_not() {
    let held = |kind: &'static str| {
        let mut store = Store::default();
        let object = json!({"metadata": {"name": "one", "namespace": "shop", "resourceVersion": "1"}});
        store.apply(&(kind, Scope::All), object);
        store.hold()
    };
    let kinds = portcullis_manifest::kinds().map(|kind| kind.name);
    let kinds: Vec<_> = kinds.filter(|kind| held(kind)).collect();
    assert_eq!(
        kinds,
        [
            "Backend",
            "GRPCRoute",
            "Gateway",
            "GatewayClass",
            "HTTPRoute",
            "ListenerSet",
            "Namespace",
            "ReferenceGrant",
            "Service",
            "TCPRoute"
        ]
    );
}

#[test]
fn a_policy_is_in_force_until_it_is_known_that_no_other_lags_behind_its_end() {
    let mut store = Store::default();
    store.apply(&POLICIES, policy("keys"));
    assert!(store.delete("SecurityPolicy", &named("orders"), "8"));
    assert_eq!(policies(&mut store), 1);
    assert!(store.hold());
    assert_eq!(policies(&mut store), 1);
    store.admit();
    assert_eq!(policies(&mut store), 0);

    store.apply(&POLICIES, policy_at("keys", "9"));
    store.delete("SecurityPolicy", &named("orders"), "10");
    store.hold();
    store.apply(&POLICIES, policy_at("keys", "11"));
    assert!(!store.hold(), "it is there again");
    store.admit();
    assert_eq!(policies(&mut store), 1);

    store.begin(&POLICIES);
    assert!(store.end(&POLICIES), "the new listing does not name it");
    assert_eq!(policies(&mut store), 1);
    admit(&mut store);
    assert_eq!(policies(&mut store), 0);
}

#[test]
fn a_policy_that_was_read_while_its_kind_was_listed_stays_until_it_is_known_to_be_gone() {
    let mut store = Store::default();
    store.begin(&POLICIES);
    assert!(read(&mut store, "SecurityPolicy", policy("keys")));
    store.end(&POLICIES);
    assert_eq!(policies(&mut store), 1, "the listing may be older");
    assert!(store.hold(), "or younger");
    assert_eq!(store.doubted("SecurityPolicy", &Scope::All), [named("orders")]);
    assert!(store.doubted("AccessPolicy", &Scope::All).is_empty());
    store.ask("SecurityPolicy", &named("orders"));
    assert!(store.answer_none("SecurityPolicy", &named("orders")));
    assert!(store.doubted("SecurityPolicy", &Scope::All).is_empty());
    admit(&mut store);
    assert_eq!(policies(&mut store), 0);

    assert!(read(&mut store, "SecurityPolicy", policy_at("keys", "9")));
    store.begin(&POLICIES);
    store.end(&POLICIES);
    assert!(store.doubted("SecurityPolicy", &Scope::All).is_empty());
    admit(&mut store);
    assert_eq!(policies(&mut store), 0, "a listing that began later would name it");
}

#[test]
fn what_a_watch_tells_does_not_replace_a_later_version_that_was_read() {
    let mut store = Store::default();
    let name = named("orders");
    assert!(read(&mut store, "SecurityPolicy", policy_at("keys", "10")));
    assert!(!store.apply(&POLICIES, policy_at("others", "9")));
    assert!(!store.delete("SecurityPolicy", &name, "6"), "its predecessor");
    store.begin(&POLICIES);
    assert!(!store.apply(&POLICIES, policy_at("others", "9")));
    store.end(&POLICIES);
    assert!(store.has("SecurityPolicy", &name, "10"));
    assert!(!store.apply(&POLICIES, policy_at("keys", "10")), "it is that one");
    assert!(
        store.apply(&POLICIES, policy_at("others", "3")),
        "the API server's data was restored"
    );
    assert!(read(&mut store, "SecurityPolicy", policy_at("others", "3")));
    assert!(store.delete("SecurityPolicy", &name, "2"), "and again");
}

#[test]
fn an_answer_does_not_count_if_a_watch_told_of_the_object_meanwhile() {
    let mut store = Store::default();
    let name = named("keys");
    store.apply(&POLICIES, policy("keys"));
    store.apply(&SECRETS, secret("1"));
    store.ask("Secret", &name);
    store.delete("Secret", &name, "2");
    assert!(!store.answer("Secret", &name, secret("1")));
    assert!(store.load().snapshot.secrets.is_empty(), "it was revoked");

    store.apply(&SECRETS, secret("3"));
    store.ask("Secret", &name);
    store.begin(&SECRETS);
    store.end(&SECRETS);
    assert!(!store.answer("Secret", &name, secret("3")));
    assert!(store.load().snapshot.secrets.is_empty(), "no listing names it");

    store.apply(&SECRETS, secret("4"));
    store.ask("Secret", &name);
    store.apply(&SECRETS, secret("5"));
    assert!(!store.answer_none("Secret", &name));
    assert_eq!(store.wanted().len(), 1, "it was made anew");
    assert!(read(&mut store, "Secret", secret("5")));
    assert!(store.wanted().is_empty());
}

#[test]
fn policies_are_not_known_before_their_kind_was_listed_or_while_it_cannot_be() {
    let mut store = Store::default();
    assert!(store.knows_policies());
    store.expect(ROUTES);
    assert!(store.knows_policies() && !store.is_whole());
    store.expect(POLICIES);
    assert!(!store.knows_policies());
    for watched in [ROUTES, POLICIES] {
        store.begin(&watched);
        store.end(&watched);
    }
    assert!(store.knows_policies() && store.is_whole());
    assert!(store.set_unread(BTreeSet::from(["AccessPolicy"])));
    assert!(!store.set_unread(BTreeSet::from(["AccessPolicy"])));
    assert!(!store.knows_policies() && !store.is_whole());
    assert_eq!(store.missing(), BTreeSet::from(["AccessPolicy"]));
    assert!(store.set_unread(BTreeSet::new()));
    assert!(store.knows_policies());
}

#[test]
fn what_went_and_was_listed_may_have_been_made_anew_and_is_waited_for() {
    let mut store = Store::default();
    store.apply(&POLICIES, policy("keys"));
    store.apply(&ROUTES, route("orders", "1", "/"));
    admit(&mut store);
    store.delete("SecurityPolicy", &named("orders"), "6");
    store.hold();
    assert!(!store.is_going("HTTPRoute", &named("orders")));
    // The API server lists it at version 7, and its watch has come to the end of the one before.
    store.delete("HTTPRoute", &named("orders"), "5");
    assert!(store.is_going("HTTPRoute", &named("orders")));
    assert!(!store.is_past("HTTPRoute", &named("orders"), "7"));
    store.apply(&ROUTES, route("orders", "7", "/narrow"));
    assert!(!store.is_going("HTTPRoute", &named("orders")));
    assert!(store.is_past("HTTPRoute", &named("orders"), "7"));
    store.hold_with_ends("HTTPRoute", &Scope::All, &BTreeSet::from([named("orders")]));
    store.admit();
    let loaded = store.load().snapshot;
    assert!(loaded.security_policies.is_empty());
    let rules = serde_json::to_string(&loaded.http_routes[0].spec).unwrap();
    assert!(rules.contains("/narrow"), "it is not served as it was: {rules}");
}

#[test]
fn the_end_of_a_listener_may_let_its_hosts_fall_to_a_wider_one() {
    for kind in ["Gateway", "ListenerSet"] {
        let mut store = Store::default();
        let object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": {"name": "one", "namespace": "shop", "resourceVersion": "1"},
        });
        store.apply(&(kind, Scope::All), object);
        admit(&mut store);
        store.delete(kind, &named("one"), "2");
        store.hold();
        assert!(store.holds_an_end(), "{kind}");
    }
}
