//! Arbitrary text never panics and never costs another file an object.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot unwrap is a failed test")]

use portcullis_manifest::load;
use proptest::prelude::*;

const INTACT: &str = "\
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: intact, namespace: intact}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: intact}]
  authorization: {rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.0/8]}}]}
";

fn keeps_the_intact_neighbour(text: &str) -> Result<(), TestCaseError> {
    let files = [
        ("a.yaml".to_owned(), text.to_owned()),
        ("b.yaml".to_owned(), INTACT.to_owned()),
        ("c.yaml".to_owned(), text.to_owned()),
    ];
    let loaded = load(&files);
    let intact = loaded
        .snapshot
        .security_policies
        .iter()
        .filter(|policy| policy.metadata.name.as_deref() == Some("intact"))
        .count();
    prop_assert_eq!(intact, 1);
    for diagnostic in &loaded.diagnostics {
        let place = diagnostic.place.as_ref().unwrap();
        prop_assert_ne!(place.file.as_str(), "b.yaml");
        prop_assert!(place.line >= 1 && place.column >= 1);
        prop_assert!(!diagnostic.to_string().contains('\n'), "{}", diagnostic);
    }
    Ok(())
}

/// Pieces of which manifests are made, right and wrong.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            "apiVersion: gateway.envoyproxy.io/v1alpha1\n", "apiVersion: gateway.networking.k8s.io/v1\n", "apiVersion: v1\n",
            "apiVersion: portcullis.dev/v1alpha1\n", "kind: AccessPolicy\n", "  baseline: true\n", "  shadow: true\n", "  anyOf: [basicAuth]\n",
            "kind: SecurityPolicy\n", "kind: HTTPRoute\n", "kind: Gateway\n", "kind: Secret\n", "kind: List\n", "kind: Backend\n",
            "metadata:\n", "  name: x\n", "  namespace: y\n", "spec:\n", "  targetRefs:\n", "  targetRef:\n",
            "  - group: gateway.networking.k8s.io\n", "    kind: HTTPRoute\n", "    name: x\n",
            "  cors:\n", "    allowOrigins:\n", "    - https://a.example.com\n", "  authorization:\n", "    rules:\n",
            "    - action: Allow\n", "      principal:\n", "        clientCIDRs: [10.0.0/8]\n", "  endpoints:\n", "items:\n",
            "- apiVersion: v1\n", "  kind: Secret\n", "data:\n", "stringData:\n", "  a: YQ==\n", "  <<: *a\n", "  b: &a {c: d}\n",
            "---\n", "...\n", "null\n", "[]\n", "{}\n", "- ", "? ", ": ", "\t", "  ", "&a ", "*a ", "!!str ", "|\n", ">-\n", "\"", "'", "{", "}", "[", "]", ",", "#", "%YAML 1.2\n",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
        1 => any::<i64>().prop_map(|number| number.to_string()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        keeps_the_intact_neighbour(&text)?;
    }

    #[test]
    fn pieces_of_manifests(pieces in prop::collection::vec(piece(), 0..40)) {
        keeps_the_intact_neighbour(&pieces.concat())?;
    }

    /// A manifest with one byte range replaced.
    #[test]
    fn a_damaged_manifest(start in 0..400_usize, length in 0..12_usize, new in "\\PC{0,6}") {
        let whole = INTACT.replace("intact", "damaged");
        let mut text: Vec<char> = whole.chars().collect();
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, new.chars());
        keeps_the_intact_neighbour(&text.into_iter().collect::<String>())?;
    }
}
