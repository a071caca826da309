//! How requests are spread over endpoints.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::DURATION;

/// How requests are spread over endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'ConsistentHash' ? has(self.consistentHash) : !has(self.consistentHash)")
        .message("If LoadBalancer type is consistentHash, consistentHash field needs to be set."),
    validation = Rule::new("self.type == 'BackendUtilization' ? has(self.backendUtilization) : !has(self.backendUtilization)")
        .message("If LoadBalancer type is BackendUtilization, backendUtilization field needs to be set."),
    validation = Rule::new("self.type == 'DynamicModule' ? has(self.dynamicModule) : !has(self.dynamicModule)")
        .message("If LoadBalancer type is DynamicModule, dynamicModule field needs to be set."),
    validation = Rule::new("self.type in ['Random', 'ConsistentHash', 'DynamicModule'] ? !has(self.slowStart) : true")
        .message("Currently SlowStart is only supported for RoundRobin, LeastRequest, and BackendUtilization load balancers."),
    validation = Rule::new("self.type == 'ConsistentHash' && has(self.zoneAware) ? !has(self.zoneAware.preferLocal) : true")
        .message("PreferLocal zone-aware routing is not supported for ConsistentHash load balancers. Use weightedZones instead."),
    validation = Rule::new("self.type == 'BackendUtilization' && has(self.zoneAware) ? !has(self.zoneAware.preferLocal) : true")
        .message("PreferLocal zone-aware routing is not currently supported for BackendUtilization load balancers. Only WeightedZones can be used with BackendUtilization."),
    validation = Rule::new("self.type == 'DynamicModule' ? !has(self.zoneAware) : true")
        .message("ZoneAware routing is not supported for DynamicModule load balancers."),
    validation = Rule::new("has(self.zoneAware) ? !(has(self.zoneAware.preferLocal) && has(self.zoneAware.weightedZones)) : true")
        .message("ZoneAware PreferLocal and WeightedZones cannot be specified together."),
    validation = Rule::new("self.type == 'DynamicModule' ? !has(self.endpointOverride) : true")
        .message("EndpointOverride is not supported for DynamicModule load balancers.")
)]
pub struct LoadBalancer {
    /// How an endpoint is chosen.
    pub r#type: LoadBalancerType,
    /// For `ConsistentHash`: what is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// For `BackendUtilization`: how load reports count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_utilization: Option<BackendUtilization>,
    /// For `DynamicModule`: the module that chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_module: Option<DynamicModuleLoadBalancer>,
    /// Endpoints that a request may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_override: Option<EndpointOverride>,
    /// How new endpoints warm up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// How zones count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_aware: Option<ZoneAware>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerType {
    /// By a hash of the request.
    ConsistentHash,
    /// The one with the fewest requests.
    LeastRequest,
    /// By chance.
    Random,
    /// In turn.
    RoundRobin,
    /// By reported load.
    BackendUtilization,
    /// By a module loaded into the proxy.
    DynamicModule,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What is hashed to choose an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'Header' ? has(self.header) : !has(self.header)")
        .message("If consistent hash type is header, the header field must be set."),
    validation = Rule::new("self.type == 'Headers' ? has(self.headers) : !has(self.headers)")
        .message("If consistent hash type is headers, the headers field must be set."),
    validation = Rule::new("self.type == 'Cookie' ? has(self.cookie) : !has(self.cookie)")
        .message("If consistent hash type is cookie, the cookie field must be set."),
    validation = Rule::new("self.type == 'QueryParams' ? has(self.queryParams) : !has(self.queryParams)")
        .message("If consistent hash type is queryParams, the queryParams field must be set.")
)]
pub struct ConsistentHash {
    /// The part of the request.
    pub r#type: ConsistentHashType,
    /// A request header. Deprecated: use `headers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HashName>,
    /// Request headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HashName>,
    /// A cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<HashCookie>,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<HashName>,
    /// The size of the table, a prime.
    #[serde(default = "table_size", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 5000011))]
    pub table_size: Option<i64>,
}

/// The part of a request that is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConsistentHashType {
    /// The client's address.
    #[serde(rename = "SourceIP")]
    SourceIp,
    /// A request header.
    Header,
    /// Request headers.
    Headers,
    /// A cookie.
    Cookie,
    /// Query parameters.
    QueryParams,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// The name of a header or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashName {
    /// The name.
    pub name: String,
}

/// A cookie, made if a request carries none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// How long it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub ttl: Option<String>,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// How load reports (ORCA) count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendUtilization {
    /// How long an endpoint must report before its reports count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub blackout_period: Option<String>,
    /// When the weight of an endpoint that no longer reports is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub weight_expiration_period: Option<String>,
    /// How often weights are computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub weight_update_period: Option<String>,
    /// How much errors weigh, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub error_utilization_penalty_percent: Option<i32>,
    /// Metrics that count where the application reports no utilization.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_names_for_computing_utilization: Vec<String>,
    /// Reports that are asked for; only those in answers count when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oob: Option<OutOfBandReports>,
    /// Whether clients see the load reports.
    #[serde(default = "no", skip_serializing_if = "Option::is_none")]
    pub keep_response_headers: Option<bool>,
}

/// Load reports that the proxy asks the endpoints for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutOfBandReports {
    /// How often they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub reporting_period: Option<String>,
    /// The port that is asked; the endpoint's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The authority of the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[^\x00\n\r]*$"))]
    pub authority: Option<String>,
}

/// A module that chooses endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicModuleLoadBalancer {
    /// The module, as the proxy's own settings name it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
    /// The policy inside the module.
    #[serde(rename = "lbPolicyName")]
    #[schemars(length(min = 1, max = 253))]
    pub lb_policy_name: String,
    /// What the module is given; any JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub config: Option<serde_json::Value>,
}

fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Endpoints that a request may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointOverride {
    /// Where a request names them.
    #[schemars(length(min = 1, max = 10))]
    pub extract_from: Vec<EndpointOverrideSource>,
}

/// Where a request names endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointOverrideSource {
    /// A request header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// How new endpoints warm up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlowStart {
    /// How long that takes.
    #[schemars(regex(pattern = DURATION))]
    pub window: String,
}

/// How zones count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneAware {
    /// The own zone first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer_local: Option<PreferLocalZone>,
    /// By weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["zone"]))]
    pub weighted_zones: Vec<WeightedZone>,
}

/// How the own zone comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferLocalZone {
    /// All requests stay in the zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<ForceLocalZone>,
    /// The least number of endpoints of all zones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_endpoints_threshold: Option<i64>,
    /// The share of requests, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percentage_enabled: Option<i32>,
}

/// All requests stay in the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForceLocalZone {
    /// The least number of endpoints of the zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_endpoints_in_zone_threshold: Option<i32>,
}

/// The weight of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightedZone {
    /// The zone, as the label `topology.kubernetes.io/zone` names it.
    pub zone: String,
    /// Its weight; zones that are not listed weigh 1.
    pub weight: i32,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn table_size() -> Option<i64> {
    Some(65537)
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn no() -> Option<bool> {
    Some(false)
}
