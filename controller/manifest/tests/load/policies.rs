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

/// An AccessPolicy with one target.
fn access(fields: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: public}}]\n{fields}"
    )
}

#[test]
fn an_access_policy_is_read_with_what_only_it_has() {
    let loaded = file(&access(
        "  basicAuth: {users: {name: users}}
  apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-api-key]}]}
  anyOf: [apiKeyAuth, basicAuth]
  baseline: true
  apiKeyExpiry: [{clientID: bob, notAfter: \"2027-01-31T00:00:00Z\"}]
",
    ));
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let spec = &loaded.snapshot.access_policies[0].spec;
    assert_eq!(spec.policy.target_refs[0].name, "public");
    assert_eq!(spec.policy.basic_auth.as_ref().unwrap().users.name, "users");
    assert_eq!(spec.extension.any_of.len(), 2);
    assert_eq!(spec.extension.baseline, Some(true));
    assert_eq!(spec.extension.api_key_expiry[0].client_id, "bob");
}

#[test]
fn an_access_policy_is_checked_like_a_security_policy_and_more() {
    const BASIC: &str = "  basicAuth: {users: {name: users}}\n";
    for (fields, expected) in [
        (
            "  anyOff: [apiKeyAuth, basicAuth]\n",
            "unknown-field: is not a field here; write \"anyOf\"",
        ),
        (
            "  autorization: {}\n",
            "unknown-field: is not a field here; write \"authorization\"",
        ),
        (
            "  base_line: true\n",
            "unknown-field: is not a field here; write \"baseline\"",
        ),
        (
            "  anyOf: [basicAuth, apiKeyAuth]\n",
            "invalid-combination: anyOf can only name methods that the policy has",
        ),
        (
            "  anyOf: [basicAuth, basicAuth]\n",
            "invalid-combination: anyOf must name each method once",
        ),
        ("  anyOf: [basicAuth]\n", "too-short: has 1 entry, fewer than 2"),
        (
            "  anyOf: [basicAuth, oidc]\n",
            "unknown-value: \"oidc\" is not one of the values",
        ),
        (
            "  apiKeyExpiry: [{clientID: bob, notAfter: \"2027-01-31T00:00:00Z\"}]\n",
            "invalid-combination: apiKeyExpiry can only be used with apiKeyAuth",
        ),
        (
            "  tokenRequirements: [{provider: corp, requireExpiration: true}]\n",
            "invalid-combination: tokenRequirements can only be used with jwt",
        ),
        (
            "  jwt: {providers: [{name: corp, localJWKS: {inline: '{}'}}]}\n  tokenRequirements: [{provider: corp}, {provider: corp}]\n",
            "duplicate-entry",
        ),
        (
            "  jwt: {providers: [{name: corp, localJWKS: {inline: '{}'}}]}\n  tokenRequirements: [{provider: corp, maxLifetime: 1d}]\n",
            "invalid-duration",
        ),
        (
            "  apiKeyExpiry: [{clientID: bob, notAfter: \"2027-01-31\"}]\n",
            "invalid-time: \"2027-01-31\" is not a moment; write \"2027-01-31T00:00:00Z\"",
        ),
        (
            "  baseline: true\n  shadow: true\n",
            "invalid-combination: baseline and shadow exclude each other",
        ),
        (
            "  baseline: true\n  cors: {allowOrigins: [\"*\"]}\n",
            "invalid-combination: baseline cannot be used with cors",
        ),
        (
            "  shadow: true\n  mergeType: JSONMerge\n",
            "invalid-combination: mergeType can",
        ),
        (
            "  authorization: {rules: [{action: Allow}]}\n",
            "invalid-combination: at least one of principal or cel must be specified",
        ),
    ] {
        let loaded = file(&access(&format!("{BASIC}{fields}")));
        let found: Vec<String> = loaded
            .diagnostics
            .iter()
            .map(|found| {
                let fix = found.fix.clone().unwrap_or_default();
                format!("{}: {}; {fix}", found.code, found.message)
            })
            .collect();
        assert!(
            found.iter().any(|found| found.starts_with(expected)),
            "{fields}: {found:?}"
        );
        assert!(loaded.snapshot.access_policies.is_empty(), "{fields}");
        assert_eq!(loaded.snapshot.broken_policies.len(), 1, "{fields}");
    }
}

#[test]
fn a_baseline_covers_gateways_as_a_whole() {
    for target in [
        "kind: HTTPRoute, name: orders",
        "kind: Gateway, name: public, sectionName: http",
    ] {
        let text = access("  baseline: true\n").replace("kind: Gateway, name: public", target);
        let loaded = file(&text);
        assert_eq!(
            loaded.diagnostics[0].message, "baseline can only be used with Gateway targets without sectionName",
            "{target}"
        );
    }
}

