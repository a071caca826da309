//! The parts of HTTPRoute's experimental channel that are served; Gateway API's Rust types of the standard channel lack them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a request is sent to a backend again (`HTTPRoute.spec.rules[].retry`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteRetry {
    /// How often a request is sent again at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// The shortest time between two attempts, a duration like 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// The answers of a backend that are retried, 400 to 599; connection failures are always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<i32>>,
}
