//! A controller of a real API server: what it reads, what Envoy is told of it, and what it writes.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use portcullis_e2e::{
    api::Api,
    backend::Backend,
    client::{self, Connection, Request},
    cluster::Cluster,
    controller::free_port,
    envoy::Envoy,
    replica::{Replica, portcullis},
    scratch::Scratch,
    wait::{self, PATIENCE},
    wire::Wire,
};
use serde_json::Value;

const OURS: &str = "portcullis.dev/gateway-controller";

/// A class, a Gateway and a backend.
fn gateway(port: u16, backend: &Backend) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: portcullis}}
spec: {{controllerName: {OURS}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: default}}
spec: {{gatewayClassName: portcullis, listeners: [{{name: http, protocol: HTTP, port: {port}}}]}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: echo, namespace: default}}
spec: {{endpoints: [{{ip: {{address: 127.0.0.1, port: {}}}}}]}}
---
",
        backend.address().port()
    )
}

fn route(name: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: default}}
spec:
  parentRefs: [{{name: public}}]
  hostnames: [{name}.example.com]
  rules: [{{backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: echo}}]}}]
---
"
    )
}

fn policy(name: &str, rest: &str) -> String {
    format!(
        "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{name: {name}, namespace: default}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  {rest}
---
"
    )
}

const KEYS: &str = "apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-key]}]}";
const NOBODY: &str = "authorization: {defaultAction: Deny}";
const EVERYBODY: &str = "authorization: {defaultAction: Allow}";

fn keys(key: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: keys, namespace: default}}, stringData: {{alice: {key}}}}}\n---\n"
    )
}

fn status(address: SocketAddr, host: &str, key: &str) -> u16 {
    let request = Request::get(&format!("{host}.example.com"), "/").header("x-key", key);
    client::once(address, &request).status
}

fn answers(address: SocketAddr, host: &str, key: &str, wanted: u16) {
    wait::until(&format!("{host} answers {wanted}"), PATIENCE, || {
        (status(address, host, key) == wanted).then_some(())
    });
}

/// Where an Envoy's only port is, once it takes connections.
fn listening(port: u16) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait::until("the Gateway's port is open", PATIENCE, || {
        Connection::try_open(address).ok()
    });
    address
}

fn object(cluster: &Cluster, kind: &str, name: &str) -> Value {
    let text = cluster.kubectl(&["get", kind, name, "-o", "json"]);
    serde_json::from_str(&text).expect("kubectl prints JSON")
}

