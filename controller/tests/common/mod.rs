//! Manifests to serve, and the program under test.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test that they are called from"
)]

use std::{fs, path::Path};

/// The program under test.
pub(crate) const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

/// A Gateway on `port` with one route, and a policy whose one rule admits `cidr`.
pub(crate) fn manifests(port: u16, cidr: &str) -> String {
    format!(
        r#"apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: portcullis}}
spec: {{controllerName: portcullis.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: edge}}
spec:
  gatewayClassName: portcullis
  listeners:
  - {{name: http, protocol: HTTP, port: {port}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: orders, namespace: edge}}
spec:
  parentRefs: [{{name: public}}]
  rules:
  - backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: echo}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: echo, namespace: edge}}
spec:
  endpoints: [{{ip: {{address: 127.0.0.1, port: 9}}}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: clients, namespace: edge}}
stringData:
  alice: canary-key-of-alice
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata:
  name: orders
  namespace: edge
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: HTTPRoute
    name: orders
  apiKeyAuth:
    credentialRefs: [{{name: clients}}]
    extractFrom: [{{headers: [x-api-key]}}]
  authorization:
    defaultAction: Deny
    rules:
    - name: office
      action: Allow
      principal:
        clientCIDRs:
        - "{cidr}"
"#
    )
}

/// Replaces text in a file, at once as an editor does.
pub(crate) fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    let new = path.with_extension("new");
    fs::write(&new, text.replace(from, to)).unwrap();
    fs::rename(new, path).unwrap();
}
