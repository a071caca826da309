//! What a set of files becomes.

use portcullis_attachment::object::ObjectRef;
use portcullis_manifest::{Loaded, load};

fn files(files: &[(&str, &str)]) -> Loaded {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    load(&files)
}

fn file(text: &str) -> Loaded {
    files(&[("a.yaml", text)])
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders, namespace: shop}
spec:
  parentRefs:
  - name: public
    namespace: edge
  rules:
  - matches:
    - path: {type: PathPrefix, value: /orders}
    backendRefs:
    - {name: orders, port: 80}
";

const POLICY: &str = "\
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}
";

#[test]
fn every_kind_is_read() {
    let loaded = file(&format!(
        "{ROUTE}---\n{POLICY}---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: portcullis}}
spec: {{controllerName: portcullis.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: edge}}
spec:
  gatewayClassName: portcullis
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: grant, namespace: shop}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: edge}}]
  to: [{{group: '', kind: Service}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: echo, namespace: shop}}
spec: {{endpoints: [{{fqdn: {{hostname: echo.example.com, port: 443}}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: orders, namespace: shop}}
spec: {{ports: [{{port: 80, targetPort: web}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: orders-1, namespace: shop, labels: {{kubernetes.io/service-name: orders}}}}
addressType: IPv4
ports: [{{name: '', port: 8080}}]
endpoints: [{{addresses: [10.0.0.1]}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: shop}}
data: {{alice: a2V5}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{team: sales}}}}
"
    ));
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let snapshot = &loaded.snapshot;
    let counts = [
        snapshot.gateway_classes.len(),
        snapshot.gateways.len(),
        snapshot.http_routes.len(),
        snapshot.reference_grants.len(),
        snapshot.security_policies.len(),
        snapshot.backends.len(),
        snapshot.services.len(),
        snapshot.endpoint_slices.len(),
        snapshot.secrets.len(),
        snapshot.namespaces.len(),
    ];
    assert_eq!(counts, [1; 10]);
}

#[test]
fn objects_come_alone_in_lists_and_as_json() {
    let json = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "json"},
	"stringData": {"a": "b"}}"#;
    let list = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: one}}
- apiVersion: v1
  kind: SecretList
  items:
  - {apiVersion: v1, kind: Secret, metadata: {name: two}}
";
    let loaded = files(&[("a.json", json), ("b.yaml", list)]);
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let mut names: Vec<_> = loaded
        .snapshot
        .secrets
        .iter()
        .map(|secret| secret.metadata.name.as_deref().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["json", "one", "two"]);
}

#[test]
fn string_data_is_folded_into_data_and_wins() {
    let loaded = file(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata:\n  alice: b2xk\n  bob: |\n    b2xk\n    ZXI=\nstringData: {alice: new}\n",
    );
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let secret = &loaded.snapshot.secrets[0];
    let data = secret.data.as_ref().unwrap();
    assert_eq!(data["alice"].0, b"new");
    assert_eq!(data["bob"].0, b"older");
    assert!(secret.string_data.is_none());
}

