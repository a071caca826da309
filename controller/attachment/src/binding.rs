//! Which listeners a route attaches to, and under which hostnames (Gateway API, `ParentReference` and `AllowedRoutes`).

mod hosts;
mod refusal;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gateway_api::{
    gateways::{Gateway, GatewayListenersAllowedRoutesNamespacesFrom as From},
    listenersets::ListenerSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::{
    hosts::{hostnames, taken},
    refusal::Refusal,
};
use crate::{
    finding::{self, Finding, Severity},
    listener_set::{self, AttachedSet, ManagedGateway, gateways},
    listeners::Listener,
    object::{self, GATEWAY_GROUP, ListenerRef, ObjectRef},
    route::{ParentReference, Route, routes},
    selector::selects,
    snapshot::Snapshot,
    status::{Condition, ConditionStatus, ParentRef},
    target::labels,
};

/// The outcome for every route and every parent that this controller owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// One entry per route and managed parentRef, routes oldest first, then by namespace and name.
    pub parents: Vec<Parent>,
    /// References that lead nowhere.
    pub findings: Vec<Finding>,
}

/// One parentRef of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The route.
    pub route: ObjectRef,
    /// The index in `spec.parentRefs`.
    pub index: usize,
    /// The reference, written out.
    pub parent: ParentRef,
    /// The listeners that take the route.
    pub listeners: Vec<BoundListener>,
    /// `Accepted` for this parent; `ResolvedRefs` is the translation's to add.
    pub accepted: Condition,
}

/// One listener that takes a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// The listener.
    pub listener: ListenerRef,
    /// The hostnames that the route serves there, lower case; `*` for any.
    pub hostnames: Vec<String>,
}

/// Binds every route to the listeners of the Gateways that belong to `controller_name`.
///
/// A host belongs to the most specific listener of a port, usable or not: a route that comes in through a wider
/// listener does not serve it there, so that no listener's policy can be walked around.
#[must_use]
pub fn bind(snapshot: &Snapshot, controller_name: &str) -> Bindings {
    let gateways = gateways(snapshot, controller_name);
    let world = World::new(snapshot, &gateways);
    let mut bindings = Bindings::default();
    world.sets(snapshot, &mut bindings.findings);
    for route in routes(snapshot) {
        for (index, reference) in route.parents.iter().enumerate() {
            world.bind(&route, index, reference, &mut bindings);
        }
    }
    bindings
}

/// The Gateways whose class names this controller, oldest first.
pub fn managed_gateways<'a>(snapshot: &'a Snapshot, controller_name: &str) -> Vec<&'a Gateway> {
    let classes: BTreeSet<&str> = snapshot
        .gateway_classes
        .iter()
        .filter(|class| class.spec.controller_name == controller_name)
        .map(|class| object::name(&class.metadata))
        .collect();
    let mut gateways: Vec<&Gateway> = snapshot
        .gateways
        .iter()
        .map(AsRef::as_ref)
        .filter(|gateway: &&Gateway| classes.contains(gateway.spec.gateway_class_name.as_str()))
        .collect();
    gateways.sort_by_key(|gateway| object::age(&gateway.metadata));
    gateways
}

/// What routes can refer to.
struct World<'a> {
    namespaces: HashMap<&'a str, BTreeMap<String, String>>,
    parents: HashMap<Key<'a>, Known<'a>>,
}

/// Kind, namespace and name.
type Key<'a> = (&'a str, &'a str, &'a str);

/// What is known about an object that routes can refer to.
enum Known<'a> {
    /// One of another controller, or of nobody.
    Foreign,
    /// One of a Gateway of ours.
    Ours {
        gateway: &'a ManagedGateway<'a>,
        /// The set, unless it is the Gateway itself.
        set: Option<&'a AttachedSet<'a>>,
    },
}

