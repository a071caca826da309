//! `Backend` of `gateway.envoyproxy.io/v1alpha1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Endpoints outside Kubernetes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "gateway.envoyproxy.io", version = "v1alpha1", kind = "Backend", namespaced)]
#[serde(rename_all = "camelCase")]
pub struct BackendSpec {}
