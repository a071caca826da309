//! Protection against cross-site request forgery.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::ORIGIN;

/// Requests that change state must come from the own origin or a listed one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Csrf {
    /// The share of requests that is judged but never refused; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_fraction: Option<Fraction>,
    /// Further origins that may send requests that change state; host and port count, the scheme does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 253),
            regex(pattern = ORIGIN)
        )
    )]
    pub additional_origins: Vec<String>,
}

/// A share, at most 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.numerator <= self.denominator")
    .message("numerator must be less than or equal to denominator"))]
pub struct Fraction {
    /// The part.
    #[schemars(range(min = 0))]
    pub numerator: i32,
    /// The whole, 100 by default.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    pub denominator: i32,
}

fn hundred() -> i32 {
    100
}
