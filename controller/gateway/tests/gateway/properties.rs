//! What holds for every translation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use envoy_types::pb::{
    envoy::{
        config::route::v3::{Route, RouteConfiguration, VirtualHost, route::Action},
        extensions::transport_sockets::tls::v3::GenericSecret,
    },
    google::protobuf::value::Kind,
};
use portcullis_engine::seal;
use portcullis_gateway::{Configuration, Resource, quarantine, resource, show, snippet, virtual_hosts};
use prost::{Message, bytes::Bytes};

use crate::{
    goldens::inputs,
    world::{World, world},
};

const WASM: &str = "/etc/envoy/portcullis.wasm";

fn tables(configuration: &Configuration) -> impl Iterator<Item = RouteConfiguration> {
    configuration
        .resources
        .iter()
        .filter(|resource| resource.type_url == resource::ROUTE_CONFIGURATION)
        .map(|resource| RouteConfiguration::decode(resource.body.clone()).unwrap())
}

fn golden(name: &str) -> World {
    world(&inputs()[name], WASM)
}

/// The hash on a route.
fn hash_of(route: &Route) -> &str {
    let fields = &route.metadata.as_ref().expect("metadata").filter_metadata["portcullis"].fields;
    string(&fields["h"].kind)
}

fn string(kind: &Option<Kind>) -> &str {
    let Some(Kind::StringValue(value)) = kind else {
        panic!("not a string: {kind:?}")
    };
    value
}

/// The hashes whose documents a virtual host holds, each checked against the bytes beside it.
fn documents(host: &VirtualHost) -> BTreeSet<String> {
    let metadata = host.metadata.as_ref().expect("metadata");
    metadata.filter_metadata["portcullis"]
        .fields
        .iter()
        .map(|(hash, document)| {
            let any = &metadata.typed_filter_metadata[&format!("portcullis/{hash}")];
            let secret = GenericSecret::decode(any.value.as_slice())
                .unwrap()
                .secret
                .expect("a secret");
            let Some(envoy_types::pb::envoy::config::core::v3::data_source::Specifier::InlineBytes(secrets)) =
                secret.specifier
            else {
                panic!("secrets are inline bytes")
            };
            assert_eq!(*hash, seal::hash(string(&document.kind).as_bytes(), &secrets));
            hash.clone()
        })
        .collect()
}

#[test]
fn every_route_has_a_policy_that_its_virtual_host_holds_once_and_nothing_else() {
    for (name, manifests) in inputs() {
        let world = world(&manifests, WASM);
        for table in world.translation.configurations.iter().flat_map(tables) {
            for host in &table.virtual_hosts {
                let held = documents(host);
                let used: BTreeSet<String> = host.routes.iter().map(|route| hash_of(route).to_owned()).collect();
                assert_eq!(held, used, "{name}: {}", host.name);
            }
        }
    }
}

#[test]
fn every_virtual_host_ends_in_an_answer_of_its_own_and_any_host_has_one() {
    for (name, manifests) in inputs() {
        let world = world(&manifests, WASM);
        for table in world.translation.configurations.iter().flat_map(tables) {
            assert!(table.virtual_hosts.iter().any(|host| host.domains == ["*"]), "{name}");
            for host in &table.virtual_hosts {
                let last = host.routes.last().expect("a route");
                assert!(
                    matches!(&last.action, Some(Action::DirectResponse(answer)) if matches!(answer.status, 404 | 421))
                );
                assert_eq!(hash_of(last), world.none.hash, "{name}");
            }
        }
    }
}