#[test]
fn a_namespace_that_is_not_named_is_default() {
    let loaded = file("apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n");
    assert_eq!(
        loaded.snapshot.secrets[0].metadata.namespace.as_deref(),
        Some("default")
    );
    assert!(
        loaded
            .locate(&ObjectRef::new("Secret", "default", "keys"), "")
            .is_some()
    );
    let loaded = file("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    assert_eq!(loaded.snapshot.namespaces[0].metadata.namespace, None);
}

#[test]
fn defaults_are_filled_in_as_by_an_api_server() {
    let loaded = file(
        "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: p}
spec:
  targetSelectors: [{kind: HTTPRoute}]
  apiKeyAuth:
    credentialRefs: [{name: keys}]
    extractFrom: [{headers: [x-api-key]}]
  extAuth: {grpc: {backendRefs: [{name: auth, port: 9000}]}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: b}
spec: {endpoints: [{ip: {address: 10.0.0.1, port: 80}}]}
",
    );
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let spec = &loaded.snapshot.security_policies[0].spec;
    assert_eq!(spec.target_selectors[0].group, "gateway.networking.k8s.io");
    assert_eq!(spec.api_key_auth.as_ref().unwrap().credential_refs[0].kind, "Secret");
    let ext_auth = spec.ext_auth.as_ref().unwrap();
    assert_eq!(ext_auth.fail_open, Some(false));
    assert_eq!(ext_auth.grpc.as_ref().unwrap().backend_refs[0].weight, 1);
}

#[test]
fn every_served_version_is_the_same_object() {
    let old = ROUTE.replace("k8s.io/v1", "k8s.io/v1beta1");
    assert_eq!(lines(&file(&old)), Vec::<String>::new());
    let loaded = files(&[("a.yaml", ROUTE), ("b.yaml", &old)]);
    assert_eq!(
        lines(&loaded),
        [
            "b.yaml:3:18 error[duplicate-object] HTTPRoute shop/orders metadata.name: is also at a.yaml:3; \
             remove one of the two, or give it another name"
        ]
    );
    assert_eq!(loaded.snapshot.http_routes.len(), 1);
    let loaded = file(&ROUTE.replace("k8s.io/v1", "k8s.io/v1alpha2"));
    assert_eq!(
        lines(&loaded),
        [
            "a.yaml:1:13 error[unsupported-version] HTTPRoute shop/orders apiVersion: \
             HTTPRoute has no version \"v1alpha2\" here; write \"gateway.networking.k8s.io/v1\""
        ]
    );
}

#[test]
fn a_kind_that_is_not_read_is_named_and_a_misspelt_one_is_an_error() {
    let code = |api_version: &str, kind: &str| {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\n");
        let loaded = file(&text);
        let diagnostic = loaded.diagnostics.first().unwrap();
        (diagnostic.code, diagnostic.level())
    };
    for (api_version, kind) in [
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("gateway.networking.k8s.io/v1", "GRPCRoute"),
        ("gateway.networking.k8s.io/v1", "TLSRoute"),
        ("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy"),
        ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy"),
        ("networking.istio.io/v1", "Gateway"),
        ("serving.knative.dev/v1", "Service"),
    ] {
        assert_eq!(code(api_version, kind), ("kind-ignored", "warning"), "{kind}");
    }
    for (api_version, kind) in [
        ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicies"),
        ("gateway.envoyproxy.io/v1alpha1", "securitypolicy"),
        ("gateway.networking.k8s.io/v1", "HttpRoute"),
        ("v1", "Secrets"),
    ] {
        assert_eq!(code(api_version, kind), ("unknown-kind", "error"), "{kind}");
    }
    for (api_version, kind) in [
        ("gateway.envoyproxy.io/v1", "SecurityPolicy"),
        ("gateway.envoyproxy.io/v1alpha2", "SecurityPolicy"),
        ("gateway.envoyproxies.io/v1alpha1", "SecurityPolicy"),
        ("v1", "SecurityPolicy"),
    ] {
        assert_eq!(
            code(api_version, kind),
            ("unsupported-version", "error"),
            "{api_version}"
        );
    }
}

#[test]
fn a_policy_at_fault_is_kept_for_refusing_what_it_targets() {
    for (fault, group, kind, name, section) in [
        (
            "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]\n  cors: {allowOrigin: []}",
            "gateway.networking.k8s.io",
            "HTTPRoute",
            "orders",
            None,
        ),
        (
            "targetRefs: {group: gateway.networking.k8s.io, kind: Gateway, name: public, sectionName: http}",
            "gateway.networking.k8s.io",
            "Gateway",
            "public",
            Some("http"),
        ),
        (
            "targetRfes: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]",
            "gateway.networking.k8s.io",
            "HTTPRoute",
            "orders",
            None,
        ),
        (
            "targetRef: {kind: HttpRoute, name: orders}",
            "gateway.networking.k8s.io",
            "HTTPRoute",
            "orders",
            None,
        ),
        (
            "targetRef: {group: gateway.networking.k8s.oi, kind: HTTPRoute, name: orders}",
            "gateway.networking.k8s.io",
            "HTTPRoute",
            "orders",
            None,
        ),
    ] {
        let text = format!(
            "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  {fault}\n"
        );
        let loaded = file(&text);
        assert!(!loaded.diagnostics.is_empty(), "{fault}");
        assert!(loaded.snapshot.security_policies.is_empty(), "{fault}");
        let broken = &loaded.snapshot.broken_policies[0];
        assert_eq!(broken.metadata.name.as_deref(), Some("p"));
        assert_eq!(broken.metadata.namespace.as_deref(), Some("shop"));
        assert!(!broken.message.is_empty());
        let target = broken.targets.first().unwrap_or_else(|| panic!("{fault}"));
        let found = (
            target.group.as_str(),
            target.kind.as_str(),
            target.name.as_str(),
            target.section_name.as_deref(),
        );
        assert_eq!(found, (group, kind, name, section), "{fault}");
    }
}

#[test]
fn of_a_policy_at_fault_the_selectors_count_too() {
    let loaded = file(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: p}\nspec:\n  targetSelectors:\n  - {kind: HTTPRoute, matchLabels: {team: sales}}\n  - {kind: Gateway, matchLabels: 3}\n  csrf: []\n",
    );
    let selectors = &loaded.snapshot.broken_policies[0].selectors;
    assert_eq!(selectors[0].match_labels["team"], "sales");
    assert_eq!(selectors[1].kind, "Gateway");
    assert!(selectors[1].match_labels.is_empty());
}

