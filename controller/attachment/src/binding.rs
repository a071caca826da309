//! Which listeners a route attaches to, and under which hostnames (Gateway API, `ParentReference` and `AllowedRoutes`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gateway_api::{
    gateways::{Gateway, GatewayListenersAllowedRoutesNamespacesFrom as From},
    httproutes::{HttpRoute, HttpRouteParentRefs},
};

use crate::{
    finding::{self, Finding, Severity},
    hostname,
    listeners::{Listener, listeners},
    object::{self, GATEWAY_GROUP, ListenerRef, ObjectRef},
    selector,
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

/// Binds every HTTPRoute to the listeners of the Gateways that belong to `controller_name`.
///
/// A host belongs to the most specific listener of a port, usable or not: a route that comes in through a wider
/// listener does not serve it there, so that no listener's policy can be walked around.
#[must_use]
pub fn bind(snapshot: &Snapshot, controller_name: &str) -> Bindings {
    let namespaces = snapshot
        .namespaces
        .iter()
        .map(|namespace| (object::name(&namespace.metadata), labels(&namespace.metadata)))
        .collect();
    let gateways: HashMap<_, _> = managed_gateways(snapshot, controller_name)
        .into_iter()
        .map(|gateway| {
            let key = (object::namespace(&gateway.metadata), object::name(&gateway.metadata));
            (key, listeners(gateway))
        })
        .collect();
    let known = snapshot
        .gateways
        .iter()
        .map(|gateway| (object::namespace(&gateway.metadata), object::name(&gateway.metadata)))
        .collect();
    let world = World {
        namespaces,
        gateways,
        known,
    };
    let mut routes: Vec<&HttpRoute> = snapshot.http_routes.iter().map(AsRef::as_ref).collect();
    routes.sort_by_key(|route| object::age(&route.metadata));
    let mut bindings = Bindings::default();
    for route in routes {
        for (index, reference) in route.spec.parent_refs.iter().flatten().enumerate() {
            world.bind(route, index, reference, &mut bindings);
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

struct World<'a> {
    namespaces: HashMap<&'a str, BTreeMap<String, String>>,
    gateways: HashMap<(&'a str, &'a str), Vec<Listener<'a>>>,
    /// All Gateways, of other controllers too.
    known: BTreeSet<(&'a str, &'a str)>,
}

/// Why a parent does not take a route.
struct Refusal {
    reason: &'static str,
    message: &'static str,
    finding: (&'static str, String, String),
    fix: Option<String>,
}

impl World<'_> {
    fn bind(&self, route: &HttpRoute, index: usize, reference: &HttpRouteParentRefs, bindings: &mut Bindings) {
        let object = ObjectRef::new(
            "HTTPRoute",
            object::namespace(&route.metadata),
            object::name(&route.metadata),
        );
        let path = format!("spec.parentRefs[{index}]");
        let group = reference.group.as_deref().unwrap_or(GATEWAY_GROUP);
        let kind = reference.kind.as_deref().unwrap_or("Gateway");
        if group != GATEWAY_GROUP || kind != "Gateway" {
            // A Service is a parent for service meshes: not ours, and no mistake.
            if kind != "Service" {
                bindings.findings.push(Finding {
                    severity: Severity::Warning,
                    code: "unsupported-parent-kind",
                    object,
                    path: format!("{path}.kind"),
                    message: format!("a parent of kind {kind:?} is not served"),
                    fix: Some("refer to a Gateway".to_owned()),
                });
            }
            return;
        }
        let namespace = reference.namespace.as_deref().unwrap_or(&object.namespace);
        let Some(listeners) = self.gateways.get(&(namespace, reference.name.as_str())) else {
            if !self.known.contains(&(namespace, reference.name.as_str())) {
                let names: Vec<&str> = self
                    .known
                    .iter()
                    .filter(|(of, _)| *of == namespace)
                    .map(|(_, name)| *name)
                    .collect();
                let message = format!("Gateway {namespace}/{} does not exist", reference.name);
                let fix = finding::one_of(&names).unwrap_or_else(|| format!("create it in namespace {namespace}"));
                bindings.findings.push(Finding {
                    severity: Severity::Error,
                    code: "parent-not-found",
                    object,
                    path: format!("{path}.name"),
                    message,
                    fix: Some(fix),
                });
            }
            return;
        };
        let parent = ParentRef {
            group: GATEWAY_GROUP.to_owned(),
            kind: "Gateway".to_owned(),
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
            section_name: reference.section_name.clone(),
            port: reference.port,
        };
        let (bound, accepted) = match self.select(route, &object.namespace, &parent, listeners) {
            Ok(bound) => {
                let accepted = Condition {
                    r#type: "Accepted",
                    status: ConditionStatus::True,
                    reason: "Accepted",
                    message: "Route is accepted".to_owned(),
                };
                (bound, accepted)
            }
            Err(refusal) => {
                let (code, field, message) = refusal.finding;
                bindings.findings.push(Finding {
                    severity: Severity::Error,
                    code,
                    object: object.clone(),
                    path: if field.starts_with("spec.") {
                        field
                    } else {
                        format!("{path}{field}")
                    },
                    message,
                    fix: refusal.fix,
                });
                let accepted = Condition {
                    r#type: "Accepted",
                    status: ConditionStatus::False,
                    reason: refusal.reason,
                    message: refusal.message.to_owned(),
                };
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
        route: &HttpRoute,
        namespace: &str,
        parent: &ParentRef,
        listeners: &[Listener<'_>],
    ) -> Result<Vec<BoundListener>, Refusal> {
        let gateway = format!("Gateway {}/{}", parent.namespace, parent.name);
        let selected: Vec<&Listener<'_>> = listeners
            .iter()
            .filter(|listener| {
                parent
                    .section_name
                    .as_deref()
                    .is_none_or(|section| section == listener.spec.name)
                    && parent.port.is_none_or(|port| port == listener.spec.port)
            })
            .collect();
        if selected.is_empty() {
            return Err(no_match(&gateway, parent, listeners));
        }
        let allowing: Vec<&Listener<'_>> = selected
            .into_iter()
            .filter(|listener| self.allows(listener, &parent.namespace, namespace))
            .collect();
        if allowing.is_empty() {
            return Err(Refusal {
                reason: "NotAllowedByListeners",
                message: "No listeners included by this parent ref allowed this attachment.",
                finding: (
                    "not-allowed-by-listeners",
                    String::new(),
                    format!("no listener of {gateway} allows HTTPRoutes of namespace {namespace}"),
                ),
                fix: Some("admit them in the listener's allowedRoutes".to_owned()),
            });
        }
        let ready: Vec<&Listener<'_>> = allowing
            .into_iter()
            .filter(|listener| listener.fault.is_none())
            .collect();
        if ready.is_empty() {
            return Err(Refusal {
                reason: "NoReadyListeners",
                message: "There are no ready listeners for this parent ref",
                finding: (
                    "no-ready-listeners",
                    String::new(),
                    format!("every listener of {gateway} that this reference selects is invalid or in conflict"),
                ),
                fix: Some("repair the listener".to_owned()),
            });
        }
        let bound: Vec<BoundListener> = ready
            .iter()
            .filter_map(|listener| {
                let hostnames = hostnames(route, listener, listeners);
                (!hostnames.is_empty()).then(|| BoundListener {
                    listener: listener.reference.clone(),
                    hostnames,
                })
            })
            .collect();
        if bound.is_empty() {
            let hostnames: BTreeSet<String> = ready
                .iter()
                .map(|listener| format!("{:?}", listener.hostname))
                .collect();
            let hostnames: Vec<String> = hostnames.into_iter().collect();
            return Err(Refusal {
                reason: "NoMatchingListenerHostname",
                message: "There were no hostname intersections between the HTTPRoute and this parent ref's Listener(s).",
                finding: (
                    "no-matching-hostname",
                    "spec.hostnames".to_owned(),
                    format!("no listener of {gateway} serves a hostname of this route"),
                ),
                fix: Some(format!("use hostnames within {}", hostnames.join(", "))),
            });
        }
        Ok(bound)
    }

    /// `allowedRoutes` of a listener: kinds and namespaces.
    fn allows(&self, listener: &Listener<'_>, gateway_namespace: &str, route_namespace: &str) -> bool {
        if !matches!(listener.spec.protocol.as_str(), "HTTP" | "HTTPS") {
            return false;
        }
        let allowed = listener.spec.allowed_routes.as_ref();
        let kinds = allowed.and_then(|allowed| allowed.kinds.as_deref()).unwrap_or_default();
        let kind_allowed = kinds.is_empty()
            || kinds.iter().any(|kind| {
                kind.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP && kind.kind == "HTTPRoute"
            });
        if !kind_allowed {
            return false;
        }
        let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            None | Some(From::Same) => gateway_namespace == route_namespace,
            Some(From::All) => true,
            Some(From::Selector) => {
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                let (Some(selector), Some(labels)) = (selector, self.namespaces.get(route_namespace)) else {
                    return false;
                };
                let expressions = selector.match_expressions.iter().flatten().map(|expression| {
                    (
                        expression.key.as_str(),
                        expression.operator.as_str(),
                        expression.values.as_deref().unwrap_or_default(),
                    )
                });
                selector::matches(labels, selector.match_labels.as_ref(), expressions)
            }
        }
    }
}

/// The refusal of a parentRef that selects no listener.
fn no_match(gateway: &str, parent: &ParentRef, listeners: &[Listener<'_>]) -> Refusal {
    let names: Vec<&str> = listeners.iter().map(|listener| listener.spec.name.as_str()).collect();
    let ports = |named: Option<&str>| {
        let ports: BTreeSet<String> = listeners
            .iter()
            .filter(|listener| named.is_none_or(|name| name == listener.spec.name))
            .map(|listener| listener.spec.port.to_string())
            .collect();
        let ports: Vec<String> = ports.into_iter().collect();
        Some(format!("write port {}", ports.join(" or ")))
    };
    let (field, wanted, fix) = match (parent.section_name.as_deref(), parent.port) {
        (None, None) => ("", "at all".to_owned(), Some("give it one".to_owned())),
        (None, Some(port)) => (".port", format!("on port {port}"), ports(None)),
        (Some(section), Some(port)) if names.contains(&section) => (
            ".port",
            format!("named {section:?} on port {port}"),
            ports(Some(section)),
        ),
        (Some(section), _) => (".sectionName", format!("named {section:?}"), finding::one_of(&names)),
    };
    Refusal {
        reason: "NoMatchingParent",
        message: "No listeners match this parent ref",
        finding: (
            "no-matching-parent",
            field.to_owned(),
            format!("{gateway} has no listener {wanted}"),
        ),
        fix,
    }
}

/// The hostnames that a route serves on a listener, in the route's order and without repetition.
fn hostnames(route: &HttpRoute, listener: &Listener<'_>, all: &[Listener<'_>]) -> Vec<String> {
    let wanted = route.spec.hostnames.as_deref().unwrap_or_default();
    let candidates: Vec<String> = if wanted.is_empty() {
        vec![listener.hostname.clone()]
    } else {
        wanted
            .iter()
            .filter_map(|wanted| {
                let wanted = hostname::normalize(Some(wanted));
                hostname::intersection(&wanted, &listener.hostname).map(str::to_owned)
            })
            .collect()
    };
    let mut seen = BTreeSet::new();
    candidates
        .into_iter()
        .filter(|host| {
            let own = hostname::specificity(&listener.hostname);
            let owned_by_another = all.iter().any(|other| {
                other.spec.port == listener.spec.port
                    && other.spec.protocol != "UDP"
                    && hostname::specificity(&other.hostname) > own
                    && hostname::covers(&other.hostname, host)
            });
            !owned_by_another && seen.insert(host.clone())
        })
        .collect()
}