impl<'a> World<'a> {
    fn new(snapshot: &'a Snapshot, gateways: &'a [ManagedGateway<'a>]) -> Self {
        let namespaces = snapshot.namespaces.iter().map(|namespace| &namespace.metadata);
        let known =
            |kind: &'static str, metadata: &'a ObjectMeta| (kind, object::namespace(metadata), object::name(metadata));
        let all_gateways = snapshot
            .gateways
            .iter()
            .map(|gateway| known("Gateway", &gateway.metadata));
        let all_sets = snapshot
            .listener_sets
            .iter()
            .map(|set| known("ListenerSet", &set.metadata));
        let mut parents: HashMap<Key<'a>, Known<'a>> =
            all_gateways.chain(all_sets).map(|key| (key, Known::Foreign)).collect();
        for gateway in gateways {
            let own = Known::Ours { gateway, set: None };
            parents.insert(known("Gateway", &gateway.gateway.metadata), own);
            for set in &gateway.sets {
                let of_set = Known::Ours {
                    gateway,
                    set: Some(set),
                };
                parents.insert(known("ListenerSet", &set.set.metadata), of_set);
            }
        }
        Self {
            namespaces: namespaces
                .map(|metadata| (object::name(metadata), labels(metadata)))
                .collect(),
            parents,
        }
    }

    /// The finding for a reference to an object that does not exist.
    fn not_found(&self, object: ObjectRef, path: &str, kind: &str, namespace: &str, name: &str) -> Finding {
        // What another namespace has is not told to whoever guesses names.
        let own = object.namespace == namespace;
        let of_namespace = |(other, of, _): &&Key<'_>| own && *other == kind && *of == namespace;
        let names: BTreeSet<&str> = self
            .parents
            .keys()
            .filter(of_namespace)
            .map(|(_, _, name)| *name)
            .collect();
        let names: Vec<&str> = names.into_iter().collect();
        Finding {
            severity: Severity::Error,
            code: "parent-not-found",
            object,
            path: format!("{path}.name"),
            message: format!("{kind} {namespace}/{name} does not exist"),
            fix: Some(finding::one_of(&names).unwrap_or_else(|| format!("create it in namespace {namespace}"))),
        }
    }

    /// Tells of ListenerSets that join nothing.
    fn sets(&self, snapshot: &Snapshot, findings: &mut Vec<Finding>) {
        let mut sets: Vec<&ListenerSet> = snapshot.listener_sets.iter().map(AsRef::as_ref).collect();
        sets.sort_by(|one, other| object::age(&one.metadata).cmp(&object::age(&other.metadata)));
        for set in sets {
            let metadata = &set.metadata;
            let object = ObjectRef::new("ListenerSet", object::namespace(metadata), object::name(metadata));
            let Some((namespace, name)) = listener_set::parent(set) else {
                findings.push(Finding {
                    severity: Severity::Warning,
                    code: "unsupported-parent-kind",
                    object,
                    path: "spec.parentRef.kind".to_owned(),
                    message: format!(
                        "a parent of kind {:?} is not served",
                        set.spec.parent_ref.kind.as_deref().unwrap_or_default()
                    ),
                    fix: Some("refer to a Gateway".to_owned()),
                });
                continue;
            };
            match self.parents.get(&("Gateway", namespace, name)) {
                None => findings.push(self.not_found(object, "spec.parentRef", "Gateway", namespace, name)),
                Some(Known::Foreign) => {}
                Some(Known::Ours { gateway, .. }) => {
                    let refused = |of: &AttachedSet<'_>| std::ptr::eq(of.set, set) && !of.allowed;
                    if gateway.sets.iter().any(refused) {
                        findings.push(Finding {
                            severity: Severity::Error,
                            code: "listener-set-not-allowed",
                            path: "spec.parentRef".to_owned(),
                            message: format!(
                                "Gateway {namespace}/{name} does not admit ListenerSets of namespace {}",
                                object.namespace
                            ),
                            fix: Some("admit them in the Gateway's allowedListeners".to_owned()),
                            object,
                        });
                    }
                }
            }
        }
    }

    fn bind(&self, route: &Route<'_>, index: usize, reference: &ParentReference<'_>, bindings: &mut Bindings) {
        let object = route.object();
        let path = format!("spec.parentRefs[{index}]");
        let group = reference.group.unwrap_or(GATEWAY_GROUP);
        let kind = reference.kind.unwrap_or("Gateway");
        if group != GATEWAY_GROUP || !matches!(kind, "Gateway" | "ListenerSet") {
            // A Service is a parent for service meshes: not ours, and no mistake.
            if kind != "Service" {
                bindings.findings.push(Finding {
                    severity: Severity::Warning,
                    code: "unsupported-parent-kind",
                    object,
                    path: format!("{path}.kind"),
                    message: format!("a parent of kind {kind:?} is not served"),
                    fix: Some("refer to a Gateway or a ListenerSet".to_owned()),
                });
            }
            return;
        }
        let namespace = reference.namespace.unwrap_or(&object.namespace);
        let (gateway, set) = match self.parents.get(&(kind, namespace, reference.name)) {
            Some(Known::Ours { gateway, set }) => (*gateway, *set),
            Some(Known::Foreign) => return,
            None => {
                let finding = self.not_found(object.clone(), &path, kind, namespace, reference.name);
                bindings.findings.push(finding);
                return;
            }
        };
        let parent = ParentRef {
            group: GATEWAY_GROUP.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: reference.name.to_owned(),
            section_name: reference.section_name.map(str::to_owned),
            port: reference.port,
        };
        let (bound, accepted) = match self.select(route, &parent, gateway, set) {
            Ok((bound, taken)) => {
                bindings.findings.extend(taken.into_iter().map(|message| Finding {
                    severity: Severity::Warning,
                    code: "hostname-taken",
                    object: object.clone(),
                    path: "spec.hostnames".to_owned(),
                    message,
                    fix: Some("refer to the object that has the more specific listener".to_owned()),
                }));
                let accepted = Condition {
                    r#type: "Accepted",
                    status: ConditionStatus::True,
                    reason: "Accepted",
                    message: "Route is accepted".to_owned(),
                };
                (bound, accepted)
            }
            Err(refusal) => {
                let (finding, accepted) = refusal.tell(object.clone(), &path);
                bindings.findings.push(finding);
                (Vec::new(), accepted)
            }
        };
        bindings.parents.push(Parent {
            route: object,
            index,
            parent,
            listeners: bound,
            accepted,
        });
    }

    fn select(
        &self,
        route: &Route<'_>,
        parent: &ParentRef,
        gateway: &ManagedGateway<'_>,
        set: Option<&AttachedSet<'_>>,
    ) -> Result<(Vec<BoundListener>, BTreeSet<String>), Box<Refusal>> {
        let named = format!("{} {}/{}", parent.kind, parent.namespace, parent.name);
        if set.is_some_and(|set| !set.allowed) {
            return Err(Refusal::not_ready(format!("{named} is not admitted by its Gateway")));
        }
        let set = set.map(AttachedSet::reference);
        let of_parent: Vec<&Listener<'_>> = gateway
            .listeners
            .iter()
            .filter(|listener| listener.reference.set == set)
            .collect();
        let selected: Vec<&Listener<'_>> = of_parent
            .iter()
            .copied()
            .filter(|listener| {
                parent
                    .section_name
                    .as_deref()
                    .is_none_or(|section| section == listener.spec.name)
                    && parent.port.is_none_or(|port| port == listener.spec.port)
            })
            .collect();
        if selected.is_empty() {
            return Err(Refusal::no_match(&named, parent, &of_parent));
        }
        let allowing: Vec<&Listener<'_>> = selected
            .into_iter()
            .filter(|listener| self.allows(listener, &parent.namespace, route))
            .collect();
        if allowing.is_empty() {
            return Err(Refusal::not_allowed(&named, route));
        }
        let ready: Vec<&Listener<'_>> = allowing
            .into_iter()
            .filter(|listener| listener.fault.is_none())
            .collect();
        if ready.is_empty() {
            return Err(Refusal::not_ready(format!(
                "every listener of {named} that this reference selects is invalid or in conflict"
            )));
        }
        let bound: Vec<BoundListener> = ready
            .iter()
            .filter_map(|listener| {
                let hostnames = hostnames(route, listener, &gateway.listeners);
                (!hostnames.is_empty()).then(|| BoundListener {
                    listener: listener.reference.clone(),
                    hostnames,
                })
            })
            .collect();
        let taken: BTreeSet<String> = ready
            .iter()
            .flat_map(|listener| taken(route, listener, &gateway.listeners))
            .collect();
        if bound.is_empty()
            && let Some(taken) = taken.first()
        {
            return Err(Refusal::taken(route, taken));
        }
        if bound.is_empty() {
            return Err(Refusal::elsewhere(&named, route, &ready));
        }
        Ok((bound, taken))
    }

    /// `allowedRoutes` of a listener: kinds and namespaces.
    fn allows(&self, listener: &Listener<'_>, own_namespace: &str, route: &Route<'_>) -> bool {
        if !listener.kinds().any(|kind| kind == route.kind) {
            return false;
        }
        let route_namespace = object::namespace(route.metadata);
        let allowed = listener.spec.allowed_routes.as_ref();
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            None | Some(From::Same) => own_namespace == route_namespace,
            Some(From::All) => true,
            Some(From::Selector) => {
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                let of_namespace = selector.zip(self.namespaces.get(route_namespace));
                of_namespace.is_some_and(|(selector, labels)| selects!(selector, labels))
            }
        }
    }
}
