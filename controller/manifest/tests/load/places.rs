//! Documents, files and places.

use portcullis_attachment::object::ObjectRef;

use crate::{POLICY, ROUTE, file, files, lines};

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

#[test]
fn a_warning_fails_no_file() {
    let loaded = file("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n");
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
    // Each level adds to the depth alone, and no walk over the tree may exhaust the stack.
    let (open, close) = ("[".repeat(30), "]".repeat(30));
    let mut well = format!("a0: &a0 {open}x{close}\n");
    for level in 1..50 {
        well.push_str(&format!("a{level}: &a{level} {open}*a{} {close}\n", level - 1));
    }
    assert!(lines(&file(&well))[0].contains("an alias nests more than 64 collections"));
    assert_eq!(file("a: &a [*a]\n").diagnostics[0].code, "yaml-syntax");
    assert_eq!(file(&"[".repeat(100_000)).diagnostics[0].code, "yaml-syntax");
    assert_eq!(file(&"- ".repeat(100_000)).diagnostics[0].code, "yaml-syntax");
}
