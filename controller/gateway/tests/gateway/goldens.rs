//! `testdata/<name>.in.yaml` against `<name>.xds.yaml` and `<name>.status.yaml`.
//!
//! `UPDATE_GOLDENS=1` writes them. Hashes and bodies of policies are the attachment's business and stand as names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use portcullis_gateway::show;
use serde_json::{Value, json};

use crate::world::{World, world};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Every input, by name.
pub(crate) fn inputs() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder()).expect("testdata exists");
    entries
        .filter_map(|entry| {
            let path = entry.expect("testdata can be listed").path();
            let name = path.file_name()?.to_str()?.strip_suffix(".in.yaml")?.to_owned();
            Some((name, std::fs::read_to_string(&path).expect("inputs are readable")))
        })
        .collect()
}

#[test]
fn translations_are_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let inputs = inputs();
    assert!(inputs.len() >= 30, "only {} inputs", inputs.len());
    let mut wanted = BTreeSet::new();
    let mut stale = Vec::new();
    for (name, manifests) in &inputs {
        let world = world(manifests, "/etc/envoy/portcullis.wasm");
        for (kind, text) in [("xds", xds(name, &world)), ("status", statuses(&world))] {
            let path = folder().join(format!("{name}.{kind}.yaml"));
            wanted.insert(path.clone());
            if update {
                std::fs::write(&path, &text).expect("goldens can be written");
            }
            if std::fs::read_to_string(&path).unwrap_or_default() != text {
                stale.push(path.display().to_string());
            }
        }
    }
    for entry in std::fs::read_dir(folder()).expect("testdata exists") {
        let path = entry.expect("testdata can be listed").path();
        let output = path
            .to_str()
            .is_some_and(|path| path.ends_with(".xds.yaml") || path.ends_with(".status.yaml"));
        assert!(!output || wanted.contains(&path), "{} has no input", path.display());
    }
    assert!(
        stale.is_empty(),
        "changed; look at the difference after UPDATE_GOLDENS=1: {stale:#?}"
    );
}

fn xds(name: &str, world: &World) -> String {
    let mut shown = Vec::new();
    for configuration in &world.translation.configurations {
        let ports: Vec<String> = configuration
            .listeners
            .iter()
            .map(|port| {
                format!(
                    "{} {} bound {}: {}",
                    port.protocol,
                    port.port,
                    port.bound,
                    port.listeners.join(", ")
                )
            })
            .collect();
        let mut resources: Vec<Value> = configuration.resources.iter().map(show).collect();
        // One golden shows the chain; in the others it would hide what they are about.
        if name != "chain" && name != "geography" {
            resources.iter_mut().for_each(abbreviate);
        }
        shown.push(json!({ "gateway": configuration.gateway, "ports": ports, "resources": resources }));
    }
    let text = serde_saphyr::to_string(&shown).expect("resources print");
    name_policies(text, world)
}

/// Leaves of a connection manager only what differs between listeners.
fn abbreviate(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("http_filters") {
                let by_peer = fields.get("use_remote_address").is_some() && fields.get("skip_xff_append").is_none();
                fields.retain(|name, _| match name.as_str() {
                    "@type" | "stat_prefix" | "rds" => true,
                    "early_header_mutation_extensions"
                    | "original_ip_detection_extensions"
                    | "skip_xff_append"
                    | "use_remote_address" => !by_peer,
                    _ => false,
                });
            }
            // The answers where no route matches, and the redacted bodies, are the same everywhere.
            if let Some(name) = fields
                .get("name")
                .and_then(Value::as_str)
                .filter(|name| name.starts_with("status/"))
            {
                *value = json!(name);
                return;
            }
            if let Some(secrets) = fields.get_mut("typed_filter_metadata") {
                *secrets = secrets
                    .as_object()
                    .map(|secrets| json!(secrets.keys().collect::<Vec<_>>()))
                    .unwrap_or_default();
            }
            fields.values_mut().for_each(abbreviate);
        }
        Value::Array(items) => items.iter_mut().for_each(abbreviate),
        _ => {}
    }
}

fn name_policies(mut text: String, world: &World) -> String {
    let mut names: BTreeMap<&str, (String, &str)> = BTreeMap::new();
    names.insert(&world.none.hash, ("none".to_owned(), &world.none.document));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::from([("none", 1)]);
    for policy in world.attachment.policies.values() {
        if names.contains_key(policy.hash.as_str()) {
            continue;
        }
        let count = seen.entry(&policy.policy).or_default();
        *count += 1;
        let suffix = if *count == 1 {
            String::new()
        } else {
            format!(" {count}")
        };
        names.insert(&policy.hash, (format!("{}{suffix}", policy.policy), &policy.document));
    }
    for (hash, (name, document)) in names {
        for quoted in [
            format!("'{}'", document.replace('\'', "''")),
            format!("{document:?}"),
            document.to_owned(),
        ] {
            text = text.replace(&quoted, &format!("document of {name}"));
        }
        text = text.replace(hash, &format!("h of {name}"));
    }
    text
}

fn statuses(world: &World) -> String {
    let mut text = serde_saphyr::to_string(&json!({ "statuses": world.translation.statuses })).expect("statuses print");
    text.push_str("findings:\n");
    let mut findings: Vec<String> = world
        .translation
        .findings
        .iter()
        .map(|finding| {
            let fix = finding.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
            format!(
                "{:?} {} {} {}: {}{fix}",
                finding.severity, finding.code, finding.object, finding.path, finding.message
            )
        })
        .collect();
    findings.sort();
    for finding in findings {
        writeln!(text, "- {}", json!(finding)).expect("strings take text");
    }
    text
}

/// Every row on listeners, addresses and backends names a golden or a test that is there.
#[test]
fn documented_differences_name_what_shows_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/differences.md")).expect("the document is readable");
    let mut tests = String::new();
    for folder in ["controller/gateway/tests/gateway", "tests/tests", "controller/tests"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("tests can be listed") {
            let path = entry.expect("tests can be listed").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                tests.push_str(&std::fs::read_to_string(path).expect("tests are readable"));
            }
        }
    }
    let mut unknown = Vec::new();
    let rows = document.lines().filter(|line| {
        ["| ADDR-", "| TLS-", "| LISTENER-"]
            .iter()
            .any(|id| line.starts_with(id))
    });
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        for name in shown.split(", ").map(|name| name.trim_matches('`')) {
            let golden = folder().join(format!("{name}.in.yaml")).exists();
            if !golden && !tests.contains(&format!("fn {name}(")) {
                unknown.push(format!("{row}: no case {name:?}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}