#[test]
fn of_a_policy_that_is_there_twice_neither_counts() {
    let other = POLICY
        .replace("name: orders}", "name: admin}")
        .replace("metadata: {name: admin}", "metadata: {name: orders}");
    let loaded = files(&[("a.yaml", POLICY), ("b.yaml", &other)]);
    assert!(loaded.snapshot.security_policies.is_empty());
    let broken = &loaded.snapshot.broken_policies;
    assert_eq!(broken.len(), 1);
    let names: Vec<_> = broken[0].targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["admin", "orders"]);
}

#[test]
fn a_place_is_found_or_the_one_around_it() {
    let loaded = file(&format!(
        "# first\n---\n{ROUTE}---\n{POLICY}  cors:\n    allowOrigins:\n    - https://a.example.com\n"
    ));
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let route = ObjectRef::new("HTTPRoute", "shop", "orders");
    let policy = ObjectRef::new("SecurityPolicy", "shop", "orders");
    for (object, path, place) in [
        (&route, "", (3, 1)),
        (&route, "spec", (6, 1)),
        (&route, "spec.parentRefs[0]", (8, 5)),
        (&route, "spec.parentRefs[0].namespace", (9, 16)),
        (&route, "spec.parentRefs[0].sectionName", (8, 5)),
        (&route, "spec.parentRefs[7].name", (7, 3)),
        (&route, "spec.rules[0].matches[0].path.value", (12, 39)),
        (&route, "spec.rules[0].backendRefs[0].port", (14, 28)),
        (&route, "status.parents", (3, 1)),
        (&policy, "spec.cors", (22, 3)),
        (&policy, "spec.cors.allowOrigins[0]", (24, 7)),
    ] {
        let found = loaded.locate(object, path).unwrap();
        assert_eq!((found.line, found.column), place, "{path}");
        assert_eq!(found.file, "a.yaml");
    }
    assert_eq!(loaded.locate(&ObjectRef::new("Gateway", "shop", "orders"), ""), None);
}

#[test]
fn a_bad_document_hides_neither_its_neighbours_nor_other_files() {
    let bad = format!("{ROUTE}---\nkind: [\n---\n{POLICY}");
    let loaded = files(&[
        ("a.yaml", &bad),
        ("b.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"),
    ]);
    assert_eq!(loaded.snapshot.http_routes.len(), 1);
    assert_eq!(loaded.snapshot.security_policies.len(), 1);
    assert_eq!(loaded.snapshot.secrets.len(), 1);
    assert_eq!(loaded.unreadable_files().collect::<Vec<_>>(), ["a.yaml"]);
    assert_eq!(loaded.failed_files().collect::<Vec<_>>(), ["a.yaml"]);
    assert_eq!(loaded.diagnostics[0].code, "yaml-syntax");
}

/// What `kubectl get -o yaml` and `kubectl create --dry-run -o yaml` write.
#[test]
fn objects_as_kubectl_writes_them_are_read() {
    let loaded = file(
        "apiVersion: v1
items:
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {\"apiVersion\":\"gateway.networking.k8s.io/v1\"}
    creationTimestamp: \"2026-11-25T12:00:00Z\"
    generation: 3
    managedFields:
    - apiVersion: gateway.networking.k8s.io/v1
      fieldsType: FieldsV1
      fieldsV1:
        f:metadata:
          f:annotations:
            .: {}
      manager: kubectl
      operation: Update
      time: \"2026-11-25T12:00:00Z\"
    name: orders
    namespace: shop
    resourceVersion: \"123\"
    uid: 0b2f9a86-0c3e-4a49-9f6e-3f9b0b0f7f11
  spec:
    rules:
    - backendRefs:
      - group: \"\"
        kind: Service
        name: orders
        port: 80
        weight: 1
      matches:
      - path:
          type: PathPrefix
          value: /
  status:
    parents:
    - conditions:
      - lastTransitionTime: \"2026-11-25T12:00:00Z\"
        message: \"\"
        observedGeneration: 3
        reason: Accepted
        status: \"True\"
        type: Accepted
      controllerName: portcullis.dev/gateway-controller
      parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: public}
- apiVersion: v1
  kind: Service
  metadata:
    creationTimestamp: null
    name: orders
  spec:
    clusterIP: 10.96.0.10
    ports:
    - {name: web, port: 80, protocol: TCP, targetPort: 8080}
    selector: null
  status:
    loadBalancer: {}
- apiVersion: gateway.envoyproxy.io/v1alpha1
  kind: Backend
  metadata:
    creationTimestamp: null
    name: echo
  spec:
    endpoints: [{ip: {address: 10.0.0.1, port: 80}}]
  status: {}
kind: List
metadata:
  resourceVersion: \"\"
",
    );
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let metadata = &loaded.snapshot.http_routes[0].metadata;
    assert!(metadata.creation_timestamp.is_some());
    assert_eq!(metadata.generation, Some(3));
    assert_eq!(loaded.snapshot.services.len(), 1);
    assert_eq!(loaded.snapshot.backends.len(), 1);
}

