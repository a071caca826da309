//! Cross-origin resource sharing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::{DURATION, ORIGIN};

/// Which origins may read responses in a browser (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins as `scheme://host[:port]`; the first label may be `*`, and `*` alone means every origin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(
        length(min = 1, max = 253),
        regex(pattern = ORIGIN)
    ))]
    pub allow_origins: Vec<String>,
    /// Methods that a preflight may ask for; `*` means every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Request headers that a preflight may ask for; `*` means every header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may read; `*` means every header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer to a preflight, as `1h30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub max_age: Option<String>,
    /// Whether requests may carry cookies and other credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
}
