//! The definitions of the custom resources, as an API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{
    access_policy::AccessPolicy, backend::Backend, client_traffic_policy::ClientTrafficPolicy, envoy_proxy::EnvoyProxy,
    rules::PRINCIPAL_PRESENT, security_policy::SecurityPolicy,
};

/// Lists the definitions of all custom resources, sorted by name.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        AccessPolicy::crd(),
        Backend::crd(),
        ClientTrafficPolicy::crd(),
        EnvoyProxy::crd(),
        SecurityPolicy::crd(),
    ];
    for crd in &mut crds {
        for version in &mut crd.spec.versions {
            if let Some(schema) = version
                .schema
                .as_mut()
                .and_then(|validation| validation.open_api_v3_schema.as_mut())
            {
                align(schema);
                if crd.spec.names.kind == "SecurityPolicy" {
                    without_certificates(schema);
                }
            }
        }
    }
    crds
}

/// Writes a definition as one YAML document, without a leading `---`.
///
/// # Errors
/// Fails only if the serializer cannot express the definition.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(crd)
}

/// Removes from rules what only an AccessPolicy has, wherever they are: the type of both kinds has it.
fn without_certificates(schema: &mut JSONSchemaProps) {
    let properties = schema.properties.as_mut();
    if let Some(properties) = properties {
        for (name, child) in properties.iter_mut() {
            let own = child.properties.as_mut();
            if name == "principal" && own.is_some_and(|own| own.remove("clientCertificate").is_some()) {
                let (rule, message) = PRINCIPAL_PRESENT;
                for validation in child.x_kubernetes_validations.iter_mut().flatten() {
                    rule.clone_into(&mut validation.rule);
                    validation.message = Some(message.to_owned());
                }
            }
            without_certificates(child);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        without_certificates(items);
    }
}

/// Removes what the derive adds and Envoy Gateway's schema does not have: an absent field is left out, never null.
fn align(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for child in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        align(child);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => align(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(align),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        align(values);
    }
}
