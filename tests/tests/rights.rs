//! Every right that the controller is given is one that it needs: without it, it says what it cannot do.

use std::{collections::BTreeSet, fs, path::PathBuf};

use portcullis_e2e::{
    artefacts,
    cluster::{Cluster, PATIENCE},
    replica::Replica,
    scratch::Scratch,
    wait,
};
use serde_json::Value;

const NAMESPACE: &str = "portcullis-system";

/// Policies are asked for by name only where their watch is late.
const BY_NAME: [&str; 4] = [
    "accesspolicies",
    "backendtlspolicies",
    "clienttrafficpolicies",
    "securitypolicies",
];

/// Of the role in the controller's own namespace, what needs a scene of its own to be missed.
const OWN: [(&str, &str); 7] = [
    ("update", "secrets"),
    ("get", "secrets"),
    ("list", "secrets"),
    ("list", "services"),
    ("watch", "services"),
    ("patch", "leases"),
    // For credentials of Gateways that went an hour ago, which no test waits for: `installation.rs` asks for it.
    ("delete", "secrets"),
];

/// One object of each kind that has a status, and references to a Secret and to a ConfigMap.
const OBJECTS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: default}
spec:
  gatewayClassName: portcullis
  allowedListeners: {namespaces: {from: Same}}
  listeners: [{name: http, protocol: HTTP, port: 10080}, {name: tcp, protocol: TCP, port: 10090}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: default}
spec:
  parentRef: {name: public}
  listeners: [{name: http, protocol: HTTP, port: 10081}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: echo, namespace: default}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: 9}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: echo, namespace: default}
spec:
  targetRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: echo}]
  validation: {hostname: echo.example.com, wellKnownCACertificates: System}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: default}
spec:
  parentRefs: [{name: public}]
  rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: echo}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: default}
spec: {parentRefs: [{name: public, sectionName: http}], hostnames: [calls.example.com], rules: [{}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: database, namespace: default}
spec:
  parentRefs: [{name: public, sectionName: tcp}]
  rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: echo}]}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: public, namespace: default}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: public}]
  clientIPDetection: {xForwardedFor: {numTrustedHops: 1}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: default}
stringData: {alice: a-key}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: issuer, namespace: default}
data: {jwks: '{"keys": []}'}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: orders, namespace: default}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-key]}]}
---
apiVersion: portcullis.dev/v1alpha1
kind: AccessPolicy
metadata: {name: calls, namespace: default}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: GRPCRoute, name: calls}]
  jwt:
    providers:
      - name: idp
        issuer: https://idp.example.com
        localJWKS: {type: ValueRef, valueRef: {group: "", kind: ConfigMap, name: issuer}}
"#;

/// A right: the role, the verb and the resource.
type Right = (String, String, String);

fn roles() -> Vec<Value> {
    let path = artefacts::root().join("manifests/controller/rbac.yaml");
    let text = fs::read_to_string(path).expect("the roles");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    objects
        .into_iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")))
        .collect()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// What a role is called here: two have the same name.
fn role_name(role: &Value) -> &'static str {
    match (role["kind"].as_str(), role["metadata"]["name"].as_str()) {
        (Some("Role"), Some("portcullis")) => "portcullis",
        (Some("ClusterRole"), Some("portcullis")) => "portcullis-cluster",
        (Some("ClusterRole"), Some("portcullis-namespaced")) => "portcullis-namespaced",
        other => panic!("{other:?} is no role that is known here"),
    }
}

fn rights() -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for role in roles() {
        let name = role_name(&role);
        for rule in role["rules"].as_array().expect("rules") {
            for resource in texts(&rule["resources"]) {
                let of = texts(&rule["verbs"]).into_iter();
                rights.extend(of.map(|verb| (name.to_owned(), verb, resource.clone())));
            }
        }
    }
    rights
}

/// A cluster with everything installed, and how the controller's account speaks to it.
struct Scene {
    cluster: Cluster,
    scratch: Scratch,
}

