//! What is remembered of the last snapshot changes nothing but time: after every edit the outcome is the one from scratch.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_attachment::{binding, effective, memory::Memory as AttachmentMemory};
use portcullis_gateway::{BoundPort, Memory, Options, Resource, Translation, translate};
use portcullis_manifest::Reader;
use proptest::prelude::*;

use crate::world::CONTROLLER;

/// A file of the world: its name, and what it may say; the first is what it says at the beginning. An empty text is a file
/// that is not there.
type File = (&'static str, Vec<String>);

fn route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{parentRefs: [{{name: public, namespace: edge}}], {spec}}}\n"
    )
}

fn policy(kind: &str, name: &str, target: &str, spec: &str) -> String {
    let group = match kind {
        "SecurityPolicy" => "gateway.envoyproxy.io",
        _ => "portcullis.dev",
    };
    let namespace = if target.contains("kind: Gateway") {
        "edge"
    } else {
        "shop"
    };
    format!(
        "apiVersion: {group}/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{targetRefs: [{{group: gateway.networking.k8s.io, {target}}}], {spec}}}\n"
    )
}

fn secret(namespace: &str, name: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{client: {key}}}\n"
    )
}

fn key_set(x: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: keys, namespace: shop}}\ndata: {{jwks: '{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{x}\",\"y\":\"pC65SOczITDr64DK56UH-yf7BthiGSjnchGw5A5P1TA\"}}]}}'}}\n"
    )
}

fn gateway(listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: portcullis}}\nspec: {{controllerName: {CONTROLLER}}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: public, namespace: edge}}\nspec: {{gatewayClassName: portcullis, listeners: [{listeners}]}}\n"
    )
}

fn backend(port: u16) -> String {
    format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: up, namespace: shop}}\nspec: {{endpoints: [{{ip: {{address: 192.0.2.1, port: {port}}}}}]}}\n"
    )
}

fn files() -> Vec<File> {
    const TO: &str = "backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: up}]";
    const OPEN: &str = "allowedRoutes: {namespaces: {from: All}}";
    const ONE: &str = "kind: HTTPRoute, name: one";
    const TWO: &str = "kind: HTTPRoute, name: two";
    const KEYS: &str = "apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-key]}]}";
    const FOREIGN: &str =
        "apiKeyAuth: {credentialRefs: [{name: keys, namespace: vault}], extractFrom: [{params: [key]}]}";
    const TOKENS: &str = "jwt: {providers: [{name: idp, localJWKS: {type: ValueRef, valueRef: {group: \"\", kind: ConfigMap, name: keys}}}]}";
    let cidr = |cidr: &str| {
        format!(
            "authorization: {{defaultAction: Deny, rules: [{{action: Allow, principal: {{clientCIDRs: [{cidr}]}}}}]}}"
        )
    };
    let cors = "cors: {allowOrigins: [\"https://a.example.com\"], allowMethods: [PUT]}";
    let merged = |spec: &str| format!("mergeType: StrategicMerge, {spec}");
    vec![
        (
            "gateway.yaml",
            vec![
                gateway(&format!("{{name: http, protocol: HTTP, port: 80, {OPEN}}}")),
                gateway(&format!(
                    "{{name: http, protocol: HTTP, port: 80, {OPEN}}}, {{name: wide, protocol: HTTP, port: 80, hostname: \"*.example.com\", {OPEN}}}"
                )),
                gateway(&format!("{{name: other, protocol: HTTP, port: 8080, {OPEN}}}")),
                String::new(),
            ],
        ),
        ("backend.yaml", vec![backend(80), backend(81), String::new()]),
        (
            "one.yaml",
            vec![
                route("one", &format!("hostnames: [a.example.com, \"*.example.com\"], rules: [{{name: first, matches: [{{path: {{type: PathPrefix, value: /a}}, method: PUT}}], {TO}}}]")),
                route("one", &format!("rules: [{{name: first, {TO}}}, {{name: second, matches: [{{path: {{type: Exact, value: /b}}}}], {TO}}}]")),
                route("one", &format!("hostnames: [a.example.com], rules: [{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: up}}}}}}], {TO}}}]")),
                String::new(),
            ],
        ),
        (
            "two.yaml",
            vec![
                route("two", &format!("hostnames: [a.example.com], rules: [{{matches: [{{path: {{type: PathPrefix, value: /a}}}}], {TO}}}]")),
                route("two", &format!("hostnames: [b.example.com], rules: [{{filters: [{{type: CORS, cors: {{allowOrigins: [\"https://b.example.com\"], allowMethods: [GET]}}}}], {TO}}}]")),
                String::new(),
            ],
        ),
        // Comes first among all routes: whoever is there already is of another age then.
        (
            "early.yaml",
            vec![
                String::new(),
                route("aa", &format!("hostnames: [c.example.com], rules: [{{{TO}}}]")),
                route("aa", &format!("hostnames: [a.example.com], rules: [{{{TO}}}]")),
            ],
        ),
        ("keys.yaml", vec![secret("shop", "keys", "one"), secret("shop", "keys", "two"), String::new()]),
        (
            "key-set.yaml",
            vec![key_set("qaqxvhcobTSVqg42oJr4Ha3NmToPYGkaazq8ykPNQQo"), key_set("mGkq7ZxGRe8TiLkJSocfYUnrDDAnI9EDM1dBn07Knfg"), String::new()],
        ),
        ("vault.yaml", vec![secret("vault", "keys", "one"), secret("vault", "keys", "two"), String::new()]),
        (
            "grant.yaml",
            vec![
                String::new(),
                "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: keys, namespace: vault}\nspec: {from: [{group: gateway.envoyproxy.io, kind: SecurityPolicy, namespace: shop}], to: [{group: \"\", kind: Secret}]}\n".to_owned(),
            ],
        ),
        (
            "policy-one.yaml",
            vec![
                policy("SecurityPolicy", "one", ONE, KEYS),
                policy("SecurityPolicy", "one", ONE, FOREIGN),
                policy("SecurityPolicy", "one", ONE, &merged(&cidr("10.0.0.0/8"))),
                policy("SecurityPolicy", "one", ONE, &format!("{cors}, {KEYS}")),
                policy("SecurityPolicy", "one", ONE, &cidr("10.0.0/8")),
                String::new(),
            ],
        ),
        (
            "policy-two.yaml",
            vec![
                policy("SecurityPolicy", "two", TWO, &cidr("10.0.0.0/8")),
                policy("SecurityPolicy", "two", &format!("{ONE}, sectionName: first"), cors),
                policy("SecurityPolicy", "two", ONE, cors),
                policy("SecurityPolicy", "two", TWO, TOKENS),
                policy("AccessPolicy", "two", TWO, &format!("shadow: true, {}", cidr("10.0.0.0/8"))),
                String::new(),
            ],
        ),
        (
            "policy-gateway.yaml",
            vec![
                String::new(),
                policy("SecurityPolicy", "all", "kind: Gateway, name: public", &cidr("192.0.2.0/24")),
                policy("SecurityPolicy", "all", "kind: Gateway, name: public", cors),
                policy("AccessPolicy", "all", "kind: Gateway, name: public", &format!("baseline: true, {}", cidr("192.0.2.0/24"))),
                policy("SecurityPolicy", "all", "kind: Gateway, name: public", &cidr("192.0.2/24")),
            ],
        ),
    ]
}

