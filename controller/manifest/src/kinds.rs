//! The kinds that are read, and their schemas.

use std::sync::LazyLock;

use gateway_api::{
    backendtlspolicies::BackendTlsPolicy, experimental::tcproutes::TcpRoute, gatewayclasses::GatewayClass,
    gateways::Gateway, grpcroutes::GrpcRoute, httproutes::HttpRoute, listenersets::ListenerSet,
    referencegrants::ReferenceGrant,
};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{CustomResourceExt, core::schema::StructuralSchemaRewriter};
use portcullis_api::http_route::HttpRouteRetry;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value as Json, json};

use crate::{limits, schema::Schema};

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";
const PORTCULLIS: &str = "portcullis.dev";

/// A kind that is read.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    /// The versions that are read; the first one is the one of the types.
    pub(crate) versions: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// An API server decodes it itself and takes null for an absent field.
    pub(crate) built_in: bool,
    pub(crate) which: Which,
    schema: &'static LazyLock<Schema>,
}

/// The type of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    AccessPolicy,
    Backend,
    BackendTlsPolicy,
    ClientTrafficPolicy,
    ConfigMap,
    EndpointSlice,
    EnvoyProxy,
    Gateway,
    GatewayClass,
    GrpcRoute,
    HttpRoute,
    ListenerSet,
    Namespace,
    ReferenceGrant,
    Secret,
    SecurityPolicy,
    Service,
    TcpRoute,
}

impl Kind {
    pub(crate) fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// The `apiVersion` of the types.
    pub(crate) fn api_version(&self) -> String {
        let version = self.versions.first().copied().unwrap_or_default();
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }
}

/// All kinds that are read, sorted by name.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        name: "AccessPolicy",
        group: PORTCULLIS,
        versions: &["v1alpha1"],
        namespaced: true,
        built_in: false,
        which: Which::AccessPolicy,
        schema: &ACCESS_POLICY,
    },
    Kind {
        name: "Backend",
        group: ENVOY_GATEWAY,
        versions: &["v1alpha1"],
        namespaced: true,
        built_in: false,
        which: Which::Backend,
        schema: &BACKEND,
    },
    Kind {
        name: "BackendTLSPolicy",
        group: GATEWAY_API,
        versions: &["v1"],
        namespaced: true,
        built_in: false,
        which: Which::BackendTlsPolicy,
        schema: &BACKEND_TLS_POLICY,
    },
    Kind {
        name: "ClientTrafficPolicy",
        group: ENVOY_GATEWAY,
        versions: &["v1alpha1"],
        namespaced: true,
        built_in: false,
        which: Which::ClientTrafficPolicy,
        schema: &CLIENT_TRAFFIC_POLICY,
    },
    Kind {
        name: "ConfigMap",
        group: "",
        versions: &["v1"],
        namespaced: true,
        built_in: true,
        which: Which::ConfigMap,
        schema: &CONFIG_MAP,
    },
    Kind {
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        versions: &["v1"],
        namespaced: true,
        built_in: true,
        which: Which::EndpointSlice,
        schema: &ENDPOINT_SLICE,
    },
    Kind {
        name: "EnvoyProxy",
        group: ENVOY_GATEWAY,
        versions: &["v1alpha1"],
        namespaced: true,
        built_in: false,
        which: Which::EnvoyProxy,
        schema: &ENVOY_PROXY,
    },
    Kind {
        name: "GRPCRoute",
        group: GATEWAY_API,
        versions: &["v1"],
        namespaced: true,
        built_in: false,
        which: Which::GrpcRoute,
        schema: &GRPC_ROUTE,
    },
    Kind {
        name: "Gateway",
        group: GATEWAY_API,
        versions: &["v1", "v1beta1"],
        namespaced: true,
        built_in: false,
        which: Which::Gateway,
        schema: &GATEWAY,
    },
    Kind {
        name: "GatewayClass",
        group: GATEWAY_API,
        versions: &["v1", "v1beta1"],
        namespaced: false,
        built_in: false,
        which: Which::GatewayClass,
        schema: &GATEWAY_CLASS,
    },
    Kind {
        name: "HTTPRoute",
        group: GATEWAY_API,
        versions: &["v1", "v1beta1"],
        namespaced: true,
        built_in: false,
        which: Which::HttpRoute,
        schema: &HTTP_ROUTE,
    },
    Kind {
        name: "ListenerSet",
        group: GATEWAY_API,
        versions: &["v1"],
        namespaced: true,
        built_in: false,
        which: Which::ListenerSet,
        schema: &LISTENER_SET,
    },
    Kind {
        name: "Namespace",
        group: "",
        versions: &["v1"],
        namespaced: false,
        built_in: true,
        which: Which::Namespace,
        schema: &NAMESPACE,
    },
    Kind {
        name: "ReferenceGrant",
        group: GATEWAY_API,
        versions: &["v1", "v1beta1"],
        namespaced: true,
        built_in: false,
        which: Which::ReferenceGrant,
        schema: &REFERENCE_GRANT,
    },
    Kind {
        name: "Secret",
        group: "",
        versions: &["v1"],
        namespaced: true,
        built_in: true,
        which: Which::Secret,
        schema: &SECRET,
    },
    Kind {
        name: "SecurityPolicy",
        group: ENVOY_GATEWAY,
        versions: &["v1alpha1"],
        namespaced: true,
        built_in: false,
        which: Which::SecurityPolicy,
        schema: &SECURITY_POLICY,
    },
    Kind {
        name: "Service",
        group: "",
        versions: &["v1"],
        namespaced: true,
        built_in: true,
        which: Which::Service,
        schema: &SERVICE,
    },
    Kind {
        name: "TCPRoute",
        group: GATEWAY_API,
        versions: &["v1", "v1alpha2", "v1alpha3"],
        namespaced: true,
        built_in: false,
        which: Which::TcpRoute,
        schema: &TCP_ROUTE,
    },
];

