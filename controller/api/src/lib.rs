//! Rust types of the custom resources, with their schemas and CEL rules.

#![expect(
    unreachable_pub,
    reason = "kube's KubeSchema derive repeats every struct inside a function"
)]

mod crd;

pub mod access_policy;
pub mod backend;
pub mod client_traffic_policy;
pub mod cluster_settings;
pub mod envoy_proxy;
pub mod http_route;
mod pattern;
pub mod reference;
mod rules;
pub mod security_policy;
pub mod status;

pub use self::crd::{crds, to_yaml};
