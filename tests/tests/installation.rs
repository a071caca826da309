//! What is under `manifests/`, on a real API server: the base, the charts, and what the controller may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
};

use portcullis_e2e::{
    artefacts,
    certificate::Certificate,
    cluster::{self, Cluster},
    controller::{self, Place},
    scratch::Scratch,
    spawned::Spawned,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const NAMESPACE: &str = "portcullis-system";
const ACCOUNT: &str = "system:serviceaccount:portcullis-system:portcullis";

fn manifests(path: &str) -> String {
    let path = artefacts::root().join("manifests").join(path);
    path.to_str().expect("the path is a text").to_owned()
}

fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML is printed");
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// Objects by kind and name.
fn by_name(documents: Vec<Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    documents.into_iter().map(|object| (name(&object), object)).collect()
}

#[test]
fn the_base_installs_a_confined_controller() {
    let cluster = Cluster::control();
    cluster.install_gateway_api("standard");
    // As users do, without server-side apply: the whole definition must fit into an annotation. Twice, as an upgrade.
    for _ in 0..2 {
        cluster.kubectl(&["apply", "--validate=strict", "-k", &manifests("")]);
    }
    let installed = cluster.kubectl(&["get", "crd", "-o", "name"]);
    assert!(installed.contains("accesspolicies.portcullis.dev"), "{installed}");
    the_chart_is_the_base(&cluster);
    a_misspelt_value_is_refused(&cluster);
    a_pod_is_admitted(&cluster, "portcullis");
    rights(&cluster);

    // Made by a controller of Kubernetes, which does not run here.
    cluster.kubectl(&["create", "serviceaccount", "default", "-n", NAMESPACE]);
    let chart = manifests("charts/portcullis-envoy");
    let values = ["--set", "gateway.namespace=edge,gateway.name=public"];
    cluster.helm(&[&["install", "public", &chart, "-n", NAMESPACE], &values[..]].concat());
    a_pod_is_admitted(&cluster, "public");
}

/// The chart with its defaults is the base, apart from the namespace and the definitions.
fn the_chart_is_the_base(cluster: &Cluster) {
    let chart = cluster.helm(&[
        "template",
        "portcullis",
        &manifests("charts/portcullis"),
        "-n",
        NAMESPACE,
    ]);
    let mut base = by_name(documents(&cluster.kubectl(&["kustomize", &manifests("")])));
    base.retain(|_, object| object["kind"] != "Namespace" && object["kind"] != "CustomResourceDefinition");
    let chart = by_name(documents(&chart));
    assert_eq!(base.keys().collect::<Vec<_>>(), chart.keys().collect::<Vec<_>>());
    for (name, object) in &base {
        assert_eq!(object, &chart[name], "{name}");
    }
}

/// `namespace` for `namespaces` would give rights on the whole cluster.
fn a_misspelt_value_is_refused(cluster: &Cluster) {
    for (chart, value) in [
        ("portcullis", "namespace={shop}"),
        ("portcullis-envoy", "gateway.names=public"),
    ] {
        let chart = manifests(&format!("charts/{chart}"));
        let lint = |more: &[&str]| {
            let mut command = cluster.command(&cluster::built("bin/helm"));
            let values = ["--set", "gateway.namespace=edge,gateway.name=public"];
            let values: &[&str] = if chart.ends_with("-envoy") { &values } else { &[] };
            command.args(["lint", "--strict", &chart]).args(values).args(more);
            command.output().expect("Helm runs")
        };
        let output = lint(&[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!lint(&["--set", value]).status.success(), "{value}");
    }
}

/// A pod of a Deployment, tried as a pod: the namespace takes none that is not confined.
fn a_pod_is_admitted(cluster: &Cluster, deployment: &str) {
    let text = cluster.kubectl(&["get", "deployment", deployment, "-n", NAMESPACE, "-o", "json"]);
    let deployment: Value = serde_json::from_str(&text).expect("JSON");
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("trial");
    pod["metadata"]["namespace"] = json!(NAMESPACE);
    let arguments = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let output = cluster.kubectl_with(&arguments, &pod.to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The namespace does refuse: one step off and the pod is none.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let output = cluster.kubectl_with(&arguments, &pod.to_string());
    assert!(!output.status.success(), "nothing is enforced");
}

/// Everything that the controller may do, and nothing that is not in this list.
fn rights(cluster: &Cluster) {
    let watched = [
        "backends.gateway.envoyproxy.io",
        "backendtlspolicies.gateway.networking.k8s.io",
        "clienttrafficpolicies.gateway.envoyproxy.io",
        "configmaps",
        "endpointslices.discovery.k8s.io",
        "envoyproxies.gateway.envoyproxy.io",
        "gatewayclasses.gateway.networking.k8s.io",
        "gateways.gateway.networking.k8s.io",
        "grpcroutes.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
        "listenersets.gateway.networking.k8s.io",
        "namespaces",
        "accesspolicies.portcullis.dev",
        "referencegrants.gateway.networking.k8s.io",
        "secrets",
        "securitypolicies.gateway.envoyproxy.io",
        "services",
        "tcproutes.gateway.networking.k8s.io",
    ];
    let with_status = [
        "accesspolicies.portcullis.dev",
        "backendtlspolicies.gateway.networking.k8s.io",
        "clienttrafficpolicies.gateway.envoyproxy.io",
        "gatewayclasses.gateway.networking.k8s.io",
        "gateways.gateway.networking.k8s.io",
        "grpcroutes.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
        "listenersets.gateway.networking.k8s.io",
        "securitypolicies.gateway.envoyproxy.io",
        "tcproutes.gateway.networking.k8s.io",
    ];
    let mut expected: BTreeSet<(String, String)> = BTreeSet::new();
    for resource in watched {
        expected.extend(["list", "watch"].map(|verb| (verb.to_owned(), resource.to_owned())));
    }
    for resource in with_status {
        let (plural, group) = resource.split_once('.').expect("a group");
        expected.insert(("patch".to_owned(), format!("{plural}.{group}/status")));
    }
    for resource in [
        "accesspolicies.portcullis.dev",
        "backendtlspolicies.gateway.networking.k8s.io",
        "clienttrafficpolicies.gateway.envoyproxy.io",
        "configmaps",
        "secrets",
        "securitypolicies.gateway.envoyproxy.io",
    ] {
        expected.insert(("get".to_owned(), resource.to_owned()));
    }
    assert_eq!(granted(cluster, "default"), expected, "anywhere");

    // Its own, where it runs.
    for verb in ["create", "delete", "update"] {
        expected.insert((verb.to_owned(), "secrets".to_owned()));
    }
    expected.insert(("create".to_owned(), "leases.coordination.k8s.io".to_owned()));
    for verb in ["get", "update", "patch"] {
        expected.insert((verb.to_owned(), "leases.coordination.k8s.io portcullis".to_owned()));
    }
    assert_eq!(granted(cluster, NAMESPACE), expected, "in its own namespace");

    // And the API server goes by it.
    let may = |arguments: &[&str]| {
        let asked = [&["auth", "can-i", "--as", ACCOUNT], arguments].concat();
        cluster.try_kubectl(&asked).status.success()
    };
    assert!(may(&[
        "patch",
        "httproutes.gateway.networking.k8s.io",
        "--subresource=status",
        "-n",
        "shop"
    ]));
    assert!(may(&["get", "secrets/clients", "-n", "shop"]));
    assert!(may(&[
        "update",
        "leases.coordination.k8s.io/portcullis",
        "-n",
        NAMESPACE
    ]));
    for refused in [
        &["patch", "httproutes.gateway.networking.k8s.io", "-n", "shop"][..],
        &[
            "update",
            "securitypolicies.gateway.envoyproxy.io",
            "--subresource=status",
            "-n",
            "shop",
        ],
        &["create", "secrets", "-n", "shop"],
        &["delete", "secrets", "-n", "shop"],
        &["update", "leases.coordination.k8s.io/other", "-n", NAMESPACE],
        &["create", "leases.coordination.k8s.io", "-n", "shop"],
        &["patch", "customresourcedefinitions.apiextensions.k8s.io"],
        &["list", "pods", "-A"],
        &["create", "pods", "-n", NAMESPACE],
        &["impersonate", "users"],
        &[
            "create",
            "serviceaccounts/portcullis",
            "--subresource=token",
            "-n",
            NAMESPACE,
        ],
    ] {
        assert!(!may(refused), "{refused:?}");
    }
}

/// What the controller may do in a namespace beyond what everybody may, as verb and resource, with the name if it is bound to one.
fn granted(cluster: &Cluster, namespace: &str) -> BTreeSet<(String, String)> {
    let review = |user: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
        });
        let line = format!("create --validate=false --as={user} --as-group=system:authenticated -o json -f -");
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = cluster.kubectl_with(&arguments, &review.to_string());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        rules(&answer["status"]["resourceRules"])
    };
    let everybody = review("nobody");
    review(ACCOUNT).difference(&everybody).cloned().collect()
}