#[test]
fn a_broken_policy_knows_its_kind_and_whether_it_is_a_baseline_or_a_shadow() {
    for (fields, baseline, shadow) in [
        ("", false, false),
        ("  baseline: true\n", true, false),
        ("  shadow: true\n", false, true),
        ("  shadow: false\n", false, false),
        ("  shadow: \"true\"\n", false, false),
        ("  shadow: true\n  shadow: true\n", false, false),
        ("  shadow: true\n  baseline: true\n", true, false),
        ("  shdow: true\n", false, false),
    ] {
        let loaded = file(&access(&format!("  csrf: []\n{fields}")));
        let broken = &loaded.snapshot.broken_policies[0];
        assert_eq!(broken.kind.name(), "AccessPolicy");
        assert_eq!((broken.baseline, broken.shadow), (baseline, shadow), "{fields}");
    }
    let other = access("  csrf: []\n  shadow: true\n").replace(
        "portcullis.dev/v1alpha1\nkind: AccessPolicy",
        "gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy",
    );
    let loaded = file(&other);
    let broken = &loaded.snapshot.broken_policies[0];
    assert_eq!((broken.kind.name(), broken.shadow), ("SecurityPolicy", false));
}

#[test]
fn policies_of_two_kinds_may_have_one_name() {
    let access = access("  csrf: {}\n");
    let security = access.replace(
        "portcullis.dev/v1alpha1\nkind: AccessPolicy",
        "gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy",
    );
    let loaded = files(&[("a.yaml", &access), ("b.yaml", &security)]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let snapshot = &loaded.snapshot;
    assert_eq!(
        (snapshot.access_policies.len(), snapshot.security_policies.len()),
        (1, 1)
    );
    let loaded = files(&[("a.yaml", &access), ("b.yaml", &access), ("c.yaml", &security)]);
    let snapshot = &loaded.snapshot;
    assert_eq!(
        (snapshot.access_policies.len(), snapshot.security_policies.len()),
        (0, 1)
    );
    assert_eq!(snapshot.broken_policies.len(), 1);
}

#[test]
fn of_two_policies_of_one_name_a_shadow_stays_none_beside_one_that_restricts() {
    let (shadow, whole) = (access("  shadow: true\n"), access("  csrf: {}\n"));
    for files_of in [[&shadow, &whole], [&whole, &shadow]] {
        let loaded = files(&[("a.yaml", files_of[0]), ("b.yaml", files_of[1])]);
        assert!(!loaded.snapshot.broken_policies[0].shadow);
    }
    let loaded = files(&[("a.yaml", &shadow), ("b.yaml", &shadow)]);
    assert!(loaded.snapshot.broken_policies[0].shadow);
}

/// At what it targets no client has an address: the proxies' own must not count.
#[test]
fn an_unreadable_policy_on_client_addresses_keeps_its_targets() {
    let loaded = file(
        "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: clients, namespace: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: public, sectionName: http}]
  clientIPDetection: {xForwardedFor: {trustedCIDR: [10.0.0.0/8]}}
",
    );
    assert!(loaded.snapshot.client_traffic_policies.is_empty());
    let broken = &loaded.snapshot.broken_client_traffic_policies[0];
    assert_eq!(broken.metadata.name.as_deref(), Some("clients"));
    assert_eq!(broken.targets[0].section_name.as_deref(), Some("http"));
}

#[test]
fn a_broken_backend_tls_policy_keeps_its_targets() {
    let loaded = |kind: &str| {
        file(&format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: echo, namespace: edge}}
spec:
  targetRefs: [{{group: gateway.envoyproxy.io, kind: {kind}, name: echo, sectionName: https}}]
  validation: {{hostname: [a.example.com], wellKnownCACertificates: System}}
"
        ))
    };
    let targets = |kind: &str| -> Vec<(String, String)> {
        let snapshot = loaded(kind).snapshot;
        assert!(snapshot.backend_tls_policies.is_empty());
        let broken = &snapshot.broken_backend_tls_policies[0];
        assert!(broken.targets.iter().all(|target| target.name == "echo"));
        broken
            .targets
            .iter()
            .map(|target| (target.group.clone(), target.kind.clone()))
            .collect()
    };
    let pair = |group: &str, kind: &str| (group.to_owned(), kind.to_owned());
    let (service, backend) = (pair("", "Service"), pair("gateway.envoyproxy.io", "Backend"));
    assert_eq!(targets("Backend"), std::slice::from_ref(&backend));
    assert_eq!(targets("Service"), std::slice::from_ref(&service));
    assert_eq!(targets("Bakend"), [service, backend]);
}
