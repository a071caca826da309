//! A snapshot from YAML, attached, and the outcome as text.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use gateway_api::gatewayclasses::GatewayClass;
use portcullis_attachment::{
    binding::{Bindings, bind},
    effective::{Attachment, EffectivePolicy, Options, attach, none},
    finding::{CODES, Severity},
    object::{ObjectRef, PolicyKind},
    snapshot::{BrokenPolicy, PolicyTarget, Snapshot},
    status::{Condition, ParentRef, Scope},
};
use portcullis_engine::policy::decode;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The controller's name in these tests.
pub(crate) const CONTROLLER: &str = "portcullis.dev/gateway-controller";

/// A snapshot with what was found out about it.
pub(crate) struct World {
    pub(crate) bindings: Bindings,
    pub(crate) attachment: Attachment,
}

/// The options of all tests.
pub(crate) fn options() -> Options {
    Options {
        controller_name: CONTROLLER.to_owned(),
        salt_key: [7; 32],
    }
}

impl World {
    /// Reads documents, binds and attaches.
    pub(crate) fn parse(text: &str) -> Self {
        Self::new(&parse(text))
    }

    /// Binds and attaches.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let bindings = bind(snapshot, CONTROLLER);
        let attachment = attach(snapshot, &bindings, &options());
        Self { bindings, attachment }
    }

    /// Everything that came out, as YAML.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        self.parents(&mut text);
        self.policies(&mut text);
        self.connections(&mut text);
        self.statuses(&mut text);
        self.findings(&mut text);
        text
    }

    fn parents(&self, text: &mut String) {
        text.push_str("parents:\n");
        for parent in &self.bindings.parents {
            let kind = match parent.route.kind {
                "HTTPRoute" => String::new(),
                other => format!(" ({other})"),
            };
            let route = format!("{}/{}{kind}", parent.route.namespace, parent.route.name);
            writeln!(text, "- route: {}", quoted(&route)).unwrap();
            writeln!(text, "  parent: {}", quoted(&reference(&parent.parent))).unwrap();
            writeln!(text, "  accepted: {}", quoted(&condition(&parent.accepted))).unwrap();
            if !parent.listeners.is_empty() {
                text.push_str("  listeners:\n");
            }
            for bound in &parent.listeners {
                let hostnames: Vec<String> = bound.hostnames.iter().map(|hostname| quoted(hostname)).collect();
                writeln!(text, "    {}: [{}]", bound.listener.listener, hostnames.join(", ")).unwrap();
            }
        }
    }

    fn policies(&self, text: &mut String) {
        let open = none(&options());
        let mut distinct: BTreeMap<String, Arc<EffectivePolicy>> = BTreeMap::new();
        text.push_str("places:\n");
        for (place, policy) in &self.attachment.policies {
            let listener = &place.listener;
            let mut name = policy.policy.clone();
            if policy.refuses {
                name.push_str(" refuses");
            } else {
                for (word, part) in [("beside", &policy.baseline), ("shadowed by", &policy.shadow)] {
                    if let Some(part) = part {
                        write!(name, " {word} {}/{}", part.namespace, part.name).unwrap();
                    }
                }
            }
            if let Some(parent) = &policy.merged {
                write!(name, " merged with {}/{}", parent.namespace, parent.name).unwrap();
            }
            let of_rule = format!("{}/{} {}", place.route.namespace, place.route.name, place.rule);
            if name == "none" && policy.hash != open.hash {
                name = format!("none with the filter of {of_rule}");
            } else if distinct.get(&name).is_some_and(|known| differs_in_cors(known, policy)) {
                name = format!("{name} with the CORS of {of_rule}");
            }
            let at = match &listener.set {
                None => format!("{}/{}", listener.gateway, listener.listener),
                Some(set) => format!("{}/{}/{}", listener.gateway, set.name, listener.listener),
            };
            let grpc = if place.route.kind == "GRPCRoute" { " grpc" } else { "" };
            let place = format!(
                "{at} {}/{}{grpc} {}",
                place.route.namespace, place.route.name, place.rule
            );
            writeln!(text, "  {place}: {name}").unwrap();
            decode(&policy.hash, policy.document.as_bytes(), policy.secrets.as_bytes()).expect("the filter reads it");
            if name == "none" {
                assert_eq!(*policy, open, "one `none` for all places");
            } else {
                let known = distinct.entry(name).or_insert_with(|| Arc::clone(policy));
                // Which policies it stands for may differ: a baseline at fault refuses for many.
                let delivered = |policy: &EffectivePolicy| (policy.hash.clone(), policy.secrets.clone());
                assert_eq!(delivered(known), delivered(policy), "one delivered form for one policy");
            }
        }
        text.push_str("documents:\n");
        for (name, policy) in &distinct {
            let mut document: BTreeMap<String, Value> = serde_json::from_str(&policy.document).unwrap();
            assert_eq!(document.remove("version"), Some(1.into()));
            assert_eq!(document.remove("policy"), Some(policy.policy.clone().into()));
            let mut secrets: BTreeMap<String, Value> = serde_json::from_str(&policy.secrets).unwrap();
            assert!(
                secrets
                    .remove("salt")
                    .is_some_and(|salt| salt.as_str().unwrap().len() == 64)
            );
            writeln!(text, "  {name}:").unwrap();
            // Of the nested ones too; secrets are then often empty.
            let bare = |(field, mut value): (String, Value)| {
                if let Some(nested) = value.as_object_mut() {
                    nested.remove("salt");
                    nested.remove("version");
                }
                (field, value)
            };
            let secrets = secrets.into_iter().map(bare);
            let secrets = secrets.filter(|(_, value)| value.as_object().is_none_or(|nested| !nested.is_empty()));
            for (field, value) in document.into_iter().map(bare).chain(secrets) {
                writeln!(text, "    {field}: {value}").unwrap();
            }
            let servers = policy.key_servers.iter().map(|server| {
                let (host, port, path) = (&server.host, server.port, &server.path);
                let over = if server.encrypted { "https" } else { "http" };
                let backend = server
                    .backend
                    .as_ref()
                    .map(|to| format!(" by {} {}/{}", to.kind, to.namespace, to.name))
                    .unwrap_or_default();
                format!("{over} {host} {port} {path}{backend}")
            });
            let servers: Vec<String> = servers.collect();
            if !servers.is_empty() {
                writeln!(text, "    fetches: {servers:?}").unwrap();
            }
        }
    }

    fn connections(&self, text: &mut String) {
        if self.attachment.connections.is_empty() {
            return;
        }
        text.push_str("connections:\n");
        for (place, admission) in &self.attachment.connections {
            let listener = &place.listener;
            let at = match &listener.set {
                None => format!("{}/{}", listener.gateway, listener.listener),
                Some(set) => format!("{}/{}/{}", listener.gateway, set.name, listener.listener),
            };
            let name =
                |object: Option<&ObjectRef>| object.map(|object| format!("{}/{}", object.namespace, object.name));
            let mut by = name(admission.enforced.as_ref()).unwrap_or_else(|| "none".to_owned());
            for (word, part) in [("beside", &admission.baseline), ("merged with", &admission.merged)] {
                if let Some(part) = name(part.as_ref()) {
                    write!(by, " {word} {part}").unwrap();
                }
            }
            if admission.refuses {
                by.push_str(" refuses");
            }
            writeln!(
                text,
                "  {at} {}/{} {}:",
                place.route.namespace, place.route.name, place.rule
            )
            .unwrap();
            writeln!(text, "    by: {by}").unwrap();
            for layer in &admission.layers {
                let rules = layer.rules.iter().map(|rule| {
                    let networks = rule.networks.as_ref().map(|networks| {
                        let networks = networks.iter();
                        let networks = networks.map(|network| format!("{}/{}", network.address, network.length));
                        networks.collect::<Vec<_>>().join(" ")
                    });
                    let networks = networks.unwrap_or_else(|| "everybody".to_owned());
                    format!("{:?} {networks} by {}", rule.action, rule.name)
                });
                let mut rules: Vec<String> = rules.collect();
                rules.push(format!("{:?} others", layer.default_action));
                writeln!(text, "    {}: {}", layer.policy, serde_json::to_string(&rules).unwrap()).unwrap();
            }
        }
    }

    fn statuses(&self, text: &mut String) {
        text.push_str("statuses:\n");
        for status in &self.attachment.statuses {
            let generation = status
                .observed_generation
                .map(|generation| format!(" of generation {generation}"));
            writeln!(text, "  {}{}:", status.object, generation.unwrap_or_default()).unwrap();
            for scope in &status.scopes {
                let Scope::Parent(ancestor) = &scope.scope else {
                    panic!("a policy's scopes are ancestors")
                };
                writeln!(text, "    {}:", reference(ancestor)).unwrap();
                for of_scope in &scope.conditions {
                    writeln!(text, "    - {}", quoted(&condition(of_scope))).unwrap();
                }
            }
        }
    }

    fn findings(&self, text: &mut String) {
        text.push_str("findings:\n");
        for finding in self.bindings.findings.iter().chain(&self.attachment.findings) {
            assert!(
                CODES.iter().any(|(code, _)| *code == finding.code),
                "{} is registered",
                finding.code
            );
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(text, "- {severity}: {}", finding.code).unwrap();
            writeln!(
                text,
                "  at: {}",
                quoted(&format!("{} {}", finding.object, finding.path))
            )
            .unwrap();
            writeln!(text, "  message: {}", quoted(&finding.message)).unwrap();
            if let Some(fix) = &finding.fix {
                writeln!(text, "  fix: {}", quoted(fix)).unwrap();
            }
        }
    }
}

