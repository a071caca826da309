//! What policies target: objects, sections, and who got there first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gateway_api::{gateways::Gateway, httproutes::HttpRoute};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_api::security_policy::{NamespacesFrom, PolicyTargetReference, SecurityPolicySpec, TargetSelector};

use crate::{
    binding::{Bindings, managed_gateways},
    finding,
    object::{self, GATEWAY_GROUP, PolicyKind},
    reference::References,
    selector::{self, selects},
    snapshot::{PolicyTarget, Snapshot},
    status::ParentRef,
};

/// One slot that at most one policy can take; from the most specific kind to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Slot<'a> {
    /// Every rule of that name: namespace, route, rule.
    Rule(&'a str, &'a str, &'a str),
    /// A rule that the route does not have; it may have been any of those that no policy names.
    LostRule(&'a str, &'a str),
    /// Namespace and name.
    Route(&'a str, &'a str),
    /// Namespace, Gateway, listener.
    Listener(&'a str, &'a str, &'a str),
    /// A listener that the Gateway does not have; it may have been any of those that no policy names.
    LostListener(&'a str, &'a str),
    /// Namespace and name.
    Gateway(&'a str, &'a str),
}

impl Slot<'_> {
    /// The target for the message of a conflict, in Envoy Gateway's words.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Rule(_, route, rule) => format!("RouteRule {route}/{rule}"),
            Self::Route(_, route) | Self::LostRule(_, route) => format!("HTTPRoute {route}"),
            Self::Listener(_, gateway, listener) => format!("Listener {gateway}/{listener}"),
            Self::Gateway(_, gateway) | Self::LostListener(_, gateway) => format!("Gateway {gateway}"),
        }
    }

    /// Whether it is one that several policies share without being at odds.
    pub(crate) const fn is_lost(self) -> bool {
        matches!(self, Self::LostRule(..) | Self::LostListener(..))
    }

    /// Whether the target is a Gateway or a listener.
    pub(crate) const fn on_gateway(self) -> bool {
        matches!(self, Self::Listener(..) | Self::LostListener(..) | Self::Gateway(..))
    }
}

/// One reference of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) target: PolicyTarget,
    /// The target's namespace: the policy's own, except through a selector.
    pub(crate) namespace: String,
    /// Where it stands in the policy.
    pub(crate) path: String,
}

/// What a reference leads to.
pub(crate) enum Resolved<'a> {
    /// Something of ours: the slot, and the ancestors that the policy's status names.
    Slot(Slot<'a>, Vec<ParentRef>),
    /// A group or kind that is not served.
    Unsupported,
    /// No such object.
    NotFound,
    /// An object of other controllers, or of nobody.
    Foreign,
}

/// Objects that can be targeted.
pub(crate) struct Targets<'a> {
    gateways: HashMap<(&'a str, &'a str), &'a Gateway>,
    managed: HashMap<(&'a str, &'a str), &'a Gateway>,
    routes: HashMap<(&'a str, &'a str), &'a HttpRoute>,
    /// Managed parents by route.
    parents: HashMap<(&'a str, &'a str), Vec<&'a ParentRef>>,
    namespaces: HashMap<&'a str, &'a ObjectMeta>,
    /// Names by kind and namespace, sorted.
    names: HashMap<(&'static str, &'a str), BTreeSet<&'a str>>,
}

fn key(metadata: &ObjectMeta) -> (&str, &str) {
    (object::namespace(metadata), object::name(metadata))
}

