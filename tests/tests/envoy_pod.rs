//! The chart's Envoy as a pod of a real node: it has the filter, it is not ready without a controller, and it drains before it stops.

use std::time::{Duration, Instant};

use portcullis_e2e::{
    artefacts,
    certificate::Certificate,
    cluster::{Cluster, PATIENCE},
    manifests,
    scratch::Scratch,
    wait,
};
use serde_json::Value;

const NAMESPACE: &str = "portcullis-system";

#[test]
fn an_envoy_of_the_chart_runs_confined() {
    let cluster = Cluster::with_node();
    cluster.import_ours();
    let root = artefacts::root();
    let text = |path: &str| root.join(path).to_str().expect("the path is a text").to_owned();
    cluster.kubectl(&["apply", "-f", &text("manifests/controller/namespace.yaml")]);
    let scratch = Scratch::new();
    let certificate = Certificate::new(&scratch, "controller", &["portcullis-xds.portcullis-system.svc"]);
    let (name, key) = ("portcullis-xds.edge.public", &certificate.key);
    let entries = [
        ("tls.crt", &certificate.certificate),
        ("tls.key", key),
        ("ca.crt", &certificate.certificate),
    ];
    let entries = entries.map(|(name, value)| (name, value.as_str()));
    cluster.apply(&manifests::file(&[manifests::secret(NAMESPACE, name, &entries)]));
    let chart = text("manifests/charts/portcullis-envoy");
    let values = "gateway.namespace=edge,gateway.name=public,replicas=1,service.type=ClusterIP,drain.atLeastSeconds=3";
    cluster.helm(&["install", "public", &chart, "-n", NAMESPACE, "--set", values]);

    let pod = wait::until("Envoy runs", PATIENCE, || running(&cluster));
    let ready = || running(&cluster).is_some_and(|pod| pod["status"]["containerStatuses"][0]["ready"] == true);
    assert!(!ready(), "there is no controller");

    let exec = |arguments: &[&str]| {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let common = ["exec", "-n", NAMESPACE, name, "-c", "envoy", "--"];
        cluster.try_kubectl(&[&common[..], arguments].concat())
    };
    let output = exec(&[
        "/filter/portcullis",
        "version",
        "--ready",
        "unix:/run/portcullis/admin.sock",
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("envoy is not ready"),
        "{error}{}",
        String::from_utf8_lossy(&output.stdout)
    );

    let start = Instant::now();
    cluster.kubectl(&[
        "delete",
        "deployment",
        "public",
        "-n",
        NAMESPACE,
        "--cascade=foreground",
        "--timeout=60s",
    ]);
    let passed = start.elapsed();
    assert!(
        passed >= Duration::from_secs(3) && passed < Duration::from_secs(30),
        "{passed:?}"
    );
    let events = cluster.kubectl(&["get", "events", "-n", NAMESPACE, "-o", "jsonpath={.items[*].reason}"]);
    assert!(!events.contains("FailedPreStopHook"), "{events}");
}

/// The only pod, once its Envoy runs.
fn running(cluster: &Cluster) -> Option<Value> {
    let text = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "json"]);
    let pods: Value = serde_json::from_str(&text).expect("JSON");
    let pod = pods["items"].get(0)?;
    let state = |list: &str| pod["status"][list][0]["state"].clone();
    let exit = &state("initContainerStatuses")["terminated"]["exitCode"];
    let failed = exit.is_number() && *exit != 0 || !state("containerStatuses")["terminated"].is_null();
    assert!(!failed, "the pod failed: {}", pod["status"]);
    (!state("containerStatuses")["running"].is_null()).then(|| pod.clone())
}