#[test]
fn a_refused_policy_leaves_no_backend_and_no_redirect() {
    let world = golden("refused-policy");
    let refused: BTreeSet<&str> = world
        .attachment
        .policies
        .values()
        .filter(|policy| policy.refuses)
        .map(|policy| policy.hash.as_str())
        .collect();
    assert!(!refused.is_empty());
    let mut seen = 0;
    for route in tables(&world.translation.configurations[0])
        .flat_map(|table| table.virtual_hosts)
        .flat_map(|host| host.routes)
    {
        if refused.contains(hash_of(&route)) {
            seen += 1;
            assert!(matches!(route.action, Some(Action::DirectResponse(answer)) if answer.status == 500));
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn a_place_without_a_policy_stays_shut() {
    let loaded = portcullis_manifest::load(&[("in.yaml".to_owned(), inputs()["simple"].clone())]);
    let bindings = portcullis_attachment::binding::bind(&loaded.snapshot, crate::world::CONTROLLER);
    let none = golden("simple").none;
    let options = portcullis_gateway::Options {
        controller_name: crate::world::CONTROLLER.to_owned(),
        controller_namespace: None,
        wasm: WASM.to_owned(),
        privileged_port_shift: 0,
        system_trust: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
        backend_overrides: BTreeMap::new(),
        key_sets: Arc::default(),
        access_log: None,
        none,
    };
    let translation = portcullis_gateway::translate(&loaded.snapshot, &bindings, &Default::default(), &options);
    let open = tables(&translation.configurations[0])
        .flat_map(|table| table.virtual_hosts)
        .flat_map(|host| host.routes)
        .any(|route| matches!(route.action, Some(Action::Route(_))));
    assert!(!open);
}

fn listeners(world: &World) -> Vec<&Resource> {
    let resources = world
        .translation
        .configurations
        .iter()
        .flat_map(|configuration| &configuration.resources);
    resources
        .filter(|resource| resource.type_url == resource::LISTENER)
        .collect()
}

#[test]
fn no_policy_and_no_route_changes_a_listener() {
    let mut compared = 0;
    for name in ["policy", "https", "listener-policy", "http-listeners"] {
        let manifests = inputs()[name].clone();
        let before = world(&manifests, WASM);
        let edits = [
            manifests.replace("192.0.2.0/24", "198.51.100.0/24"),
            manifests.replace("defaultAction: Deny", "defaultAction: Allow"),
            manifests.replace("api.example.com]", "new.example.com]"),
            manifests
                .split("---\n")
                .filter(|document| !document.contains("kind: SecurityPolicy") && !document.contains("kind: HTTPRoute"))
                .collect::<Vec<_>>()
                .join("---\n"),
        ];
        for edited in edits {
            if edited == manifests {
                continue;
            }
            let after = world(&edited, WASM);
            assert_ne!(
                before.translation.configurations[0].resources,
                after.translation.configurations[0].resources
            );
            assert_eq!(listeners(&before), listeners(&after), "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 8, "only {compared} edits changed anything");
}

#[test]
fn equal_manifests_give_equal_bytes() {
    for (name, manifests) in inputs() {
        let first = world(&manifests, WASM);
        for _ in 0..4 {
            let again = world(&manifests, WASM);
            for (one, other) in first
                .translation
                .configurations
                .iter()
                .zip(&again.translation.configurations)
            {
                assert_eq!(one.resources, other.resources, "{name}");
            }
            assert_eq!(first.translation.statuses, again.translation.statuses, "{name}");
            assert_eq!(first.translation.findings, again.translation.findings, "{name}");
        }
    }
}

#[test]
fn every_finding_has_a_registered_code() {
    let codes: BTreeSet<&str> = portcullis_attachment::finding::CODES
        .iter()
        .map(|(code, _)| *code)
        .collect();
    for (name, manifests) in inputs() {
        for finding in world(&manifests, WASM).translation.findings {
            assert!(codes.contains(finding.code), "{name}: {}", finding.code);
        }
    }
}

#[test]
fn nothing_shown_holds_a_secret() {
    let manifests = &inputs()["https"];
    let world = world(manifests, WASM);
    let configuration = &world.translation.configurations[0];
    let shown: String = configuration
        .resources
        .iter()
        .map(|resource| show(resource).to_string())
        .collect();
    let redacted = snippet(configuration, false).to_string();
    let open = snippet(configuration, true).to_string();
    let key: String = manifests
        .lines()
        .skip_while(|line| !line.contains("BEGIN PRIVATE KEY"))
        .take_while(|line| !line.contains("END PRIVATE KEY"))
        .map(|line| format!("{}\n", line.trim()))
        .collect();
    // Whole groups of three bytes are the same base64 wherever the text that follows differs.
    let canary = base64(&key.as_bytes()[..key.len() / 3 * 3]);
    assert!(open.contains(&canary), "the canary is never found");
    let salt = &world.none.secrets;
    assert!(open.contains(&base64(&salt.as_bytes()[..salt.len() / 3 * 3])));
    for text in [shown, redacted] {
        assert!(!text.contains(&canary));
        assert!(!text.contains(&base64(&salt.as_bytes()[..salt.len() / 3 * 3])));
        assert!(text.contains("W3JlZGFjdGVkXQ==") || text.contains("tls.key"));
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(bytes.len() % 3, 0);
    bytes
        .chunks(3)
        .flat_map(|group| {
            let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize] as char)
        })
        .collect()
}

#[test]
fn a_quarantined_host_answers_500_and_the_others_are_untouched() {
    let world = golden("policy");
    let table = world.translation.configurations[0]
        .resources
        .iter()
        .find(|resource| resource.type_url == resource::ROUTE_CONFIGURATION)
        .unwrap();
    let before: BTreeMap<String, Bytes> = virtual_hosts(&table.body).into_iter().collect();
    let poisoned = BTreeSet::from(["api.example.com".to_owned()]);
    let body = quarantine(&table.body, &poisoned);
    let after: BTreeMap<String, Bytes> = virtual_hosts(&body).into_iter().collect();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (host, bytes) in &after {
        assert_eq!(before[host] == *bytes, !poisoned.contains(host), "{host}");
    }
    let decoded = RouteConfiguration::decode(body.clone()).unwrap();
    let host = decoded
        .virtual_hosts
        .iter()
        .find(|host| host.name == "api.example.com")
        .unwrap();
    assert_eq!(documents(host), BTreeSet::from([world.none.hash.clone()]));
    let [only] = host.routes.as_slice() else {
        panic!("one route is left")
    };
    assert_eq!(hash_of(only), world.none.hash);
    assert!(matches!(&only.action, Some(Action::DirectResponse(answer)) if answer.status == 500));
    assert_eq!(quarantine(&table.body, &BTreeSet::new()), table.body);
    let garbage = Bytes::from_static(b"\xff");
    assert_eq!(quarantine(&garbage, &poisoned), garbage);
}

/// 4,000 rules of 1,000 routes. The bound is loose because tests run unoptimised and side by side; what it catches is
/// time that grows with the square of the routes.
#[test]
fn time_grows_with_the_number_of_routes_only() {
    let time = |routes: usize| {
        let loaded = portcullis_manifest::load(&[("in.yaml".to_owned(), many(routes))]);
        assert!(loaded.diagnostics.is_empty());
        let settings = portcullis_attachment::effective::Options {
            controller_name: crate::world::CONTROLLER.to_owned(),
            salt_key: [7; 32],
        };
        let bindings = portcullis_attachment::binding::bind(&loaded.snapshot, crate::world::CONTROLLER);
        let attachment = portcullis_attachment::effective::attach(&loaded.snapshot, &bindings, &settings);
        let options = portcullis_gateway::Options {
            controller_name: crate::world::CONTROLLER.to_owned(),
            controller_namespace: None,
            wasm: WASM.to_owned(),
            privileged_port_shift: 0,
            system_trust: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
            backend_overrides: BTreeMap::new(),
            key_sets: Arc::default(),
            access_log: None,
            none: portcullis_attachment::effective::none(&settings),
        };
        let start = Instant::now();
        let translation = portcullis_gateway::translate(&loaded.snapshot, &bindings, &attachment, &options);
        let elapsed = start.elapsed();
        let served: usize = translation
            .configurations
            .iter()
            .flat_map(tables)
            .map(|table| table.virtual_hosts.len())
            .sum();
        assert_eq!(served, routes / 10 + 1);
        elapsed
    };
    let (few, many) = (time(100), time(1000));
    println!("100 routes: {few:?}, 1000 routes: {many:?}");
    assert!(
        many < few.max(Duration::from_millis(5)) * 40,
        "100 routes: {few:?}, 1000 routes: {many:?}"
    );
}

fn many(routes: usize) -> String {
    let mut text = inputs()["simple"].replace("[{name: public, namespace: edge}]", "[{name: absent}]");
    for number in 0..routes {
        write!(
            text,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: edge}}\n\
             spec:\n  parentRefs: [{{name: public}}]\n  hostnames: [h{}.example.com]\n  rules:\n",
            number / 10
        )
        .unwrap();
        for rule in 0..4 {
            write!(
                text,
                "  - matches: [{{path: {{value: /r{number}/{rule}}}, method: GET}}]\n    \
                 backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: orders}}]\n"
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn a_rule_does_not_fill_a_table_with_copies_of_its_headers() {
    let route = |headers: usize| {
        let mut text = inputs()["simple"].clone();
        let hosts: Vec<_> = (0..16).map(|host| format!("h{host}.example.com")).collect();
        write!(
            text,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: large, namespace: edge}}\n\
             spec:\n  parentRefs: [{{name: public, namespace: edge}}]\n  hostnames: [{}]\n  rules:\n\
             \x20 - backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: orders}}]\n    matches:\n",
            hosts.join(", ")
        )
        .unwrap();
        for path in 0..64 {
            writeln!(text, "    - path: {{value: /p{path}}}").unwrap();
        }
        text.push_str(
            "    filters:\n    - type: ResponseHeaderModifier\n      responseHeaderModifier:\n        set:\n",
        );
        for header in 0..headers {
            writeln!(text, "        - {{name: x{header}, value: {}}}", "v".repeat(4096)).unwrap();
        }
        world(&text, WASM)
    };
    let size = |world: &World| -> usize {
        let resources = world.translation.configurations.iter().flat_map(|one| &one.resources);
        resources.map(|resource| resource.body.len()).sum()
    };
    let taken = route(1);
    assert!(
        taken.translation.findings.is_empty(),
        "{:?}",
        taken.translation.findings
    );
    let refused = route(16);
    assert_eq!(refused.translation.findings.len(), 1);
    assert_eq!(refused.translation.findings[0].code, "too-many");
    assert!(size(&refused) < size(&taken), "{} bytes", size(&refused));
    let answers = tables(&refused.translation.configurations[0])
        .flat_map(|table| table.virtual_hosts)
        .flat_map(|host| host.routes)
        .filter(|route| route.name.starts_with("httproute/edge/large/"))
        .filter(|route| matches!(&route.action, Some(Action::DirectResponse(answer)) if answer.status == 500));
    assert_eq!(answers.count(), 16 * 64);
}