impl<'a> Targets<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, bindings: &'a Bindings, controller_name: &str) -> Self {
        let mut parents: HashMap<_, Vec<&ParentRef>> = HashMap::new();
        for parent in &bindings.parents {
            let route = (parent.route.namespace.as_str(), parent.route.name.as_str());
            parents.entry(route).or_default().push(&parent.parent);
        }
        let mut names: HashMap<_, BTreeSet<&str>> = HashMap::new();
        let gateways = snapshot.gateways.iter().map(|gateway| ("Gateway", &gateway.metadata));
        let routes = snapshot.http_routes.iter().map(|route| ("HTTPRoute", &route.metadata));
        for (kind, metadata) in gateways.chain(routes) {
            let (namespace, name) = key(metadata);
            names.entry((kind, namespace)).or_default().insert(name);
        }
        Self {
            names,
            gateways: snapshot
                .gateways
                .iter()
                .map(|gateway| (key(&gateway.metadata), gateway.as_ref()))
                .collect(),
            managed: managed_gateways(snapshot, controller_name)
                .into_iter()
                .map(|gateway| (key(&gateway.metadata), gateway))
                .collect(),
            routes: snapshot
                .http_routes
                .iter()
                .map(|route| (key(&route.metadata), route.as_ref()))
                .collect(),
            parents,
            namespaces: snapshot
                .namespaces
                .iter()
                .map(|namespace| (object::name(&namespace.metadata), &namespace.metadata))
                .collect(),
        }
    }

    /// Some names of objects of a kind in a namespace.
    pub(crate) fn names(&self, kind: &str, namespace: &str) -> Vec<&'a str> {
        let kind = if kind == "Gateway" { "Gateway" } else { "HTTPRoute" };
        let names = self.names.get(&(kind, namespace));
        names.into_iter().flatten().take(finding::SHOWN + 1).copied().collect()
    }

    /// The managed parents of a route.
    pub(crate) fn parents<'s>(&'s self, namespace: &'s str, route: &'s str) -> &'s [&'a ParentRef] {
        self.parents
            .get(&(namespace, route))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The names of a route's rules.
    pub(crate) fn rules(&self, namespace: &str, route: &str) -> Vec<Option<&'a str>> {
        let rules = self
            .routes
            .get(&(namespace, route))
            .and_then(|route| route.spec.rules.as_deref())
            .unwrap_or_default();
        if rules.is_empty() {
            // The schema's default: one rule for every path.
            return vec![None];
        }
        rules.iter().map(|rule| rule.name.as_deref()).collect()
    }

    /// The names of a Gateway's listeners.
    pub(crate) fn listeners(&self, namespace: &str, gateway: &str) -> Vec<&'a str> {
        let gateway = self.gateways.get(&(namespace, gateway));
        gateway
            .iter()
            .flat_map(|gateway| &gateway.spec.listeners)
            .map(|listener| listener.name.as_str())
            .collect()
    }

    pub(crate) fn resolve(&self, reference: &Reference) -> Resolved<'a> {
        let target = &reference.target;
        let wanted = (reference.namespace.as_str(), target.name.as_str());
        if target.group != GATEWAY_GROUP {
            return Resolved::Unsupported;
        }
        match target.kind.as_str() {
            "Gateway" => self.gateway(wanted, target.section_name.as_deref()),
            "HTTPRoute" => self.route(wanted, target.section_name.as_deref()),
            _ => Resolved::Unsupported,
        }
    }

    fn gateway(&self, wanted: (&str, &str), section: Option<&str>) -> Resolved<'a> {
        let Some(&gateway) = self.managed.get(&wanted) else {
            return if self.gateways.contains_key(&wanted) {
                Resolved::Foreign
            } else {
                Resolved::NotFound
            };
        };
        let (namespace, name) = key(&gateway.metadata);
        let slot = match section {
            None => Slot::Gateway(namespace, name),
            Some(section) => gateway
                .spec
                .listeners
                .iter()
                .find(|listener| listener.name == section)
                .map_or(Slot::LostListener(namespace, name), |listener| {
                    Slot::Listener(namespace, name, &listener.name)
                }),
        };
        let ancestor = ParentRef {
            group: GATEWAY_GROUP.to_owned(),
            kind: "Gateway".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            section_name: section.map(str::to_owned),
            port: None,
        };
        Resolved::Slot(slot, vec![ancestor])
    }

    fn route(&self, wanted: (&str, &str), section: Option<&str>) -> Resolved<'a> {
        let Some(&route) = self.routes.get(&wanted) else {
            return Resolved::NotFound;
        };
        let (namespace, name) = key(&route.metadata);
        let parents = self.parents(namespace, name);
        if parents.is_empty() {
            return Resolved::Foreign;
        }
        let slot = match section {
            None => Slot::Route(namespace, name),
            Some(section) => route
                .spec
                .rules
                .iter()
                .flatten()
                .filter_map(|rule| rule.name.as_deref())
                .find(|rule| *rule == section)
                .map_or(Slot::LostRule(namespace, name), |rule| {
                    Slot::Rule(namespace, name, rule)
                }),
        };
        let mut ancestors: Vec<ParentRef> = Vec::with_capacity(parents.len());
        for parent in parents {
            let ancestor = ParentRef {
                port: None,
                ..(*parent).clone()
            };
            if !ancestors.contains(&ancestor) {
                ancestors.push(ancestor);
            }
        }
        Resolved::Slot(slot, ancestors)
    }

    /// Everything that a policy refers to, the most specific first, as Envoy Gateway goes through them.
    pub(crate) fn references(
        &self,
        policy: PolicyKind,
        namespace: &str,
        spec: &SecurityPolicySpec,
        references: &References<'_>,
    ) -> Vec<Reference> {
        let single = spec
            .target_ref
            .iter()
            .map(|target| (target, "spec.targetRef".to_owned()));
        let several = spec
            .target_refs
            .iter()
            .enumerate()
            .map(|(index, target)| (target, format!("spec.targetRefs[{index}]")));
        let mut found: Vec<Reference> = single
            .chain(several)
            .map(|(target, path)| Reference {
                target: plain(target),
                namespace: namespace.to_owned(),
                path,
            })
            .collect();
        for (index, selector) in spec.target_selectors.iter().enumerate() {
            self.select(policy, namespace, selector, index, references, &mut found);
        }
        found
    }

    /// What a selector hits: in other namespaces only what they grant.
    fn select(
        &self,
        policy: PolicyKind,
        namespace: &str,
        selector: &TargetSelector,
        index: usize,
        references: &References<'_>,
        found: &mut Vec<Reference>,
    ) {
        if selector.group != GATEWAY_GROUP {
            return;
        }
        let candidates: Vec<&ObjectMeta> = match selector.kind.as_str() {
            "Gateway" => self.managed.values().map(|gateway| &gateway.metadata).collect(),
            "HTTPRoute" => self.routes.values().map(|route| &route.metadata).collect(),
            _ => Vec::new(),
        };
        let empty = BTreeMap::new();
        let mut hits: Vec<&ObjectMeta> = candidates
            .into_iter()
            .filter(|metadata| {
                let labels = metadata.labels.as_ref().unwrap_or(&empty);
                let (of, name) = key(metadata);
                self.looks_in(selector, namespace, of)
                    && references.permits(policy, namespace, of, GATEWAY_GROUP, &selector.kind, name)
                    && selector::matches(
                        labels,
                        Some(&selector.match_labels),
                        selector.match_expressions.iter().map(|expression| {
                            let values = expression.values.as_deref().unwrap_or_default();
                            (expression.key.as_str(), expression.operator.as_str(), values)
                        }),
                    )
            })
            .collect();
        hits.sort_by_key(|metadata| object::age(metadata));
        found.extend(hits.into_iter().map(|metadata| Reference {
            target: PolicyTarget {
                group: selector.group.clone(),
                kind: selector.kind.clone(),
                name: object::name(metadata).to_owned(),
                section_name: None,
            },
            namespace: object::namespace(metadata).to_owned(),
            path: format!("spec.targetSelectors[{index}]"),
        }));
    }

    fn looks_in(&self, selector: &TargetSelector, own: &str, namespace: &str) -> bool {
        let namespaces = selector.namespaces.as_ref();
        match namespaces.map(|namespaces| namespaces.from).unwrap_or_default() {
            NamespacesFrom::Same => own == namespace,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => {
                let wanted = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                let labels = self.namespaces.get(namespace).map(|metadata| labels(metadata));
                wanted
                    .zip(labels)
                    .is_some_and(|(wanted, labels)| selects!(wanted, &labels))
            }
            NamespacesFrom::Unknown => false,
        }
    }
}

/// The labels of a namespace, with the one that Kubernetes itself sets (a folder's manifests leave it out).
pub(crate) fn labels(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let mut labels = metadata.labels.clone().unwrap_or_default();
    labels.insert(
        "kubernetes.io/metadata.name".to_owned(),
        object::name(metadata).to_owned(),
    );
    labels
}

fn plain(target: &PolicyTargetReference) -> PolicyTarget {
    PolicyTarget {
        group: target.group.clone(),
        kind: target.kind.clone(),
        name: target.name.clone(),
        section_name: target.section_name.clone(),
    }
}
