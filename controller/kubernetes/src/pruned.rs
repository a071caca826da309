//! Fields of our definitions that an installed, older one lacks: an API server drops them from what is written, without a word.

use std::time::Duration;

use http::Request;
use kube::{Client, core::ApiResource};
use serde_json::Value as Json;

/// How often a definition that was installed just now is looked for, and how long between.
const ATTEMPTS: usize = 5;
const BETWEEN: Duration = Duration::from_secs(2);

/// The most fields that are named.
const NAMED: usize = 12;

/// Says which fields of a kind would be lost; nothing if none is, if the kind is not one of ours, or if the API server does
/// not say what it has.
pub(crate) async fn report(client: &Client, resource: &ApiResource) -> Option<String> {
    let ours = portcullis_api::crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == resource.kind)?;
    let ours = ours
        .spec
        .versions
        .first()?
        .schema
        .as_ref()?
        .open_api_v3_schema
        .as_ref()?;
    let ours = serde_json::to_value(ours).ok()?;
    for _ in 0..ATTEMPTS {
        if let Some(theirs) = installed(client, resource).await {
            return told(&resource.kind, &lacking(&ours, &theirs));
        }
        tokio::time::sleep(BETWEEN).await;
    }
    None
}

/// The schema of a kind as the API server publishes it, which everyone may read.
async fn installed(client: &Client, resource: &ApiResource) -> Option<Json> {
    let path = format!("/openapi/v3/apis/{}", resource.api_version);
    let request = Request::get(path).body(Vec::new()).ok()?;
    let mut document: Json = client.request(request).await.ok()?;
    let schemas = document.pointer_mut("/components/schemas")?.as_object_mut()?;
    let is_kind = |schema: &&mut Json| {
        let kinds = schema.get("x-kubernetes-group-version-kind").and_then(Json::as_array);
        kinds.into_iter().flatten().any(|kind| {
            kind.get("kind").and_then(Json::as_str) == Some(&resource.kind)
                && kind.get("version").and_then(Json::as_str) == Some(&resource.version)
        })
    };
    schemas.values_mut().find(is_kind).map(Json::take)
}

/// The fields below `spec` that the one schema has and the other lacks; of a field that is lacking, nothing below.
fn lacking(ours: &Json, theirs: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    if let (Some(ours), Some(theirs)) = (ours.pointer("/properties/spec"), theirs.pointer("/properties/spec")) {
        compare(ours, theirs, "spec", &mut paths);
    }
    paths
}

fn compare(ours: &Json, theirs: &Json, path: &str, paths: &mut Vec<String>) {
    if theirs.get("x-kubernetes-preserve-unknown-fields") == Some(&Json::Bool(true)) {
        return;
    }
    for (name, field) in ours.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let path = format!("{path}.{name}");
        match theirs.get("properties").and_then(|fields| fields.get(name)) {
            Some(other) => compare(field, other, &path, paths),
            None => paths.push(path),
        }
    }
    for below in ["items", "additionalProperties"] {
        if let (Some(ours), Some(theirs)) = (ours.get(below), theirs.get(below)) {
            compare(ours, theirs, &format!("{path}[]"), paths);
        }
    }
}

fn told(kind: &str, paths: &[String]) -> Option<String> {
    if paths.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = paths.iter().take(NAMED).map(String::as_str).collect();
    let more = format!("{} more", paths.len().saturating_sub(NAMED));
    if paths.len() > NAMED {
        names.push(&more);
    }
    Some(format!(
        "the installed definition of {kind} lacks fields, which the cluster drops from what is written: {}; install the one that `portcullis crds` prints",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_an_older_definition_lacks_is_named_once() {
        let ours = json!({"properties": {"spec": {"properties": {
            "jwt": {"properties": {"providers": {"items": {"properties": {"name": {}, "leeway": {}}}}}},
            "baseline": {},
            "open": {"properties": {"anything": {}}},
        }}}});
        let theirs = json!({"properties": {"spec": {"properties": {
            "jwt": {"properties": {"providers": {"items": {"properties": {"name": {}}}}}},
            "open": {"x-kubernetes-preserve-unknown-fields": true},
        }}}});
        assert_eq!(
            lacking(&ours, &theirs),
            ["spec.baseline", "spec.jwt.providers[].leeway"]
        );
        assert!(lacking(&ours, &ours).is_empty());
        assert!(
            told("AccessPolicy", &lacking(&ours, &theirs))
                .unwrap()
                .contains("spec.baseline, spec.jwt")
        );
    }
}