static ACCESS_POLICY: LazyLock<Schema> = LazyLock::new(|| ours("AccessPolicy"));
static BACKEND: LazyLock<Schema> = LazyLock::new(|| ours("Backend"));
static BACKEND_TLS_POLICY: LazyLock<Schema> =
    LazyLock::new(|| limited(&BackendTlsPolicy::crd(), limits::BACKEND_TLS_POLICY));
static CLIENT_TRAFFIC_POLICY: LazyLock<Schema> = LazyLock::new(|| ours("ClientTrafficPolicy"));
static CONFIG_MAP: LazyLock<Schema> = LazyLock::new(built_in::<ConfigMap>);
static ENDPOINT_SLICE: LazyLock<Schema> = LazyLock::new(built_in::<EndpointSlice>);
static ENVOY_PROXY: LazyLock<Schema> = LazyLock::new(|| ours("EnvoyProxy"));
static GATEWAY: LazyLock<Schema> = LazyLock::new(|| with_listeners(&Gateway::crd(), limits::GATEWAY));
static GATEWAY_CLASS: LazyLock<Schema> = LazyLock::new(|| limited(&GatewayClass::crd(), limits::GATEWAY_CLASS));
static GRPC_ROUTE: LazyLock<Schema> =
    LazyLock::new(|| limited_in_parts(defined(&GrpcRoute::crd()), limits::GRPC_ROUTE));
static HTTP_ROUTE: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = defined(&HttpRoute::crd());
    if let Some(rule) = schema.at("spec.rules[]") {
        let retry = Schema::compile(&structural::<HttpRouteRetry>());
        rule.properties.insert("retry".to_owned(), retry);
    }
    limited_in_parts(schema, limits::HTTP_ROUTE)
});
static LISTENER_SET: LazyLock<Schema> = LazyLock::new(|| with_listeners(&ListenerSet::crd(), limits::LISTENER_SET));
static NAMESPACE: LazyLock<Schema> = LazyLock::new(built_in::<Namespace>);
static REFERENCE_GRANT: LazyLock<Schema> = LazyLock::new(|| limited(&ReferenceGrant::crd(), limits::REFERENCE_GRANT));
static SECRET: LazyLock<Schema> = LazyLock::new(built_in::<Secret>);
static SECURITY_POLICY: LazyLock<Schema> = LazyLock::new(|| ours("SecurityPolicy"));
static SERVICE: LazyLock<Schema> = LazyLock::new(built_in::<Service>);
static TCP_ROUTE: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = limited(&TcpRoute::crd(), limits::TCP_ROUTE);
    // Only the experimental channel has it, and it would attach the route to Gateways that it does not name.
    if let Some(spec) = schema.at("spec") {
        spec.properties.remove("useDefaultGateways");
    }
    schema
});