/// Whether two delivered forms are the same but for their CORS, which a filter of a rule replaces.
fn differs_in_cors(one: &EffectivePolicy, other: &EffectivePolicy) -> bool {
    let rest = |policy: &EffectivePolicy| {
        let mut document: BTreeMap<String, Value> = serde_json::from_str(&policy.document).unwrap();
        document.remove("cors");
        (document, policy.secrets.clone())
    };
    one.hash != other.hash && rest(one) == rest(other)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Reads documents; GatewayClass `portcullis` is ours and need not be written.
pub(crate) fn parse(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.gateway_classes.push(Arc::new(read(serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "portcullis"},
        "spec": {"controllerName": CONTROLLER},
    }))));
    for document in serde_saphyr::from_multiple::<Value>(text).unwrap() {
        add(&mut snapshot, document);
    }
    snapshot
}

fn reference(parent: &ParentRef) -> String {
    assert_eq!(parent.group, "gateway.networking.k8s.io");
    let mut text = format!("{} {}/{}", parent.kind, parent.namespace, parent.name);
    if let Some(section) = &parent.section_name {
        write!(text, "/{section}").unwrap();
    }
    if let Some(port) = parent.port {
        write!(text, " port {port}").unwrap();
    }
    text
}

fn condition(condition: &Condition) -> String {
    format!(
        "{}={:?} {}: {}",
        condition.r#type, condition.status, condition.reason, condition.message
    )
}

