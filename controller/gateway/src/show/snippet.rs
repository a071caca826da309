//! A configuration without a control plane.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    open,
    redaction::{redact, walk},
};
use crate::{
    Configuration,
    bootstrap::{admin, runtime, stats},
    resource::{CLUSTER, LISTENER, LOAD_ASSIGNMENT, ROUTE_CONFIGURATION, SECRET},
};

/// Where a redacted snippet looks for certificates: `<folder>/<namespace>/<name>/tls.crt` and `tls.key`.
const CERTIFICATES: &str = "/etc/portcullis/certificates";

/// A whole bootstrap that serves a configuration by itself: what comes over xDS elsewhere stands in it.
///
/// Without `secrets`, certificates are named as files and what belongs to policies is `[redacted]`: the filter refuses
/// the routes of such a policy with 500, because its parts no longer match its name.
#[must_use]
pub fn snippet(configuration: &Configuration, secrets: bool) -> Value {
    let mut by_type: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for resource in &configuration.resources {
        let mut value = open(resource);
        if !secrets && resource.type_url == SECRET {
            name_files(&mut value, &resource.name);
        } else if !secrets {
            redact(&mut value);
        }
        strip_type(&mut value);
        by_type
            .entry(resource.type_url)
            .or_default()
            .insert(&resource.name, value);
    }
    let tables = by_type.remove(ROUTE_CONFIGURATION).unwrap_or_default();
    let assignments = by_type.remove(LOAD_ASSIGNMENT).unwrap_or_default();
    let mut listeners = by_type.remove(LISTENER).unwrap_or_default();
    let mut clusters = by_type.remove(CLUSTER).unwrap_or_default();
    for listener in listeners.values_mut() {
        inline_tables(listener, &tables);
        local_secrets(listener);
    }
    for (name, cluster) in &mut clusters {
        inline_endpoints(cluster, assignments.get(name));
    }
    let list = |resources: BTreeMap<&str, Value>| resources.into_values().collect::<Vec<_>>();
    let mut resources = Map::from_iter([
        ("listeners".to_owned(), json!(list(listeners))),
        ("clusters".to_owned(), json!(list(clusters))),
    ]);
    if let Some(secrets) = by_type.remove(SECRET) {
        resources.insert("secrets".to_owned(), json!(list(secrets)));
    }
    json!({
        "node": { "id": configuration.gateway, "cluster": configuration.gateway },
        "admin": admin("127.0.0.1", 9901),
        "stats_config": stats(),
        "layered_runtime": runtime(),
        "static_resources": resources,
    })
}

fn strip_type(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.remove("@type");
    }
}

/// Replaces a certificate by the files that hold it.
fn name_files(value: &mut Value, name: &str) {
    walk(value, &mut |secret| {
        if let Some(certificate) = secret.get_mut("tls_certificate") {
            *certificate = json!({
                "certificate_chain": { "filename": format!("{CERTIFICATES}/{name}/tls.crt") },
                "private_key": { "filename": format!("{CERTIFICATES}/{name}/tls.key") },
            });
        }
    });
}

/// Replaces every `rds` by its table.
fn inline_tables(value: &mut Value, tables: &BTreeMap<&str, Value>) {
    match value {
        Value::Object(fields) => {
            let name = fields
                .get("rds")
                .and_then(|rds| rds.get("route_config_name")?.as_str().map(str::to_owned));
            if let Some(table) = name.and_then(|name| tables.get(name.as_str())) {
                fields.remove("rds");
                fields.insert("route_config".to_owned(), table.clone());
            } else {
                fields.values_mut().for_each(|field| inline_tables(field, tables));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| inline_tables(item, tables)),
        _ => {}
    }
}

/// Takes secrets from `static_resources`: an `sds_config` without a source.
fn local_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("sds_config");
            fields.values_mut().for_each(local_secrets);
        }
        Value::Array(items) => items.iter_mut().for_each(local_secrets),
        _ => {}
    }
}

fn inline_endpoints(cluster: &mut Value, assignment: Option<&Value>) {
    let Value::Object(fields) = cluster else { return };
    if fields.remove("eds_cluster_config").is_some() {
        fields.insert("type".to_owned(), json!("STATIC"));
        let name = fields.get("name").cloned().unwrap_or_default();
        let empty = json!({ "cluster_name": name });
        fields.insert("load_assignment".to_owned(), assignment.cloned().unwrap_or(empty));
    }
}
