//! How connections to the backends of a policy behave (`backendSettings`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Connection, retry, timeout and balancing settings of a set of backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {}