/// `status/reason` of a condition of a policy's entry of ours.
fn condition(cluster: &Cluster, policy: &str, wanted: &str) -> Option<String> {
    let object = object(cluster, "securitypolicy", policy);
    let ancestors = object["status"]["ancestors"].as_array()?.clone();
    let own = ancestors.into_iter().find(|entry| entry["controllerName"] == OURS)?;
    let conditions = own["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == wanted)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

fn says(cluster: &Cluster, policy: &str, kind: &str, wanted: &str) {
    let mut last = None;
    let patience = Duration::from_secs(40);
    let deadline = std::time::Instant::now() + patience;
    while std::time::Instant::now() < deadline {
        last = condition(cluster, policy, kind);
        if last.as_deref() == Some(wanted) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{policy}: {kind} is {last:?}, not {wanted}");
}

#[test]
fn what_is_applied_is_enforced_and_its_status_says_so() {
    let (backend, port) = (Backend::start(), free_port());
    let cluster = Cluster::control();
    cluster.install_gateway_api("standard");
    let mut replica = Replica::ready(&cluster, "one");
    assert!(
        replica
            .output()
            .contains("not installed, and taken as empty: AccessPolicy, Backend")
    );
    // Definitions that are installed later are picked up.
    cluster.install_ours();
    let manifests = gateway(port, &backend);
    cluster.apply(&(manifests.clone() + &keys("first-key") + &policy("orders", KEYS) + &route("orders")));
    says(&cluster, "orders", "Accepted", "True/Accepted");
    let _envoy = replica.envoy(&manifests, |_| ());
    let address = listening(port);
    answers(address, "orders", "first-key", 200);
    assert_eq!(status(address, "orders", "no-key"), 401);
    let waited = portcullis(
        &cluster,
        &[
            "status",
            "orders",
            "--kubernetes",
            "--wait",
            "enforced",
            "--timeout",
            "30s",
        ],
    );
    assert!(waited.status.success(), "{waited:?}");
    assert!(String::from_utf8_lossy(&waited.stdout).contains("Every connected Envoy enforces it."));
    assert_eq!(
        condition(&cluster, "orders", "Enforced").as_deref(),
        Some("True/Enforced")
    );
    let explained = portcullis(&cluster, &["explain", "route", "default/orders", "--kubernetes"]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("decided by SecurityPolicy default/orders"));

    cluster.apply(&keys("second-key"));
    answers(address, "orders", "second-key", 200);
    assert_eq!(status(address, "orders", "first-key"), 401);
    cluster.apply(&policy("orders", NOBODY));
    answers(address, "orders", "second-key", 403);
    says(&cluster, "orders", "Enforced", "True/Enforced");
    cluster.kubectl(&["delete", "secret", "keys"]);
    cluster.apply(&policy("orders", KEYS));
    answers(address, "orders", "second-key", 500);
    says(&cluster, "orders", "Enforced", "False/NotAccepted");
    let waited = portcullis(&cluster, &["status", "orders", "--kubernetes", "--wait", "enforced"]);
    assert_eq!(waited.status.code(), Some(1), "{waited:?}");
    cluster.kubectl(&["delete", "securitypolicy", "orders"]);
    answers(address, "orders", "", 200);

    let metrics = replica.get("/metrics").1;
    for line in [
        "portcullis_leader 1",
        "portcullis_xds_streams 1",
        "portcullis_xds_nacks_total 0",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // What is in force stays while there is no controller, and no secret was told to anyone.
    replica.stop();
    assert_eq!(status(address, "orders", ""), 200);
    assert!(!replica.output().contains("second-key") && !metrics.contains("second-key"));
}

#[test]
fn enforced_says_what_envoys_have_wherever_they_are_connected() {
    let (backend, port) = (Backend::start(), free_port());
    let cluster = Cluster::installed("standard");
    let manifests = gateway(port, &backend);
    cluster.apply(&(manifests.clone() + &policy("orders", NOBODY) + &route("orders")));
    let mut first = Replica::ready(&cluster, "first");
    wait::until("the first one leads", PATIENCE, || {
        first.get("/metrics").1.contains("portcullis_leader 1").then_some(())
    });
    let second = Replica::ready(&cluster, "second");
    says(&cluster, "orders", "Enforced", "Unknown/NoProxies");
    // Its Envoy is the other replica's.
    let envoy: Envoy = second.envoy(&manifests, |_| ());
    says(&cluster, "orders", "Enforced", "True/Enforced");
    let old = first.envoy(&manifests, |bootstrap| {
        bootstrap["node"]["metadata"]["portcullis"]["documents"] = serde_json::json!([0]);
    });
    says(&cluster, "orders", "Enforced", "False/FilterTooOld");
    drop(old);
    says(&cluster, "orders", "Enforced", "True/Enforced");
    // Whoever writes may die.
    first.kill();
    cluster.apply(&policy("orders", EVERYBODY));
    answers(listening(port), "orders", "", 200);
    wait::until("the other one writes", Duration::from_secs(40), || {
        let object = object(&cluster, "securitypolicy", "orders");
        let conditions = object["status"]["ancestors"][0]["conditions"].as_array().cloned()?;
        let enforced = conditions
            .into_iter()
            .find(|condition| condition["type"] == "Enforced")?;
        (enforced["observedGeneration"] == object["metadata"]["generation"] && enforced["status"] == "True")
            .then_some(())
    });
    assert!(second.get("/metrics").1.contains("portcullis_leader 1"));
    // A route that Envoy does not take closes itself, and its policy says why.
    cluster.apply(
        &(policy("broken", EVERYBODY)
            + &route("broken").replace(
                "{backendRefs",
                "{matches: [{path: {type: RegularExpression, value: \"/a**\"}}], backendRefs",
            )),
    );
    says(&cluster, "broken", "Enforced", "False/Rejected");
    says(&cluster, "orders", "Enforced", "True/Enforced");
    drop(envoy);
    says(&cluster, "orders", "Enforced", "Unknown/NoProxies");
}

#[test]
fn a_replica_that_is_cut_off_says_so_and_goes_on_when_it_is_not() {
    let cluster = installed();
    let server: SocketAddr = cluster
        .server()
        .trim_start_matches("https://")
        .parse()
        .expect("an address");
    let wire = Wire::to(server);
    let text = cluster.kubectl(&["config", "view", "--raw", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    config["clusters"][0]["cluster"]["server"] = format!("https://{}", wire.address()).into();
    let scratch = Scratch::new();
    let replica = Replica::start_as(&cluster, &scratch.write("kubeconfig", &config.to_string()), &[]);
    let ready = |wanted: u16| {
        wait::until(&format!("/readyz is {wanted}"), PATIENCE, || {
            (replica.get("/readyz").0 == wanted).then_some(())
        });
    };
    ready(200);
    wire.cut();
    ready(503);
    assert_eq!(replica.get("/readyz").1, "cut off from the API server\n");
    assert_eq!(replica.get("/healthz").0, 200, "nobody is to restart it");
    wire.mend();
    ready(200);
    cluster.apply(&(gateway(free_port(), &Backend::start()) + &policy("orders", NOBODY) + &route("orders")));
    says(&cluster, "orders", "Accepted", "True/Accepted");
}

#[test]
fn a_route_whose_policy_was_made_first_is_never_without_it() {
    let (backend, port) = (Backend::start(), free_port());
    let cluster = Cluster::installed("standard");
    let manifests = gateway(port, &backend);
    cluster.apply(&(manifests.clone() + &route("open")));
    let replica = Replica::ready(&cluster, "one");
    let _envoy = replica.envoy(&manifests, |_| ());
    let address = listening(port);
    answers(address, "open", "", 200);
    let before = backend.count();
    let all: String = (0..150)
        .map(|number| policy(&format!("r{number}"), NOBODY) + &route(&format!("r{number}")))
        .collect();
    thread::scope(|scope| {
        let applied = scope.spawn(|| cluster.apply(&all));
        let mut number = 0;
        while !applied.is_finished() {
            for back in 0..4 {
                let host = format!("r{}", (number + 150 - back) % 150);
                let answer = status(address, &host, "");
                assert!([403, 404].contains(&answer), "{host}: {answer}");
            }
            if status(address, &format!("r{number}"), "") == 403 {
                number = (number + 1) % 150;
            }
        }
    });
    for number in 0..150 {
        answers(address, &format!("r{number}"), "", 403);
    }
    assert_eq!(backend.count(), before, "no request of these came through");
}

#[test]
fn a_route_that_goes_before_its_policy_is_never_without_it() {
    const ALL: usize = 150;
    let (backend, port) = (Backend::start(), free_port());
    let cluster = Cluster::installed("standard");
    let manifests = gateway(port, &backend);
    let all: String = (0..ALL)
        .map(|number| policy(&format!("r{number}"), NOBODY) + &route(&format!("r{number}")))
        .collect();
    cluster.apply(&(manifests.clone() + &all));
    let replica = Replica::ready(&cluster, "one");
    let _envoy = replica.envoy(&manifests, |_| ());
    let address = listening(port);
    answers(address, &format!("r{}", ALL - 1), "", 403);
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let kinds = [
        "gateway.networking.k8s.io/v1/namespaces/default/httproutes",
        "gateway.envoyproxy.io/v1alpha1/namespaces/default/securitypolicies",
    ];
    thread::scope(|scope| {
        // Several at once, so that much comes to the watches in little time.
        for _ in 0..4 {
            scope.spawn(|| {
                let mut api = Api::new(&cluster);
                loop {
                    let number = begun.fetch_add(1, Ordering::Relaxed);
                    if number >= ALL {
                        break;
                    }
                    for kind in kinds {
                        let _ = api.delete(&format!("/apis/{kind}/r{number}")).object();
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Those that go now, and those that are just gone.
        let mut connection = Connection::open(address);
        let mut is_over = false;
        while !is_over {
            is_over = ended.load(Ordering::Relaxed) == ALL;
            let last = begun.load(Ordering::Relaxed).min(ALL);
            for number in last.saturating_sub(25)..last {
                let request = Request::get(&format!("r{number}.example.com"), "/");
                let answer = connection.send(&request).status;
                assert!([403, 404].contains(&answer), "r{number}: {answer}");
            }
        }
    });
    for number in 0..ALL {
        answers(address, &format!("r{number}"), "", 404);
    }
    assert_eq!(backend.count(), 0, "no request came through");
}

#[test]
fn a_rule_with_a_field_that_is_not_understood_is_closed() {
    let (backend, port) = (Backend::start(), free_port());
    let cluster = Cluster::installed("experimental");
    let manifests = gateway(port, &backend);
    let newer = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: newer, namespace: default}
spec:
  parentRefs: [{name: public}]
  hostnames: [newer.example.com]
  rules:
  - matches: [{path: {value: /shop}}]
    backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: echo}]
    sessionPersistence: {sessionName: s}
  - backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: echo}]
";
    cluster.apply(&(manifests.clone() + &route("orders") + newer));
    let replica = Replica::ready(&cluster, "one");
    let _envoy = replica.envoy(&manifests, |_| ());
    let address = listening(port);
    answers(address, "orders", "", 200);
    answers(address, "newer", "", 200);
    let shop = client::once(address, &Request::get("newer.example.com", "/shop/1"));
    assert_eq!(shop.status, 500);
    wait::until("the route's status says so", PATIENCE, || {
        let route = object(&cluster, "httproute", "newer");
        let conditions = route["status"]["parents"][0]["conditions"].as_array().cloned()?;
        let partially = conditions
            .into_iter()
            .find(|condition| condition["type"] == "PartiallyInvalid")?;
        assert_eq!(partially["reason"], "UnsupportedValue");
        Some(())
    });
}

#[test]
fn definitions_that_lack_our_fields_are_told_of_and_without_rights_nothing_is_served() {
    let cluster = Cluster::installed("standard");
    let text = cluster.kubectl(&["get", "crd", "accesspolicies.portcullis.dev", "-o", "json"]);
    let mut older: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let spec = older.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    let spec = spec.and_then(Value::as_object_mut).expect("it has a schema");
    let fields = spec
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .expect("it has fields");
    fields.remove("baseline").expect("it has a baseline");
    spec.remove("x-kubernetes-validations");
    let replaced = cluster.kubectl_with(&["replace", "-f", "-"], &older.to_string());
    assert!(replaced.status.success(), "{replaced:?}");
    let replica = Replica::ready(&cluster, "one");
    wait::until("the field is named", PATIENCE, || {
        let output = replica.output();
        output
            .contains("AccessPolicy lacks fields, which the cluster drops from what is written: spec.baseline;")
            .then_some(())
    });

    let mut config = cluster.kubectl(&["config", "view", "--raw", "-o", "json"]);
    cluster.kubectl(&["create", "serviceaccount", "nobody", "-n", "default"]);
    let token = cluster.kubectl(&["create", "token", "nobody", "-n", "default"]);
    let mut value: Value = serde_json::from_str(&config).expect("kubectl prints JSON");
    value["users"][0]["user"] = serde_json::json!({"token": token.trim()});
    config = value.to_string();
    let scratch = portcullis_e2e::scratch::Scratch::new();
    let file = scratch.write("kubeconfig", &config);
    // kubectl's variable, as a user sets it.
    let mut command = cluster.command(&portcullis_e2e::artefacts::controller());
    command
        .env("KUBECONFIG", &file)
        .args(["explain", "route", "default/orders", "--kubernetes"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(
        child.try_wait().expect("a child can be waited for"),
        None,
        "it does not guess"
    );
    child.kill().expect("it can be killed");
    let _ = child.wait();
}

#[test]
fn a_policy_that_is_there_in_no_version_that_is_read_is_not_taken_as_absent() {
    let cluster = Cluster::installed("standard");
    let name = "securitypolicies.gateway.envoyproxy.io";
    let text = cluster.kubectl(&["get", "crd", name, "-o", "json"]);
    let mut newer: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    newer["spec"]["versions"][0]["name"] = serde_json::json!("v2");
    newer["metadata"] = serde_json::json!({"name": name});
    newer.as_object_mut().expect("it is an object").remove("status");
    cluster.kubectl(&["delete", "crd", name]);
    let created = cluster.kubectl_with(&["create", "-f", "-"], &newer.to_string());
    assert!(created.status.success(), "{created:?}");
    wait::until("the version is there", PATIENCE, || {
        let groups = cluster.kubectl(&["get", "--raw", "/apis"]);
        let kinds = cluster.try_kubectl(&["get", "--raw", "/apis/gateway.envoyproxy.io/v2"]);
        (groups.contains("gateway.envoyproxy.io/v2") && kinds.status.success()).then_some(())
    });
    let replica = Replica::start(&cluster, "one", &[]);
    wait::until("it says why it is not ready", PATIENCE, || {
        let (status, body) = replica.get("/readyz");
        assert_ne!(status, 200);
        let told = "SecurityPolicy is there only in versions that are not read: v2;";
        (body == "not listed yet: SecurityPolicy\n" && replica.output().contains(told)).then_some(())
    });
}

#[test]
fn an_object_that_is_nested_too_deep_keeps_no_other_from_being_read() {
    let cluster = Cluster::installed("standard");
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    cluster.apply(&format!(
        r#"{{"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy", "metadata": {{"name": "deep", "namespace": "default"}}, "spec": {{"bootstrap": {deep}}}}}"#
    ));
    let _replica = Replica::ready(&cluster, "one");
}