static METADATA: LazyLock<Json> = LazyLock::new(described::<ObjectMeta>);

static OURS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(portcullis_api::crds);

/// The schema of one of our own definitions, as it is installed.
fn ours(kind: &str) -> Schema {
    OURS.iter()
        .find(|crd| crd.spec.names.kind == kind)
        .map(defined)
        .unwrap_or_default()
}

/// The schema of a Gateway API kind: its types hold no limits, so they are added.
fn limited(crd: &CustomResourceDefinition, limits: &[(&str, limits::Limit)]) -> Schema {
    let mut schema = defined(crd);
    limits::apply(&mut schema, limits);
    schema
}

/// The schema of a kind that has listeners.
fn with_listeners(crd: &CustomResourceDefinition, limits: &[(&str, limits::Limit)]) -> Schema {
    let mut schema = limited(crd, limits);
    limits::apply(&mut schema, limits::LISTENERS);
    schema
}

/// Adds limits that are given below several fields.
fn limited_in_parts(mut schema: Schema, parts: &[(&str, &[(&str, limits::Limit)])]) -> Schema {
    for (prefix, limits) in parts {
        if let Some(part) = schema.at(prefix) {
            limits::apply(part, limits);
        }
    }
    schema
}

fn defined(crd: &CustomResourceDefinition) -> Schema {
    let schema = crd
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref())
        .and_then(|validation| validation.open_api_v3_schema.as_ref())
        .and_then(|schema| serde_json::to_value(schema).ok());
    complete(schema.unwrap_or_default())
}

fn built_in<T: JsonSchema>() -> Schema {
    complete(described::<T>())
}

/// The schema of a type that is built into an API server: of an object of which it says nothing, such as `fieldsV1`, everything
/// stays. Of such an object in a definition nothing does.
fn described<T: JsonSchema>() -> Json {
    let mut schema = structural::<T>();
    open_unsaid(&mut schema);
    schema
}

fn open_unsaid(schema: &mut Json) {
    if let Some(fields) = schema.as_object_mut() {
        let says = |name: &str| fields.contains_key(name);
        if fields.get("type").is_some_and(|kind| kind == "object")
            && !says("properties")
            && !says("additionalProperties")
        {
            fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), Json::Bool(true));
        }
        for name in ["items", "additionalProperties"] {
            fields.get_mut(name).into_iter().for_each(open_unsaid);
        }
        let properties = fields.get_mut("properties").and_then(Json::as_object_mut);
        properties
            .into_iter()
            .flat_map(|properties| properties.values_mut())
            .for_each(open_unsaid);
    }
}

fn structural<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(StructuralSchemaRewriter);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Adds what every object has.
fn complete(mut schema: Json) -> Schema {
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        properties.insert("metadata".to_owned(), METADATA.clone());
    }
    Schema::compile(&schema)
}

#[cfg(test)]
mod tests {
    use super::KINDS;
    use crate::schema::Kind;

    #[test]
    fn every_kind_has_a_closed_schema() {
        assert!(KINDS.is_sorted_by(|one, other| one.name < other.name));
        for kind in KINDS {
            let schema = kind.schema();
            assert_eq!(schema.kind, Kind::Object, "{}", kind.name);
            assert!(!schema.open, "{}", kind.name);
            let metadata = schema.field("metadata").unwrap_or_else(|| panic!("{}", kind.name));
            assert!(metadata.field("labels").is_some() && !metadata.open, "{}", kind.name);
        }
    }
}
