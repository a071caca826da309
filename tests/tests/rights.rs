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

/// Rights that no test can show to be missing, and why.
const UNSEEN: [(&str, &str, &str); 11] = [
    // Asked for by name only where their watch is late by half a second.
    ("portcullis-namespaced", "get", "accesspolicies"),
    ("portcullis-namespaced", "get", "backendtlspolicies"),
    ("portcullis-namespaced", "get", "clienttrafficpolicies"),
    ("portcullis-namespaced", "get", "securitypolicies"),
    // For credentials that are over in days, and those of Gateways that went hours ago.
    ("portcullis", "update", "secrets"),
    ("portcullis", "delete", "secrets"),
    // Given by the other role too, unless the controller is one of some namespaces.
    ("portcullis", "get", "secrets"),
    ("portcullis", "list", "secrets"),
    ("portcullis", "list", "services"),
    ("portcullis", "watch", "services"),
    // What a replica reports that has Envoys.
    ("portcullis", "patch", "leases"),
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

fn rights() -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for role in roles() {
        let name = match role["kind"].as_str() {
            Some("Role") => "portcullis".to_owned(),
            _ if role["metadata"]["name"] == "portcullis" => "portcullis-cluster".to_owned(),
            _ => role["metadata"]["name"].as_str().expect("a name").to_owned(),
        };
        for rule in role["rules"].as_array().expect("rules") {
            for resource in texts(&rule["resources"]) {
                let of = texts(&rule["verbs"]).into_iter();
                rights.extend(of.map(|verb| (name.clone(), verb, resource.clone())));
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
            let name = match role["kind"].as_str() {
                Some("Role") => "portcullis",
                _ if role["metadata"]["name"] == "portcullis" => "portcullis-cluster",
                _ => "portcullis-namespaced",
            };
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
        let replica = Replica::start_as(&self.cluster, &self.kubeconfig());
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
    for (role, verb, resource) in UNSEEN {
        let unseen = (role.to_owned(), verb.to_owned(), resource.to_owned());
        assert!(left.remove(&unseen), "{unseen:?} is no right");
    }
    // With all rights nothing is missed, and everything is done.
    scene.restrict(|_, _, _| false);
    let replica = Replica::start_as(&scene.cluster, &scene.kubeconfig());
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
