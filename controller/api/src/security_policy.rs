//! `SecurityPolicy` of `gateway.envoyproxy.io/v1alpha1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a SecurityPolicy asks for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "SecurityPolicy",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct SecurityPolicySpec {}