fn rules(rules: &Value) -> BTreeSet<(String, String)> {
    let texts = |rule: &Value, name: &str| -> Vec<String> {
        let texts = rule[name].as_array().into_iter().flatten();
        texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules.as_array().expect("rules") {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let (plural, sub) = resource.split_once('/').unwrap_or((&resource, ""));
                let dot = if group.is_empty() { "" } else { "." };
                let slash = if sub.is_empty() { "" } else { "/" };
                let mut resource = format!("{plural}{dot}{group}{slash}{sub}");
                let names = texts(rule, "resourceNames");
                if !names.is_empty() {
                    resource = format!("{resource} {}", names.join(","));
                }
                all.extend(texts(rule, "verbs").into_iter().map(|verb| (verb, resource.clone())));
            }
        }
    }
    all
}

#[test]
fn the_chart_never_touches_a_definition_that_is_there() {
    let cluster = Cluster::control();
    cluster.install_gateway_api("standard");
    let chart = manifests("charts/portcullis");
    let install = |release: &str, more: &[&str]| {
        let common = ["install", release, &chart, "-n", NAMESPACE, "--create-namespace"];
        cluster.helm(&[&common[..], more].concat());
    };
    let ours = || -> Vec<String> {
        let names = cluster.kubectl(&["get", "crd", "-o", "name"]);
        let ours = names.lines().filter(|name| !name.contains("networking.k8s.io"));
        ours.map(str::to_owned).collect()
    };
    install("portcullis", &[]);
    assert_eq!(ours(), Vec::<String>::new(), "no definition by default");
    cluster.helm(&["uninstall", "portcullis", "-n", NAMESPACE]);

    // Somebody else's, Envoy Gateway's say.
    let file = manifests("crds/securitypolicies.gateway.envoyproxy.io.yaml");
    cluster.kubectl(&["create", "-f", &file]);
    let name = "crd/securitypolicies.gateway.envoyproxy.io";
    cluster.kubectl(&["annotate", name, "theirs=yes"]);
    let version = || {
        cluster.kubectl(&[
            "get",
            name,
            "-o",
            "jsonpath={.metadata.uid} {.metadata.resourceVersion}",
        ])
    };
    let before = version();

    install("portcullis", &["--set", "crds.install=true"]);
    assert_eq!(ours().len(), 5, "those that were missing");
    cluster.helm(&[
        "upgrade",
        "portcullis",
        &chart,
        "-n",
        NAMESPACE,
        "--set",
        "crds.install=true",
    ]);
    assert_eq!(ours().len(), 5, "an upgrade deletes none");
    cluster.helm(&["upgrade", "portcullis", &chart, "-n", NAMESPACE]);
    assert_eq!(ours().len(), 5, "nor does one that no longer installs them");
    cluster.helm(&["uninstall", "portcullis", "-n", NAMESPACE]);
    assert_eq!(ours().len(), 5, "nor does uninstalling");
    assert_eq!(version(), before, "theirs is as it was");

    // Of two namespaces alone.
    install("portcullis", &["--set", "namespaces={default,kube-system}"]);
    let may = |namespace: &str| {
        let asked = ["auth", "can-i", "watch", "secrets", "--as", ACCOUNT, "-n", namespace];
        cluster.try_kubectl(&asked).status.success()
    };
    assert!(may("default") && may("kube-system"));
    assert!(!may(NAMESPACE) && !may("kube-public"));
    let asked = ["auth", "can-i", "watch", "services", "--as", ACCOUNT, "-n", NAMESPACE];
    assert!(cluster.try_kubectl(&asked).status.success(), "its Envoys' are there");
}