#[test]
fn a_warning_fails_no_file() {
    let loaded = file("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n");
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.failed_files().count(), 0);
}

#[test]
fn anchors_and_merge_keys_are_resolved_and_bounded() {
    let loaded = file(
        "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  endpoints:
  - ip: &first {address: 10.0.0.1, port: 80}
  - ip: *first
  - ip: {<<: *first, address: 10.0.0.2}
",
    );
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let endpoints = &loaded.snapshot.backends[0].spec.endpoints;
    assert_eq!(endpoints[1], endpoints[0]);
    let third = endpoints[2].ip.as_ref().unwrap();
    assert_eq!((third.address.as_str(), third.port), ("10.0.0.2", 80));

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [previous.as_str(); 10].join(", ")
        ));
    }
    assert_eq!(file(&bomb).diagnostics[0].code, "yaml-syntax");
    assert_eq!(file("a: &a [*a]\n").diagnostics[0].code, "yaml-syntax");
    assert_eq!(file(&"[".repeat(100_000)).diagnostics[0].code, "yaml-syntax");
    assert_eq!(file(&"- ".repeat(100_000)).diagnostics[0].code, "yaml-syntax");
}

/// A Secret's values appear nowhere, however wrong it is.
#[test]
fn no_secret_is_told() {
    const CANARY: &str = "c4n4ry-s3cr3t";
    let mut tails: Vec<String> = [
        "data: {a: CANARY}",
        "data: CANARY",
        "data: [CANARY]",
        "stringData: {a: [CANARY]}",
        "type: [CANARY]\nimmutable: CANARY",
        "stringData: {a: CANARY, a: CANARY}",
        "stringData: {a: \"CANARY",
        "stringData:\n  a: CANARY\n b: CANARY",
        "stringData:\n  a: CANARY\n  CANARY",
        "stringData:\n  a: |\n   CANARY\n  CANARY: b: CANARY",
    ]
    .map(str::to_owned)
    .to_vec();
    // Characters with a meaning in YAML, before, in and after a value that was not quoted.
    for c in "*&!%@`|>{}[]\"'#,?-:\\<=~^$ \t".chars() {
        tails.push(format!("stringData:\n  a: {c}CANARY"));
        tails.push(format!("stringData:\n  a: {c}CANARY: b"));
        tails.push(format!("stringData:\n  a: x{c}CANARY"));
        tails.push(format!("stringData:\n  a: x {c} CANARY"));
        tails.push(format!("stringData: {{a: {c}CANARY}}"));
        tails.push(format!("stringData:\n  a: \"{c}CANARY{c}"));
        tails.push(format!("stringData:\n  a: \"\\{c}CANARY\""));
        tails.push(format!("stringData:\n  a: b\n{c}CANARY"));
    }
    let mut told = 0;
    for kind in ["Secret", "Secrets"] {
        for tail in &tails {
            let text =
                format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\n{tail}\n").replace("CANARY", CANARY);
            for diagnostic in file(&text).diagnostics {
                told += 1;
                let line = diagnostic.to_string();
                assert!(!line.contains(CANARY), "{line} of\n{text}");
            }
        }
    }
    assert!(told > 100, "only {told} diagnostics were looked at");
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let loaded = file("apiVersion: \"v1\\e[31m\"\nkind: \"A\\e[31mB\"\nmetadata: {name: \"x\\a\\nb\"}\n");
    let line = loaded.diagnostics[0].to_string();
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(line.contains("\\u{1b}[31m"), "{line}");
}
