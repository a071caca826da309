//! How connections to the backends of a policy behave (`backendSettings`).

mod health_check;
mod load_balancer;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    health_check::{
        ActiveHealthCheck, ActiveHealthCheckPayload, ActiveHealthCheckType, GrpcActiveHealthChecker, HealthCheck,
        HealthCheckOverrides, HttpActiveHealthChecker, PassiveHealthCheck, PayloadType, TcpActiveHealthChecker,
    },
    load_balancer::{
        BackendUtilization, ConsistentHash, ConsistentHashType, DynamicModuleLoadBalancer, EndpointOverride,
        EndpointOverrideSource, ForceLocalZone, HashCookie, HashName, LoadBalancer, LoadBalancerType, OutOfBandReports,
        PreferLocalZone, SlowStart, WeightedZone, ZoneAware,
    },
};
use crate::{
    pattern::{DURATION, SIZE},
    security_policy::Fraction,
};

/// Connection, retry, timeout and balancing settings of a set of backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!((has(self.connection) && has(self.connection.preconnect) && has(self.connection.preconnect.predictivePercent)) && !(has(self.loadBalancer) && has(self.loadBalancer.type) && self.loadBalancer.type in ['Random', 'RoundRobin']))")
    .message("predictivePercent in preconnect policy only works with RoundRobin or Random load balancers"))]
pub struct ClusterSettings {
    /// How requests are spread over endpoints; least requests when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Which requests are sent again; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Whether the client's address is told by the PROXY protocol; not told when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TCP keep-alive; off when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How unhealthy endpoints are found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How much may be under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How long to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Buffers and connections made ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<BackendConnection>,
    /// How names are resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<Http2Settings>,
}

/// Which requests are sent again, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often a request is sent again.
    #[serde(default = "two", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub num_retries: Option<i32>,
    /// How many attempts go to endpoints of one priority before the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_attempts_per_priority: Option<i32>,
    /// What makes a request be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<RetryOn>,
    /// Limits of each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_retry: Option<PerRetry>,
}

/// What makes a request be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryOn {
    /// Kinds of failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<RetryTrigger>,
    /// Statuses of the answer, for the trigger `retriable-status-codes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 100, max = 599)))]
    pub http_status_codes: Vec<i64>,
}

/// A kind of failure that makes a request be sent again (Envoy's `x-envoy-retry-on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryTrigger {
    /// An answer of 5xx, or none.
    #[serde(rename = "5xx")]
    ServerError,
    /// An answer of 502, 503 or 504.
    GatewayError,
    /// A reset stream.
    Reset,
    /// A stream reset before the request was sent.
    ResetBeforeRequest,
    /// A connection that could not be made.
    ConnectFailure,
    /// An answer of 409.
    #[serde(rename = "retriable-4xx")]
    RetriableClientError,
    /// A stream refused by the backend.
    RefusedStream,
    /// A listed status.
    RetriableStatusCodes,
    /// gRPC CANCELLED.
    Cancelled,
    /// gRPC DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// gRPC INTERNAL.
    Internal,
    /// gRPC RESOURCE_EXHAUSTED.
    ResourceExhausted,
    /// gRPC UNAVAILABLE.
    Unavailable,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Limits of each attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerRetry {
    /// How long an attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// How long to wait between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// How long to wait between attempts, growing exponentially.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// The first wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub base_interval: Option<String>,
    /// The longest wait; ten times the first when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub max_interval: Option<String>,
}

/// How the client's address is told by the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// The version of the protocol.
    pub version: ProxyProtocolVersion,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocolVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// TCP keep-alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// How many probes may stay unanswered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<i32>,
    /// How long a connection is idle before the first probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub idle_time: Option<String>,
    /// The time between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub interval: Option<String>,
}

