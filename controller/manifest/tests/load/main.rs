//! What a set of files becomes.

mod bombs;
mod kinds;
mod places;
mod policies;
mod secrets;

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
