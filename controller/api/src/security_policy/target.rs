//! What a policy applies to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::{GROUP, KIND, SUBDOMAIN};

/// An object of the policy's own namespace, or one section of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReference {
    /// The API group, `gateway.networking.k8s.io`.
    #[schemars(
        length(max = 253),
        regex(pattern = GROUP)
    )]
    pub group: String,
    /// The kind: Gateway, ListenerSet, HTTPRoute, GRPCRoute or TCPRoute.
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND))]
    pub kind: String,
    /// The name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The listener of a Gateway or ListenerSet, or the name of a route's rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = SUBDOMAIN)
    )]
    pub section_name: Option<String>,
}

/// Objects by kind and labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.group) ? self.group == 'gateway.networking.k8s.io' : true")
    .message("group must be gateway.networking.k8s.io"))]
pub struct TargetSelector {
    /// The API group, `gateway.networking.k8s.io`.
    #[serde(default = "gateway_group")]
    #[schemars(
        length(max = 253),
        regex(pattern = GROUP)
    )]
    pub group: String,
    /// The kind of the objects.
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND))]
    pub kind: String,
    /// Where the objects may live; the policy's own namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<SelectorNamespaces>,
    /// Labels that an object must carry, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Terms on labels that must hold, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// The namespaces in which a selector looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.from == 'Selector' && !has(self.selector))")
    .message("selector must be specified when from is Selector"))]
pub struct SelectorNamespaces {
    /// Which namespaces count.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// The labels of the namespaces, for `Selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces a selector looks in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The policy's own.
    #[default]
    Same,
    /// All; the other namespaces must grant it.
    All,
    /// Those with matching labels; the other namespaces must grant it.
    Selector,
    /// A value that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

fn gateway_group() -> String {
    "gateway.networking.k8s.io".to_owned()
}