impl Scene {
    fn start() -> Self {
        let cluster = Cluster::control();
        cluster.install_gateway_api("experimental");
        cluster.install_ours();
        for file in ["namespace", "gateway-class", "rbac"] {
            let path = artefacts::root().join(format!("manifests/controller/{file}.yaml"));
            cluster.kubectl(&["apply", "-f", path.to_str().expect("the path is a text")]);
        }
        cluster.apply(OBJECTS);
        Self {
            cluster,
            scratch: Scratch::new(),
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        let token = self
            .cluster
            .kubectl(&["create", "token", "portcullis", "-n", NAMESPACE]);
        let text = self.cluster.kubectl(&["config", "view", "--raw", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        config["users"][0]["user"] = serde_json::json!({"token": token.trim()});
        config["contexts"][0]["context"]["namespace"] = NAMESPACE.into();
        self.scratch.write("kubeconfig", &config.to_string())
    }

    /// Takes verbs out of roles.
    fn restrict(&self, taken: impl Fn(&str, &str, &str) -> bool) {
        for mut role in roles() {
            let name = role_name(&role);
            let mut rules = Vec::new();
            for rule in role["rules"].as_array().expect("rules") {
                for resource in texts(&rule["resources"]) {
                    let verbs = texts(&rule["verbs"]);
                    let verbs: Vec<String> = verbs.into_iter().filter(|verb| !taken(name, verb, &resource)).collect();
                    if !verbs.is_empty() {
                        let mut rule = rule.clone();
                        rule["resources"] = vec![resource].into();
                        rule["verbs"] = verbs.into();
                        rules.push(rule);
                    }
                }
            }
            role["rules"] = rules.into();
            let output = self.cluster.kubectl_with(&["replace", "-f", "-"], &role.to_string());
            assert!(output.status.success(), "{output:?}");
        }
    }

    /// Waits until a new controller has said of each right that it lacks it.
    fn misses(&self, wanted: &BTreeSet<Right>) {
        let replica = Replica::start_as(&self.cluster, &self.kubeconfig(), &[]);
        let mut left: Vec<&Right> = wanted.iter().collect();
        let deadline = std::time::Instant::now() + PATIENCE / 2;
        while !left.is_empty() && std::time::Instant::now() < deadline {
            let output = replica.output();
            left.retain(|(_, verb, resource)| !output.contains(&format!("cannot {verb} resource \"{resource}\"")));
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(left.is_empty(), "nobody misses {left:?}\n{}", replica.output());
    }
}

#[test]
fn every_right_is_missed() {
    let scene = Scene::start();
    let mut left = rights();
    let by_name = BY_NAME.map(|resource| ("portcullis-namespaced", "get", resource));
    let own = OWN.map(|(verb, resource)| ("portcullis", verb, resource));
    for (role, verb, resource) in by_name.into_iter().chain(own) {
        let unseen = (role.to_owned(), verb.to_owned(), resource.to_owned());
        assert!(left.remove(&unseen), "{unseen:?} is no right");
    }
    // With all rights nothing is missed, and everything is done.
    scene.restrict(|_, _, _| false);
    let replica = Replica::start_as(&scene.cluster, &scene.kubeconfig(), &[]);
    wait::until("the policy's status is written", PATIENCE, || {
        let status = scene
            .cluster
            .kubectl(&["get", "accesspolicy", "calls", "-o", "jsonpath={.status}"]);
        status.contains("Accepted").then_some(())
    });
    assert!(!replica.output().contains("cannot "), "{}", replica.output());
    drop(replica);
    scene
        .cluster
        .kubectl(&["delete", "secret,lease", "--all", "-n", NAMESPACE]);
    // Statuses that are there are not written again.
    for object in ["accesspolicy/calls", "httproute/orders"] {
        scene.cluster.kubectl(&["label", object, "again=yes"]);
    }

    let verbs = ["list", "watch", "patch", "get", "create", "update"];
    for verb in verbs {
        let (taken, rest): (BTreeSet<Right>, BTreeSet<Right>) = left.into_iter().partition(|right| right.1 == verb);
        left = rest;
        // Of what stands in the way of everything else, one after the other.
        let (first, others): (BTreeSet<Right>, BTreeSet<Right>) =
            taken.into_iter().partition(|right| right.0 == "portcullis");
        for wanted in first
            .iter()
            .map(|right| BTreeSet::from([right.clone()]))
            .chain([others])
        {
            if wanted.is_empty() {
                continue;
            }
            println!("without {wanted:?}");
            let is_taken = |role: &str, verb: &str, resource: &str| {
                wanted.contains(&(role.to_owned(), verb.to_owned(), resource.to_owned()))
            };
            scene
                .cluster
                .kubectl(&["delete", "secret,lease", "--all", "-n", NAMESPACE]);
            if verb == "patch" {
                again(&scene.cluster);
            }
            scene.restrict(is_taken);
            scene.misses(&wanted);
        }
    }
    assert!(left.is_empty(), "rights without a test: {left:?}");
    policies_are_asked_for_by_name(&scene);
    credentials_are_made_anew(&scene);
    reports_are_written(&scene);
    its_own_namespace_is_none_of_those_it_is_given(&scene);
}

/// A route comes with a policy that its watch does not bring.
fn policies_are_asked_for_by_name(scene: &Scene) {
    for resource in BY_NAME {
        println!("without get of {resource}");
        scene.restrict(|_, verb, of| of == resource && matches!(verb, "get" | "watch"));
        let mut replica = Replica::start_as(&scene.cluster, &scene.kubeconfig(), &[]);
        replica.until_ready();
        let all: Vec<Value> = serde_saphyr::from_multiple(OBJECTS).expect("YAML");
        let plural = |object: &Value| match object["kind"].as_str() {
            Some("AccessPolicy") => "accesspolicies",
            Some("BackendTLSPolicy") => "backendtlspolicies",
            Some("ClientTrafficPolicy") => "clienttrafficpolicies",
            Some("SecurityPolicy") => "securitypolicies",
            _ => "",
        };
        let mut policy = all
            .iter()
            .find(|object| plural(object) == resource)
            .expect("a policy")
            .clone();
        policy["metadata"]["name"] = "late".into();
        let mut route = all
            .iter()
            .find(|object| object["kind"] == "HTTPRoute")
            .expect("a route")
            .clone();
        route["metadata"]["name"] = format!("with-{resource}").into();
        scene.cluster.apply(&format!("{policy}\n---\n{route}\n"));
        says(&replica, "get", resource);
        scene.cluster.kubectl(&["delete", resource, "late", "-n", "default"]);
    }
}

/// The credentials of a Gateway's proxies are no longer what they were.
fn credentials_are_made_anew(scene: &Scene) {
    let cluster = &scene.cluster;
    let name = "portcullis-xds.default.public";
    cluster.kubectl(&["delete", "secret", name, "-n", NAMESPACE, "--ignore-not-found"]);
    cluster.kubectl(&[
        "create",
        "secret",
        "generic",
        name,
        "-n",
        NAMESPACE,
        "--from-literal=tls.crt=nothing",
    ]);
    scene.restrict(|role, verb, of| (role, verb, of) == ("portcullis", "update", "secrets"));
    let replica = Replica::start_as(cluster, &scene.kubeconfig(), &[]);
    says(&replica, "update", "secrets");
}

/// A replica has Envoys to report of.
fn reports_are_written(scene: &Scene) {
    scene.restrict(|role, verb, of| (role, verb, of) == ("portcullis", "patch", "leases"));
    let mut replica = Replica::start_as(&scene.cluster, &scene.kubeconfig(), &[]);
    replica.until_ready();
    let class = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---";
    let _envoy = replica.envoy(&format!("{class}{OBJECTS}"), |_| ());
    says(&replica, "patch", "leases");
}

/// Where its rights are those of some namespaces, its own is not one of them.
fn its_own_namespace_is_none_of_those_it_is_given(scene: &Scene) {
    let cluster = &scene.cluster;
    cluster.kubectl(&["delete", "clusterrolebinding", "portcullis-namespaced"]);
    cluster.apply(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: portcullis-namespaced, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: portcullis-namespaced}
subjects: [{kind: ServiceAccount, name: portcullis, namespace: portcullis-system}]
",
    );
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("list", "services"),
        ("watch", "services"),
    ] {
        scene.restrict(|role, of_verb, of| (role, of_verb, of) == ("portcullis", verb, resource));
        let replica = Replica::start_as(cluster, &scene.kubeconfig(), &["--namespace", "default"]);
        says(&replica, verb, resource);
    }
}

/// Waits until the controller says that it lacks a right.
fn says(replica: &Replica, verb: &str, resource: &str) {
    let wanted = format!("cannot {verb} resource \"{resource}\"");
    let deadline = std::time::Instant::now() + PATIENCE / 2;
    while !replica.output().contains(&wanted) {
        assert!(
            std::time::Instant::now() < deadline,
            "{wanted}: not said\n{}",
            replica.output()
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Makes every object anew, without a status.
fn again(cluster: &Cluster) {
    let output = cluster.kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], OBJECTS);
    assert!(output.status.success(), "{output:?}");
    cluster.kubectl(&["delete", "gatewayclass", "portcullis"]);
    let path = artefacts::root().join("manifests/controller/gateway-class.yaml");
    cluster.kubectl(&["apply", "-f", path.to_str().expect("the path is a text")]);
    cluster.apply(OBJECTS);
}