fn add(snapshot: &mut Snapshot, mut document: Value) {
    let kind = document["kind"].as_str().expect("a kind").to_owned();
    let version = match kind.as_str() {
        "GatewayClass" | "Gateway" | "ListenerSet" | "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "ReferenceGrant" => {
            "gateway.networking.k8s.io/v1"
        }
        "SecurityPolicy" | "EnvoyProxy" => "gateway.envoyproxy.io/v1alpha1",
        "AccessPolicy" => "portcullis.dev/v1alpha1",
        _ => "v1",
    };
    document["apiVersion"] = version.into();
    match kind.as_str() {
        "GatewayClass" => snapshot.gateway_classes.push(Arc::new(read::<GatewayClass>(document))),
        "Gateway" => snapshot.gateways.push(Arc::new(read(document))),
        "ListenerSet" => snapshot.listener_sets.push(Arc::new(read(document))),
        "GRPCRoute" => snapshot.grpc_routes.push(Arc::new(read(document))),
        "TCPRoute" => snapshot.tcp_routes.push(Arc::new(read(document))),
        "HTTPRoute" => snapshot.http_routes.push(Arc::new(read(document))),
        "ReferenceGrant" => snapshot.reference_grants.push(Arc::new(read(document))),
        "SecurityPolicy" => snapshot.security_policies.push(Arc::new(read(document))),
        "AccessPolicy" => snapshot.access_policies.push(Arc::new(read(document))),
        "EnvoyProxy" => snapshot.envoy_proxies.push(Arc::new(read(document))),
        "ConfigMap" => snapshot.config_maps.push(Arc::new(read(document))),
        "Secret" => snapshot.secrets.push(Arc::new(read(document))),
        "Namespace" => snapshot.namespaces.push(Arc::new(read(document))),
        "Broken" => snapshot.broken_policies.push(Arc::new(BrokenPolicy {
            kind: if document["of"] == "AccessPolicy" {
                PolicyKind::AccessPolicy
            } else {
                PolicyKind::SecurityPolicy
            },
            baseline: document["baseline"] == true,
            shadow: document["shadow"] == true,
            metadata: read(document["metadata"].take()),
            targets: document["targets"].as_array().unwrap().iter().map(target).collect(),
            selectors: document.get("selectors").cloned().map(read).unwrap_or_default(),
            message: document["message"].as_str().unwrap().to_owned(),
        })),
        other => panic!("{other} is not attached"),
    }
}

fn target(value: &Value) -> PolicyTarget {
    PolicyTarget {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: value["kind"].as_str().unwrap().to_owned(),
        name: value["name"].as_str().unwrap().to_owned(),
        section_name: value["sectionName"].as_str().map(str::to_owned),
    }
}

fn read<T: DeserializeOwned>(document: Value) -> T {
    let written = document.to_string();
    serde_json::from_value(document).unwrap_or_else(|error| panic!("{error} in {written}"))
}