/// How much may be under way at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections.
    #[serde(default = "thousand", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_i64))]
    pub max_connections: Option<i64>,
    /// Requests that wait for a connection.
    #[serde(default = "thousand", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_i64))]
    pub max_pending_requests: Option<i64>,
    /// Requests.
    #[serde(default = "thousand", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_i64))]
    pub max_parallel_requests: Option<i64>,
    /// Repeated requests.
    #[serde(default = "thousand", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_i64))]
    pub max_parallel_retries: Option<i64>,
    /// Requests over one connection; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_i64))]
    pub max_requests_per_connection: Option<i64>,
    /// Limits for each endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_endpoint: Option<PerEndpointCircuitBreaker>,
    /// Repeated requests as a share of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// How much may be under way at one endpoint at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerEndpointCircuitBreaker {
    /// Connections.
    #[serde(default = "thousand", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_i64))]
    pub max_connections: Option<i64>,
}

/// Repeated requests as a share of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// The share.
    pub percent: Fraction,
    /// How many repeated requests are always allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_retry_concurrency: Option<i32>,
}

/// How long to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeout {
    /// For connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpTimeout>,
    /// For requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTimeout>,
}

/// How long to wait for connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpTimeout {
    /// For a connection, TLS included; ten seconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub connect_timeout: Option<String>,
}

/// How long to wait for requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// For a connection without requests; one hour when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub connection_idle_timeout: Option<String>,
    /// For a connection altogether.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub max_connection_duration: Option<String>,
    /// For a stream altogether.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub max_stream_duration: Option<String>,
    /// For the whole answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub request_timeout: Option<String>,
    /// For a stream without any activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub stream_idle_timeout: Option<String>,
}

/// Buffers and connections made ahead.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendConnection {
    /// The size of the proxy's buffers, as `32Ki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = SIZE))]
    pub buffer_limit: Option<IntOrString>,
    /// The size of the sockets' buffers, as `32Ki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = SIZE))]
    pub socket_buffer_limit: Option<IntOrString>,
    /// Connections made ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconnect: Option<Preconnect>,
}

/// Connections made ahead, in percent of those needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preconnect {
    /// To each endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 300))]
    pub per_endpoint_percent: Option<i32>,
    /// To all endpoints together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100))]
    pub predictive_percent: Option<i32>,
}

/// How names are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// The time between resolutions; thirty seconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub dns_refresh_rate: Option<String>,
    /// Whether the record's own time to live counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respect_dns_ttl: Option<bool>,
    /// The families of addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_family: Option<DnsLookupFamily>,
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DnsLookupFamily {
    /// IPv4 alone.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6 alone.
    #[serde(rename = "IPv6")]
    V6,
    /// IPv4, IPv6 where there is none.
    #[serde(rename = "IPv4Preferred")]
    V4Preferred,
    /// IPv6, IPv4 where there is none.
    #[serde(rename = "IPv6Preferred")]
    V6Preferred,
    /// Both.
    #[serde(rename = "IPv4AndIPv6")]
    Both,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http2Settings {
    /// The window of a stream, as `64Ki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = SIZE))]
    pub initial_stream_window_size: Option<IntOrString>,
    /// The window of a connection, as `1Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = SIZE))]
    pub initial_connection_window_size: Option<IntOrString>,
    /// Streams of one connection at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub max_concurrent_streams: Option<i32>,
    /// `TerminateConnection` or `TerminateStream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_invalid_message: Option<String>,
    /// PING frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_keepalive: Option<Http2Keepalive>,
}

/// PING frames of an HTTP/2 connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.timeout) || !has(self.interval) || duration(self.timeout) < duration(self.interval)")
    .message("timeout must be less than interval"))]
pub struct Http2Keepalive {
    /// The time between frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub interval: Option<String>,
    /// How long to wait for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// A random share added to the interval, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub interval_jitter: Option<i32>,
    /// How long a connection is idle before a frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub idle_interval: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn two() -> Option<i32> {
    Some(2)
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn thousand() -> Option<i64> {
    Some(1024)
}