/// All that is remembered.
#[derive(Default)]
struct Remembered {
    reader: Reader,
    attachment: AttachmentMemory,
    translation: Memory,
}

impl Remembered {
    /// Translates the files as they are now, and compares with what a stranger makes of them.
    fn check(&mut self, texts: &[(String, String)], salt_key: [u8; 32]) {
        let loaded = self.reader.load(texts);
        let bindings = binding::bind(&loaded.snapshot, CONTROLLER);
        let settings = effective::Options {
            controller_name: CONTROLLER.to_owned(),
            salt_key,
        };
        let options = Options {
            controller_name: CONTROLLER.to_owned(),
            controller_namespace: None,
            wasm: "portcullis.wasm".to_owned(),
            privileged_port_shift: 0,
            backend_overrides: BTreeMap::new(),
            system_trust: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
            key_sets: Arc::default(),
            access_log: None,
            none: effective::none(&settings),
        };
        let scratch = effective::attach(&loaded.snapshot, &bindings, &settings);
        let attachment = self.attachment.attach(&loaded.snapshot, &bindings, &settings);
        assert_eq!(attachment.policies, scratch.policies);
        assert_eq!(attachment.connections, scratch.connections);
        assert_eq!(attachment.statuses, scratch.statuses);
        assert_eq!(attachment.findings, scratch.findings);
        let fresh = translate(&loaded.snapshot, &bindings, &scratch, &options);
        let translation = self
            .translation
            .translate(&loaded.snapshot, &bindings, &attachment, &options);
        assert_eq!(parts(&translation), parts(&fresh));
        assert_eq!(translation.statuses, fresh.statuses);
        assert_eq!(translation.findings, fresh.findings);
    }
}

fn parts(translation: &Translation) -> Vec<(&str, &[Resource], &[BoundPort])> {
    let configurations = translation.configurations.iter();
    configurations
        .map(|each| {
            (
                each.gateway.as_str(),
                each.resources.as_slice(),
                each.listeners.as_slice(),
            )
        })
        .collect()
}

fn texts(files: &[File], says: &[usize]) -> Vec<(String, String)> {
    let said = files
        .iter()
        .zip(says)
        .map(|((name, versions), says)| ((*name).to_owned(), versions[*says].clone()));
    said.filter(|(_, text)| !text.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_comes_to_what_a_start_comes_to(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..24)) {
        let files = files();
        let mut says = vec![0; files.len()];
        let mut remembered = Remembered::default();
        remembered.check(&texts(&files, &says), [7; 32]);
        for (file, version) in edits {
            let file = file.index(files.len());
            says[file] = version.index(files[file].1.len());
            remembered.check(&texts(&files, &says), [7; 32]);
        }
        // Another key makes other salts.
        remembered.check(&texts(&files, &says), [8; 32]);
    }
}

/// What did not change is not made again: the next snapshot shares it with the last.
#[test]
fn an_edit_leaves_the_policies_of_others_alone() {
    let files = files();
    let mut says = vec![0; files.len()];
    let mut reader = Reader::default();
    let mut memory = AttachmentMemory::default();
    let settings = effective::Options {
        controller_name: CONTROLLER.to_owned(),
        salt_key: [7; 32],
    };
    let mut attach = |says: &[usize]| {
        let loaded = reader.load(&texts(&files, says));
        let bindings = binding::bind(&loaded.snapshot, CONTROLLER);
        let attachment = memory.attach(&loaded.snapshot, &bindings, &settings);
        let of = |route: &str| {
            let mut policies = attachment.policies.iter();
            let found = policies.find(|(place, _)| place.route.name == route);
            Arc::clone(found.expect("the route is bound").1)
        };
        (of("one"), of("two"))
    };
    let before = attach(&says);
    says[5] = 1;
    let after = attach(&says);
    assert_ne!(before.0.hash, after.0.hash, "its Secret is another");
    assert!(Arc::ptr_eq(&before.1, &after.1), "nothing of it is another");
}
