//! The guide for Kubernetes, on a real cluster: the controller and its Envoys as pods, installed as a user installs them.

use std::{fs, path::Path, process::Output};

use portcullis_e2e::{
    artefacts,
    cluster::{self, Cluster, Image},
    guide::{self, Expected},
    wait::{self, PATIENCE},
};

const NAMESPACE: &str = "portcullis-system";

fn installed() -> Cluster {
    let cluster = Cluster::with_node();
    cluster.install_gateway_api("standard");
    let version = env!("CARGO_PKG_VERSION");
    for name in ["controller", "filter"] {
        cluster.import(&Image {
            name: format!("portcullis/{name}:{version}"),
            files: vec![
                (artefacts::controller(), "/portcullis".to_owned()),
                (artefacts::filter(), "/portcullis.wasm".to_owned()),
            ],
            user: "65532:65532".to_owned(),
        });
    }
    cluster.import(&Image::envoy());
    cluster
}

/// A command of the guide, as its reader types it, in the cluster's network.
fn shell(cluster: &Cluster, command: &str) -> Output {
    let tools = cluster::built("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = cluster.command(Path::new("bash"));
    bash.args(["-c", command]).current_dir(artefacts::root());
    bash.env("PATH", format!("{}:{path}", tools.display()));
    bash.output().expect("bash runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What is known of a cluster in which something went wrong.
fn state(cluster: &Cluster) -> String {
    let shown = |line: &str| text(&shell(cluster, line));
    [
        "kubectl get pods -A -o wide",
        "kubectl get events -A --sort-by .lastTimestamp | tail -30",
        "kubectl logs -n portcullis-system deployment/portcullis --all-pods --tail 30",
        "kubectl logs -n portcullis-system deployment/public --all-pods --tail 30",
        "dist/portcullis status --kubernetes -A",
    ]
    .map(shown)
    .join("\n")
}

#[test]
fn the_guide_for_kubernetes_does_what_it_says() {
    let cluster = installed();
    let file = artefacts::root().join("docs/guides/kubernetes.md");
    let steps = guide::cluster_steps(&fs::read_to_string(&file).expect("the guide"));
    assert!(steps.len() >= 12, "only {} commands", steps.len());
    for step in &steps {
        let Expected::Exit(code) = step.expected else {
            panic!("{}: what must come of it?", step.command);
        };
        println!("{}", step.command);
        let output = shell(&cluster, &step.command);
        let printed = text(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}\n{printed}\n{}",
            step.command,
            state(&cluster)
        );
        guide::assert_prints(step, &printed, "kubernetes.md");
    }
    either_replica_may_go(&cluster);
}

/// Whichever replica goes, what is decided is what was applied last, and an edit comes through.
fn either_replica_may_go(cluster: &Cluster) {
    let pods = cluster.kubectl(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=portcullis",
        "-o",
        "name",
    ]);
    let pods: Vec<&str> = pods.lines().collect();
    assert_eq!(pods.len(), 2, "{pods:?}");
    let ask = |key: &str| {
        let line = format!(
            "curl -s -o /dev/null -m 5 -w '%{{http_code}}' -H 'Host: shop.example.com' -H 'x-api-key: {key}' http://$(kubectl get service public -n {NAMESPACE} -o jsonpath='{{.spec.clusterIP}}')/orders"
        );
        String::from_utf8_lossy(&shell(cluster, &line).stdout).into_owned()
    };
    for (number, pod) in pods.iter().enumerate() {
        cluster.kubectl(&["delete", "-n", NAMESPACE, pod, "--now"]);
        assert_eq!(
            (ask("nobody-has-this").as_str(), ask("another-key").as_str()),
            ("401", if number == 0 { "200" } else { "401" })
        );
        let key = format!("key-{number}");
        cluster.kubectl(&[
            "patch",
            "secret",
            "orders-clients",
            "-n",
            "shop",
            "-p",
            &format!("{{\"stringData\": {{\"partner\": \"{key}\"}}}}"),
        ]);
        wait::until("the new key is taken", PATIENCE * 3, || {
            (ask(&key) == "200").then_some(())
        });
        assert_eq!(ask("another-key"), "401");
        cluster.kubectl(&[
            "rollout",
            "status",
            "-n",
            NAMESPACE,
            "deployment/portcullis",
            "--timeout=120s",
        ]);
    }
}
