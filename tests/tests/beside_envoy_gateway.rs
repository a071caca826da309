//! Envoy Gateway and this controller on one cluster: a route moves from one to the other, and neither goes by the other's name
//! while that one runs.

use std::{fs, process::Output, time::Instant};

use portcullis_e2e::{
    artefacts,
    cluster::{Cluster, Image, PATIENCE},
    wait,
};
use serde_json::Value;

const OURS: &str = "portcullis.dev/gateway-controller";
const THEIRS: &str = "gateway.envoyproxy.io/gatewayclass-controller";
const NAMESPACE: &str = "portcullis-system";
const EG: &str = "envoy-gateway-system";

/// What both serve in turn: a Gateway of each, and a route with a policy that begins with Envoy Gateway.
const SHOP: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: former, namespace: shop}
spec: {gatewayClassName: eg, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: shop}
spec: {gatewayClassName: portcullis, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs: [{name: former}]
  hostnames: [shop.example.com]
  rules: [{backendRefs: [{name: echo, port: 8080}]}]
---
apiVersion: v1
kind: Secret
metadata: {name: orders-clients, namespace: shop}
stringData: {partner: partner-key}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  apiKeyAuth:
    credentialRefs: [{name: orders-clients}]
    extractFrom: [{headers: [x-api-key]}]
";

fn built(path: &str) -> String {
    let script = artefacts::root().join("tests/cluster/envoy-gateway.sh");
    let output = std::process::Command::new(script)
        .arg("where")
        .output()
        .expect("the script runs");
    let folder = String::from_utf8(output.stdout).expect("a path");
    let path = format!("{}/{path}", folder.trim());
    assert!(
        fs::exists(&path).unwrap_or(false),
        "{path} is missing: run `make cluster`"
    );
    path
}

fn manifests(path: &str) -> String {
    let path = artefacts::root().join("manifests").join(path);
    path.to_str().expect("the path is a text").to_owned()
}

/// A cluster on which Envoy Gateway serves, and then this controller too.
fn installed() -> Cluster {
    let cluster = Cluster::with_node();
    cluster.install_gateway_api("experimental");
    cluster.import_ours();
    cluster.import(&Image {
        name: "envoyproxy/gateway:v1.9.1".to_owned(),
        files: vec![(built("envoy-gateway").into(), "/usr/local/bin/envoy-gateway".to_owned())],
        user: "65532:65532".to_owned(),
    });
    cluster.kubectl(&["apply", "--server-side", "-f", &built("crds")]);
    let served = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
    cluster.kubectl(&served);
    let theirs = artefacts::root().join("tests/testdata/envoy-gateway.yaml");
    cluster.kubectl(&["apply", "-f", theirs.to_str().expect("the path is a text")]);
    cluster.until_rolled_out(EG, "envoy-gateway");
    // Their definitions stay as they are: ours are added.
    cluster.kubectl(&["apply", "-f", &manifests("crds/accesspolicies.portcullis.dev.yaml")]);
    let ours = [
        "install",
        "portcullis",
        &manifests("charts/portcullis"),
        "-n",
        NAMESPACE,
    ];
    cluster.helm(&[&ours[..], &["--create-namespace"]].concat());
    cluster.until_rolled_out(NAMESPACE, "portcullis");
    cluster
}

/// The address of a Service, by a selector of one.
fn address(cluster: &Cluster, namespace: &str, selector: &str) -> String {
    wait::until("the Service is there", PATIENCE, || {
        let shown = cluster.kubectl(&[
            "get",
            "service",
            "-n",
            namespace,
            "-l",
            selector,
            "-o",
            "jsonpath={.items[0].spec.clusterIP}",
        ]);
        (!shown.is_empty()).then_some(shown)
    })
}

/// The status of an answer to a request with a key; 0 without an answer.
fn ask(cluster: &Cluster, address: &str, key: &str) -> u16 {
    let mut curl = cluster.command("curl".as_ref());
    curl.args([
        "-s",
        "-o",
        "/dev/null",
        "-m",
        "5",
        "-w",
        "%{http_code}",
        "-H",
        "Host: shop.example.com",
        "-H",
    ]);
    let output: Output = curl
        .arg(format!("x-api-key: {key}"))
        .arg(format!("http://{address}/"))
        .output()
        .expect("curl runs");
    String::from_utf8_lossy(&output.stdout).parse().unwrap_or_default()
}

/// Waits until who may take the route may, and nobody else.
fn serves(cluster: &Cluster, who: &str, address: &str) {
    let deadline = Instant::now() + PATIENCE / 2;
    let mut answers = [0; 3];
    while answers != [200, 401, 401] {
        assert!(
            Instant::now() < deadline,
            "{who} does not serve the route: {answers:?}\n{}",
            state(cluster)
        );
        answers = ["partner-key", "guess", ""].map(|key| ask(cluster, address, key));
    }
}

/// What is known of a cluster in which something went wrong.
fn state(cluster: &Cluster) -> String {
    let shown = |line: &str| {
        let output = cluster.try_kubectl(&line.split(' ').collect::<Vec<_>>());
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    [
        "get pods -A -o wide",
        "get events -A --sort-by .lastTimestamp",
        "logs -n envoy-gateway-system deployment/envoy-gateway --tail 40",
        "logs -n envoy-gateway-system -l gateway.envoyproxy.io/owning-gateway-name=former --all-containers --tail 40",
        "get gateways,httproutes,securitypolicies -n shop -o yaml",
    ]
    .map(shown)
    .join("\n")
}

/// Controllers that have an entry in a status, with whether the first condition of each kind holds there.
fn entries(cluster: &Cluster, kind: &str, list: &str) -> Vec<(String, bool)> {
    let text = cluster.kubectl(&["get", kind, "orders", "-n", "shop", "-o", "json"]);
    let object: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let entries = object["status"][list].as_array().cloned().unwrap_or_default();
    let mut entries: Vec<(String, bool)> = entries
        .iter()
        .map(|entry| {
            let conditions = entry["conditions"].as_array().cloned().unwrap_or_default();
            let accepted = conditions
                .iter()
                .any(|condition| condition["type"] == "Accepted" && condition["status"] == "True");
            (
                entry["controllerName"].as_str().unwrap_or_default().to_owned(),
                accepted,
            )
        })
        .collect();
    entries.sort();
    entries
}

fn says(cluster: &Cluster, wanted: &[&str]) {
    let wanted: Vec<(String, bool)> = wanted.iter().map(|name| ((*name).to_owned(), true)).collect();
    for (kind, list) in [("httproute", "parents"), ("securitypolicy", "ancestors")] {
        let mut last = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while last != wanted {
            assert!(Instant::now() < deadline, "{kind}: {last:?}, not {wanted:?}");
            std::thread::sleep(std::time::Duration::from_millis(200));
            last = entries(cluster, kind, list);
        }
    }
}

fn attach(cluster: &Cluster, parents: &str) {
    let patch = format!("{{\"spec\": {{\"parentRefs\": {parents}}}}}");
    cluster.kubectl(&[
        "patch",
        "httproute",
        "orders",
        "-n",
        "shop",
        "--type=merge",
        "-p",
        &patch,
    ]);
}

#[test]
fn a_route_moves_from_envoy_gateway_to_this_controller() {
    let cluster = installed();
    cluster.kubectl(&["apply", "-f", &manifests("examples/kubernetes/echo")]);
    cluster.apply(SHOP);
    let values = "gateway.namespace=shop,gateway.name=public,replicas=1,concurrency=1,service.type=ClusterIP";
    cluster.helm(&[
        "install",
        "public",
        &manifests("charts/portcullis-envoy"),
        "-n",
        NAMESPACE,
        "--set",
        values,
    ]);

    let former = address(&cluster, EG, "gateway.envoyproxy.io/owning-gateway-name=former");
    let ours = address(&cluster, NAMESPACE, "gateway.networking.k8s.io/gateway-name=public");
    serves(&cluster, "Envoy Gateway", &former);
    says(&cluster, &[THEIRS]);

    attach(&cluster, r#"[{"name": "former"}, {"name": "public"}]"#);
    serves(&cluster, "this controller", &ours);
    serves(&cluster, "Envoy Gateway", &former);
    says(&cluster, &[THEIRS, OURS]);

    attach(&cluster, r#"[{"name": "public"}]"#);
    // Whether Envoy Gateway takes its entries away is its own affair; ours stay.
    for (kind, list) in [("httproute", "parents"), ("securitypolicy", "ancestors")] {
        wait::until("our entry is there", PATIENCE, || {
            entries(&cluster, kind, list)
                .contains(&(OURS.to_owned(), true))
                .then_some(())
        });
    }
    wait::until("Envoy Gateway serves it no more", PATIENCE, || {
        (ask(&cluster, &former, "partner-key") == 404).then_some(())
    });
    serves(&cluster, "this controller", &ours);
    under_its_name(&cluster);
}

/// Under Envoy Gateway's name nothing is served while it runs, and everything once it is gone.
fn under_its_name(cluster: &Cluster) {
    let chart = manifests("charts/portcullis");
    let name = format!("controllerName={THEIRS},gatewayClass.create=false,replicas=1");
    cluster.helm(&["install", "successor", &chart, "-n", NAMESPACE, "--set", &name]);
    let logs = || {
        let output = cluster.try_kubectl(&["logs", "-n", NAMESPACE, "deployment/successor", "--tail", "20"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait::until("it is refused", PATIENCE, || {
        logs()
            .contains("Envoy Gateway runs, under the name of this controller")
            .then_some(())
    });
    cluster.kubectl(&["scale", "-n", EG, "deployment/envoy-gateway", "--replicas=0"]);
    // What failed is started again after a pause that doubles.
    cluster.kubectl(&[
        "delete",
        "pod",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/instance=successor",
        "--now",
    ]);
    cluster.until_rolled_out(NAMESPACE, "successor");
    wait::until("it has taken over the class", PATIENCE, || {
        let secret = ["get", "secret", "successor-xds.shop.former", "-n", NAMESPACE];
        cluster.try_kubectl(&secret).status.success().then_some(())
    });
}