/// The bootstrap of the chart is the one that `render` prints, apart from the way to the controller; Envoy takes it and tells a
/// stranger of its state and of nothing else.
#[test]
fn the_charts_bootstrap_is_ours() {
    let scratch = Scratch::new();
    let helm = cluster::built("bin/helm");
    let output = Command::new(helm)
        .args([
            "template",
            "public",
            &manifests("charts/portcullis-envoy"),
            "-n",
            NAMESPACE,
        ])
        .args(["--set", "gateway.namespace=edge,gateway.name=public"])
        .env("HOME", scratch.path())
        .output()
        .expect("Helm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects = by_name(documents(&String::from_utf8_lossy(&output.stdout)));
    let data = objects["\"ConfigMap\" \"public\""]["data"].as_object().expect("data");

    let folder = scratch.path().to_str().expect("the path is a text");
    for (name, text) in data {
        let text = text.as_str().expect("a text");
        let text = text.replace("/etc/envoy", folder).replace("/run/portcullis", folder);
        scratch.write(name, &text.replace("/xds", &format!("{folder}/xds")));
    }
    let certificate = Certificate::new(&scratch, "controller", &["controller"]);
    scratch.write("xds/tls.crt", &certificate.certificate);
    scratch.write("xds/tls.key", &certificate.key);
    scratch.write("xds/ca.crt", &certificate.certificate);
    let file = scratch.join("bootstrap.yaml");
    let output = Command::new(artefacts::envoy())
        .args([
            "--mode",
            "validate",
            "--disable-hot-restart",
            "--service-node",
            "envoy",
            "-c",
        ])
        .arg(&file)
        .output()
        .expect("Envoy runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    a_stranger_learns_the_state_alone(&scratch, &fs::read_to_string(file).expect("it was written"));

    let chart: Value = serde_saphyr::from_str(data["bootstrap.yaml"].as_str().expect("a text")).expect("YAML");
    let place = Place::new(&scratch, &artefacts::root().join("manifests/examples/quickstart"));
    let rendered = place.bootstrap();
    for part in ["dynamic_resources", "layered_runtime", "stats_config"] {
        assert_eq!(chart[part], rendered[part], "{part}");
    }
    assert_eq!(chart["node"]["cluster"], rendered["node"]["cluster"]);
    let declared = |bootstrap: &Value, name: &str| bootstrap["node"]["metadata"]["portcullis"][name].clone();
    for name in ["version", "documents"] {
        assert_eq!(declared(&chart, name), declared(&rendered, name), "{name}");
    }
    let keepalive = |bootstrap: &Value| {
        let clusters = bootstrap["static_resources"]["clusters"]
            .as_array()
            .expect("clusters")
            .clone();
        let xds = clusters
            .into_iter()
            .find(|cluster| cluster["name"] == "xds")
            .expect("xds");
        xds["typed_extension_protocol_options"].clone()
    };
    assert_eq!(keepalive(&chart), keepalive(&rendered));
    let version = fs::read_to_string(manifests("charts/portcullis-envoy/Chart.yaml")).expect("the chart is there");
    for line in ["version", "appVersion"] {
        let line = format!("{line}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(version.contains(&line), "{line}");
    }
}

/// Envoy opens its listeners after the first configuration: here there is none to wait for.
fn a_stranger_learns_the_state_alone(scratch: &Scratch, bootstrap: &str) {
    let mut bootstrap: Value = serde_saphyr::from_str(bootstrap).expect("YAML");
    bootstrap["dynamic_resources"] = json!({});
    let port = controller::free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port.into();
    let file = scratch.write("alone.json", &bootstrap.to_string());
    let mut command = Command::new(artefacts::envoy());
    command
        .args([
            "--disable-hot-restart",
            "--concurrency",
            "2",
            "--service-node",
            "envoy",
            "-c",
        ])
        .arg(file);
    let _envoy = Spawned::start(command, &scratch.join("alone"));
    wait::until("Envoy listens", PATIENCE, || TcpStream::connect(address).ok());
    let status = |path: &str| {
        let url = format!("http://{address}{path}");
        let arguments = [
            "--silent",
            "--path-as-is",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            &url,
        ];
        let output = Command::new("curl").args(arguments).output().expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(status("/ready"), "200");
    assert_eq!(status("/stats/prometheus"), "200");
    for path in [
        "/config_dump",
        "/quitquitquit",
        "/",
        "/ready/../config_dump",
        "/stats",
        "/ready/",
        "//config_dump",
    ] {
        assert_eq!(status(path), "404", "{path}");
    }
}
