//! Which objects are read, and how.

use portcullis_attachment::object::ObjectRef;

use crate::{POLICY, ROUTE, file, files, lines};

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
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca, namespace: shop}}
data: {{ca.crt: text}}
binaryData: {{a: a2V5}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: more, namespace: shop}}
spec:
  parentRef: {{name: public, namespace: edge}}
  listeners: [{{name: http, port: 81, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: tls, namespace: shop}}
spec:
  targetRefs: [{{group: '', kind: Service, name: orders}}]
  validation: {{hostname: orders.example.com, wellKnownCACertificates: System}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: clients, namespace: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: public}}]
  clientIPDetection: {{customHeader: {{name: CF-Connecting-IP}}}}
  timeout: {{http: {{requestReceivedTimeout: 5s}}}}
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
        snapshot.config_maps.len(),
        snapshot.listener_sets.len(),
        snapshot.backend_tls_policies.len(),
        snapshot.client_traffic_policies.len(),
    ];
    assert_eq!(counts, [1; 14]);
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
    // Which of the two files is the right one cannot be told here.
    assert_eq!(loaded.failed_files().collect::<Vec<_>>(), ["a.yaml", "b.yaml"]);
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
        ("v1", "ServiceAccount"),
        ("apps/v1", "Deployment"),
        ("gateway.networking.k8s.io/v1", "TLSRoute"),
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
        ("portcullis.dev/v1alpha1", "AccesPolicy"),
        ("v1", "Secrets"),
    ] {
        assert_eq!(code(api_version, kind), ("unknown-kind", "error"), "{kind}");
    }
    for (api_version, kind) in [
        ("gateway.envoyproxy.io/v1", "SecurityPolicy"),
        ("gateway.envoyproxy.io/v1alpha2", "SecurityPolicy"),
        ("gateway.envoyproxies.io/v1alpha1", "SecurityPolicy"),
        ("v1", "SecurityPolicy"),
        ("portcullis.dev/v1alpha1", "SecurityPolicy"),
        ("gateway.envoyproxy.io/v1alpha1", "AccessPolicy"),
        ("portcullis.dev/v1", "AccessPolicy"),
        ("portculis.dev/v1alpha1", "AccessPolicy"),
    ] {
        assert_eq!(
            code(api_version, kind),
            ("unsupported-version", "error"),
            "{api_version}"
        );
    }
}

/// An API server would prune it; one that is asked to be strict refuses it.
#[test]
fn an_object_without_fields_takes_none() {
    let policy = |detection: &str| {
        format!(
            "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: addresses, namespace: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: public}}]
  clientIPDetection: {{directSourceIP: {detection}}}
"
        )
    };
    assert_eq!(lines(&file(&policy("{}"))), Vec::<String>::new());
    let refused = lines(&file(&policy("{trusted: true}")));
    let [line] = &refused[..] else {
        panic!("{refused:?}");
    };
    let named = "error[unknown-field] ClientTrafficPolicy edge/addresses spec.clientIPDetection.directSourceIP.trusted";
    assert!(line.contains(named), "{line}");
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
fn a_tcp_route_is_read_in_each_of_its_versions() {
    let route = |version: &str, more: &str| {
        file(&format!(
            "\
apiVersion: gateway.networking.k8s.io/{version}
kind: TCPRoute
metadata: {{name: db, namespace: shop}}
spec:
  parentRefs: [{{name: public, sectionName: db}}]
  rules: [{{backendRefs: [{{name: db, port: 5432}}]}}]
{more}"
        ))
    };
    for version in ["v1", "v1alpha2", "v1alpha3"] {
        let loaded = route(version, "");
        assert_eq!(lines(&loaded), Vec::<String>::new(), "{version}");
        assert_eq!(loaded.snapshot.tcp_routes.len(), 1, "{version}");
    }
    for (version, more) in [
        ("v1beta1", ""),
        ("v1", "  useDefaultGateways: All\n"),
        ("v1", "  hostnames: [a.example.com]\n"),
    ] {
        let loaded = route(version, more);
        assert_eq!(lines(&loaded).len(), 1, "{version} {more}");
        assert_eq!(loaded.snapshot.tcp_routes.len(), 0, "{version} {more}");
    }
}
