//! Which Secrets and ConfigMaps an object refers to: of all others no more than the name is read.

use serde_json::Value as Json;

/// The fields that refer to Secrets or ConfigMaps, in every kind that is read. One that names no kind means a Secret.
const FIELDS: &[&str] = &[
    "caCertificateRefs",
    "certificateRefs",
    "clientCertificateRef",
    "clientIDRef",
    "clientSecret",
    "credentialRefs",
    "users",
    "valueRef",
];

/// A Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) kind: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The kinds of which only what is referred to is read.
pub(crate) const ON_DEMAND: [&str; 2] = ["ConfigMap", "Secret"];

/// Whether objects of a kind are read only where others refer to them.
pub(crate) fn is_on_demand(kind: &str) -> bool {
    ON_DEMAND.contains(&kind)
}

/// What an object in a namespace refers to.
pub(crate) fn references(object: &Json, namespace: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    if let Some(spec) = object.get("spec") {
        walk(spec, namespace, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

fn walk(value: &Json, namespace: &str, found: &mut Vec<Reference>) {
    match value {
        Json::Array(values) => values.iter().for_each(|value| walk(value, namespace, found)),
        Json::Object(fields) => {
            for (name, value) in fields {
                if FIELDS.contains(&name.as_str()) {
                    match value {
                        Json::Array(values) => {
                            found.extend(values.iter().filter_map(|value| reference(value, namespace)));
                        }
                        value => found.extend(reference(value, namespace)),
                    }
                }
                walk(value, namespace, found);
            }
        }
        _ => {}
    }
}

fn reference(value: &Json, namespace: &str) -> Option<Reference> {
    let text = |name: &str| value.get(name).and_then(Json::as_str);
    let kind = text("kind").unwrap_or("Secret");
    let kind = ON_DEMAND.into_iter().find(|known| *known == kind)?;
    if text("group").is_some_and(|group| !group.is_empty()) {
        return None;
    }
    Some(Reference {
        kind,
        namespace: text("namespace").unwrap_or(namespace).to_owned(),
        name: text("name")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_object_refers_to_is_found_wherever_it_stands() {
        let object = json!({"spec": {
            "targetRefs": [{"kind": "HTTPRoute", "name": "orders"}],
            "apiKeyAuth": {"credentialRefs": [{"name": "keys"}, {"name": "more", "namespace": "other", "kind": "Secret", "group": ""}]},
            "jwt": {"providers": [{"localJWKS": {"valueRef": {"group": "", "kind": "ConfigMap", "name": "jwks"}}}]},
            "validation": {"caCertificateRefs": [{"group": "example.com", "kind": "Secret", "name": "none"}]},
            "backendRefs": [{"name": "service"}],
        }});
        let found: Vec<_> = references(&object, "shop")
            .into_iter()
            .map(|found| format!("{} {}/{}", found.kind, found.namespace, found.name))
            .collect();
        assert_eq!(found, ["ConfigMap shop/jwks", "Secret other/more", "Secret shop/keys"]);
    }

    /// Names fields whose schema has the shape of a reference to a Secret or a ConfigMap.
    fn suspects(name: &str, schema: &Json, found: &mut Vec<String>) {
        let schema = schema.get("items").unwrap_or(schema);
        let properties = schema.get("properties").and_then(Json::as_object);
        for (field, schema) in properties.into_iter().flatten() {
            suspects(field, schema, found);
        }
        let is = |field: &str| properties.is_some_and(|fields| fields.contains_key(field));
        let default = schema.pointer("/properties/kind/default").and_then(Json::as_str);
        if is("kind") && is("name") && default == Some("Secret") {
            found.push(name.to_owned());
        }
    }

    #[test]
    fn every_field_of_our_kinds_that_refers_to_a_secret_is_followed() {
        let mut found = Vec::new();
        for crd in portcullis_api::crds() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            suspects("", &schema["openAPIV3Schema"], &mut found);
        }
        found.sort();
        found.dedup();
        assert_eq!(
            found,
            [
                "clientCertificateRef",
                "clientIDRef",
                "clientSecret",
                "credentialRefs",
                "users"
            ]
        );
        assert!(found.iter().all(|field| FIELDS.contains(&field.as_str())));
    }
}
