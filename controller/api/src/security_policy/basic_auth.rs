//! User names and passwords.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::SecretObjectReference;

/// Callers identify themselves by user name and password (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The Secret whose entry `.htpasswd` lists users and password hashes.
    pub users: SecretObjectReference,
    /// The request header that tells the backend the user name; absent, nothing is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_username_header: Option<String>,
}
