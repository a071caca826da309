//! How unhealthy endpoints are found.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::{DURATION, SUBDOMAIN};

/// How unhealthy endpoints are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// By asking them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveHealthCheck>,
    /// By what requests experience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveHealthCheck>,
    /// The share of unhealthy endpoints, in percent, from which health no longer counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: Option<i32>,
}

/// How endpoints are asked whether they are healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'HTTP' ? has(self.http) : !has(self.http)")
        .message("If Health Checker type is HTTP, http field needs to be set."),
    validation = Rule::new("self.type == 'TCP' ? has(self.tcp) : !has(self.tcp)")
        .message("If Health Checker type is TCP, tcp field needs to be set."),
    validation = Rule::new("has(self.grpc) ? self.type == 'GRPC' : true")
        .message("The grpc field can only be set if the Health Checker type is GRPC.")
)]
pub struct ActiveHealthCheck {
    /// How long to wait for an answer.
    #[serde(default = "one_second", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// The time between questions.
    #[serde(default = "three_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub interval: Option<String>,
    /// The longest random wait before the first question.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub initial_jitter: Option<String>,
    /// How many failures make an endpoint unhealthy.
    #[serde(default = "three", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub unhealthy_threshold: Option<i32>,
    /// How many successes make an endpoint healthy.
    #[serde(default = "one", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub healthy_threshold: Option<i32>,
    /// How they are asked.
    pub r#type: ActiveHealthCheckType,
    /// Over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpActiveHealthChecker>,
    /// Over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpActiveHealthChecker>,
    /// Over gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcActiveHealthChecker>,
    /// Where they are asked, if elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<HealthCheckOverrides>,
}

/// How endpoints are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ActiveHealthCheckType {
    /// By an HTTP request.
    Http,
    /// By bytes over a connection.
    Tcp,
    /// By `grpc.health.v1`.
    Grpc,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A question over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.requestBody) || (has(self.method) && self.method.upperAscii() in ['POST', 'PUT'])")
    .message("The requestBody field can only be set when method is POST or PUT."))]
pub struct HttpActiveHealthChecker {
    /// The host asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = SUBDOMAIN)
    )]
    pub hostname: Option<String>,
    /// The path asked for.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// The method, GET when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub method: Option<String>,
    /// The body of the question, for POST and PUT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<ActiveHealthCheckPayload>,
    /// Statuses that mean healthy; 200 when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub expected_statuses: Vec<i64>,
    /// Statuses that count towards the threshold instead of meaning unhealthy at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub retriable_statuses: Vec<i64>,
    /// The body that means healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_response: Option<ActiveHealthCheckPayload>,
}

/// A question over TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpActiveHealthChecker {
    /// The question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<ActiveHealthCheckPayload>,
    /// The answer that means healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<ActiveHealthCheckPayload>,
}

/// A question over gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcActiveHealthChecker {
    /// The service asked about; the whole server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// Where endpoints are asked, if elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckOverrides {
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// Bytes of a question or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'Text' ? has(self.text) : !has(self.text)")
        .message("If payload type is Text, text field needs to be set."),
    validation = Rule::new("self.type == 'Binary' ? has(self.binary) : !has(self.binary)")
        .message("If payload type is Binary, binary field needs to be set.")
)]
pub struct ActiveHealthCheckPayload {
    /// How the bytes are written.
    pub r#type: PayloadType,
    /// As text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "byte"))]
    pub binary: Option<String>,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PayloadType {
    /// As text.
    Text,
    /// In base64.
    Binary,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How unhealthy endpoints are found by what requests experience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassiveHealthCheck {
    /// Whether failures to reach an endpoint are counted apart from its answers.
    #[serde(default = "no", skip_serializing_if = "Option::is_none")]
    pub split_external_local_origin_errors: Option<bool>,
    /// The time between evaluations.
    #[serde(default = "three_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub interval: Option<String>,
    /// How many failures to reach an endpoint in a row eject it.
    #[serde(default = "five", skip_serializing_if = "Option::is_none")]
    pub consecutive_local_origin_failures: Option<i32>,
    /// How many answers of 502, 503 or 504 in a row eject it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<i32>,
    /// How many answers of 5xx in a row eject it.
    #[serde(
        rename = "consecutive5XxErrors",
        default = "five",
        skip_serializing_if = "Option::is_none"
    )]
    pub consecutive_5xx_errors: Option<i32>,
    /// How long an endpoint is first ejected.
    #[serde(default = "thirty_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub base_ejection_time: Option<String>,
    /// The largest share of endpoints that is ejected, in percent.
    #[serde(default = "ten", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<i32>,
    /// The share of failures that ejects an endpoint, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_percentage_threshold: Option<i32>,
    /// Whether at least one endpoint may be ejected whatever the largest share.
    #[serde(default = "no", skip_serializing_if = "Option::is_none")]
    pub always_eject_one_endpoint: Option<bool>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn one_second() -> Option<String> {
    Some("1s".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn three_seconds() -> Option<String> {
    Some("3s".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn thirty_seconds() -> Option<String> {
    Some("30s".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn one() -> Option<i32> {
    Some(1)
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn three() -> Option<i32> {
    Some(3)
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn five() -> Option<i32> {
    Some(5)
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn ten() -> Option<i32> {
    Some(10)
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn no() -> Option<bool> {
    Some(false)
}
