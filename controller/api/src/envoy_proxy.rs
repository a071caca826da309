//! `EnvoyProxy` of `gateway.envoyproxy.io/v1alpha1`: the databases of places with the schema and the CEL rules of Envoy Gateway
//! 1.9; its other fields are known by name and hold any value.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a GatewayClass or a Gateway says of its proxies. Only `geoIP` has an effect.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "EnvoyProxy",
    plural = "envoyproxies",
    shortname = "eproxy",
    category = "envoy-gateway",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "What a GatewayClass or a Gateway says of its proxies."
)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyProxySpec {
    /// Databases that tell where a client's address is.
    #[serde(rename = "geoIP", default, skip_serializing_if = "Option::is_none")]
    pub geo_ip: Option<GeoIp>,
    /// Where proxies run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub provider: Option<Value>,
    /// Logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub logging: Option<Value>,
    /// Metrics, access logs and traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub telemetry: Option<Value>,
    /// The proxy's bootstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub bootstrap: Option<Value>,
    /// The number of workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub concurrency: Option<Value>,
    /// Whether Services or their endpoints are routed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub routing_type: Option<Value>,
    /// Further arguments of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub extra_args: Option<Value>,
    /// Whether Gateways share proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub merge_gateways: Option<Value>,
    /// How it is merged with that of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub merge_type: Option<Value>,
    /// How proxies end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub shutdown: Option<Value>,
    /// The order of filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub filter_order: Option<Value>,
    /// TLS towards backends.
    #[serde(rename = "backendTLS", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub backend_tls: Option<Value>,
    /// The family of addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub ip_family: Option<Value>,
    /// Whether routes keep their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub preserve_route_order: Option<Value>,
    /// How scripts are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub lua_validation: Option<Value>,
    /// Modules that may be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub dynamic_modules: Option<Value>,
}

/// Databases that tell where a client's address is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeoIp {
    /// Who makes them.
    pub provider: GeoIpProvider,
}

/// Who makes databases of places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'MaxMind' ? has(self.maxMind) : !has(self.maxMind)")
    .message("if type is MaxMind, maxMind must be set"))]
pub struct GeoIpProvider {
    /// The form of the databases.
    #[serde(default)]
    pub r#type: GeoIpProviderType,
    /// Databases in the form of `MaxMind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_mind: Option<MaxMind>,
}

/// The form of databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GeoIpProviderType {
    /// Files of the form `.mmdb`.
    #[default]
    MaxMind,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Databases in the form of `MaxMind`, one of them at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cityDbSource) || has(self.countryDbSource) || has(self.asnDbSource) || has(self.ispDbSource) || has(self.anonymousIpDbSource)")
    .message("at least one MaxMind database source must be specified"))]
pub struct MaxMind {
    /// Countries, regions and cities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city_db_source: Option<DatabaseSource>,
    /// Countries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_db_source: Option<DatabaseSource>,
    /// Autonomous systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn_db_source: Option<DatabaseSource>,
    /// Internet service providers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isp_db_source: Option<DatabaseSource>,
    /// Addresses that hide their users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_ip_db_source: Option<DatabaseSource>,
}

/// Where a database comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSource {
    /// A file that the proxy can read.
    pub local: LocalDatabase,
}

/// A database in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalDatabase {
    /// The whole path of the file, as the proxy sees it.
    #[schemars(length(min = 1), regex(pattern = r"^.*\.mmdb$"))]
    pub path: String,
}

/// The schema of a field that holds any value.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

impl EnvoyProxySpec {
    /// Returns the names of the fields that are set and have no effect.
    #[must_use]
    pub fn unused(&self) -> Vec<&'static str> {
        let set = [
            ("provider", self.provider.is_some()),
            ("logging", self.logging.is_some()),
            ("telemetry", self.telemetry.is_some()),
            ("bootstrap", self.bootstrap.is_some()),
            ("concurrency", self.concurrency.is_some()),
            ("routingType", self.routing_type.is_some()),
            ("extraArgs", self.extra_args.is_some()),
            ("mergeGateways", self.merge_gateways.is_some()),
            ("mergeType", self.merge_type.is_some()),
            ("shutdown", self.shutdown.is_some()),
            ("filterOrder", self.filter_order.is_some()),
            ("backendTLS", self.backend_tls.is_some()),
            ("ipFamily", self.ip_family.is_some()),
            ("preserveRouteOrder", self.preserve_route_order.is_some()),
            ("luaValidation", self.lua_validation.is_some()),
            ("dynamicModules", self.dynamic_modules.is_some()),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }
}
