//! Policies at fault.

use crate::{POLICY, file, files};

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
