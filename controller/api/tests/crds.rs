//! The definitions in `manifests/crds` are those of the types.

use std::{fs, path::PathBuf};

/// Where the definitions are.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds")
}

#[test]
fn the_definitions_in_the_manifests_are_those_of_the_types() {
    let mut expected = Vec::new();
    for crd in portcullis_api::crds() {
        let name = format!("{}.yaml", crd.metadata.name.as_deref().unwrap());
        let text = portcullis_api::to_yaml(&crd).unwrap();
        // `make crds` sets it.
        if std::env::var_os("PORTCULLIS_WRITE_CRDS").is_some() {
            fs::write(folder().join(&name), &text).unwrap();
        }
        let found = fs::read_to_string(folder().join(&name)).unwrap_or_default();
        assert!(
            found == text,
            "manifests/crds/{name} is not what the types say; run `make crds`"
        );
        expected.push(name);
    }
    let mut found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, expected, "manifests/crds holds other files");
}

#[test]
fn the_definition_of_security_policy_has_the_names_that_envoy_gateway_gives_it() {
    let crd = portcullis_api::crds().pop().unwrap();
    let names = &crd.spec.names;
    assert_eq!(crd.spec.group, "gateway.envoyproxy.io");
    assert_eq!(names.kind, "SecurityPolicy");
    assert_eq!(names.short_names.as_deref(), Some(&["sp".to_owned()][..]));
    assert_eq!(names.categories.as_deref(), Some(&["envoy-gateway".to_owned()][..]));
    assert_eq!(crd.spec.scope, "Namespaced");
    assert!(crd.spec.versions[0].subresources.as_ref().unwrap().status.is_some());
}

/// A structural schema has a type at every level, and no field may be null.
#[test]
fn every_schema_is_structural() {
    fn check(path: &str, schema: &serde_json::Value) {
        let any_type = ["x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
        let any_type = any_type.iter().any(|word| schema.get(word).is_some());
        assert!(schema.get("type").is_some() || any_type, "{path} has no type");
        assert!(schema.get("nullable").is_none(), "{path} may be null");
        for word in [
            "$ref",
            "oneOf",
            "anyOf",
            "allOf",
            "not",
            "additionalItems",
            "definitions",
        ] {
            assert!(schema.get(word).is_none(), "{path} has {word}");
        }
        if let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) {
            for (name, property) in properties {
                check(&format!("{path}.{name}"), property);
            }
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(inner) {
                check(&format!("{path}[]"), inner);
            }
        }
    }
    for crd in portcullis_api::crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap();
        check(&crd.spec.names.kind, &schema);
    }
}

#[test]
fn an_access_policy_has_every_field_and_rule_of_a_security_policy() {
    let schema = |kind: &str| {
        let crds = portcullis_api::crds();
        let crd = crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap();
        schema["properties"]["spec"].clone()
    };
    let (security, mut access) = (schema("SecurityPolicy"), schema("AccessPolicy"));
    // A principal of an AccessPolicy may be a certificate too; its rule says so.
    let principal = "/properties/authorization/properties/rules/items/properties/principal";
    let theirs = security.pointer(principal).unwrap();
    let ours = access.pointer_mut(principal).unwrap();
    assert!(theirs["properties"].get("clientCertificate").is_none());
    assert!(
        ours["properties"]
            .as_object_mut()
            .unwrap()
            .remove("clientCertificate")
            .is_some()
    );
    let (rule, message) = (
        &theirs["x-kubernetes-validations"][0],
        &mut ours["x-kubernetes-validations"][0],
    );
    assert_eq!(rule["rule"].as_str().unwrap().matches("has(").count(), 4);
    assert_eq!(message["rule"].as_str().unwrap().matches("has(").count(), 5);
    message.clone_from(rule);
    for (name, field) in security["properties"].as_object().unwrap() {
        assert_eq!(&access["properties"][name], field, "{name}");
    }
    let rules = access["x-kubernetes-validations"].as_array().unwrap();
    for rule in security["x-kubernetes-validations"].as_array().unwrap() {
        assert!(rules.contains(rule), "{rule}");
    }
    assert_eq!(access["required"], security["required"]);
    assert_eq!(
        access["properties"]["apiKeyExpiry"]["x-kubernetes-list-map-keys"],
        serde_json::json!(["clientID"])
    );
}
