//! ListenerSets: whose listeners join those of a Gateway (Gateway API, `ListenerSet` and `Gateway.spec.allowedListeners`).

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use gateway_api::{
    gateways::{
        Gateway, GatewayAllowedListenersNamespacesFrom as From, GatewayListeners, GatewayListenersAllowedRoutes,
        GatewayListenersAllowedRoutesKinds, GatewayListenersAllowedRoutesNamespaces,
        GatewayListenersAllowedRoutesNamespacesFrom, GatewayListenersAllowedRoutesNamespacesSelector,
        GatewayListenersAllowedRoutesNamespacesSelectorMatchExpressions, GatewayListenersTls,
        GatewayListenersTlsCertificateRefs, GatewayListenersTlsMode,
    },
    listenersets::{
        ListenerSet, ListenerSetListeners, ListenerSetListenersAllowedRoutesNamespacesFrom, ListenerSetListenersTlsMode,
    },
};

use crate::{
    binding::managed_gateways,
    hostname,
    listeners::{Author, Fault, Listener, Ports},
    object::{self, GATEWAY_GROUP, ListenerRef, SetRef},
    selector::selects,
    snapshot::Snapshot,
    target::labels,
};

/// The most listeners that a Gateway and its ListenerSets may have together; every one of them costs its neighbours work.
pub const MAX_LISTENERS: usize = 256;

/// A Gateway of this controller with everything that listens for it.
#[derive(Clone, Debug)]
pub struct ManagedGateway<'a> {
    /// The Gateway.
    pub gateway: &'a Gateway,
    /// Its own listeners in their order, then those of the ListenerSets that it admits, oldest set first.
    pub listeners: Vec<Listener<'a>>,
    /// The ListenerSets that name it as their parent, oldest first.
    pub sets: Vec<AttachedSet<'a>>,
}

/// A ListenerSet that names a Gateway of this controller.
#[derive(Clone, Debug)]
pub struct AttachedSet<'a> {
    /// The set.
    pub set: &'a ListenerSet,
    /// Whether the Gateway admits sets of its namespace; if not, none of its listeners exists (`Accepted=False`, reason
    /// `NotAllowed`).
    pub allowed: bool,
}

impl AttachedSet<'_> {
    /// The set's name in full.
    #[must_use]
    pub fn reference(&self) -> SetRef {
        SetRef {
            namespace: object::namespace(&self.set.metadata).to_owned(),
            name: object::name(&self.set.metadata).to_owned(),
        }
    }
}

/// The Gateways whose class names this controller, oldest first, with all their listeners.
///
/// A ListenerSet's listener never takes the very host and port of the Gateway's or of an older set's: of listeners that
/// conflict across objects the later one loses, and both do where sets of two namespaces are in conflict and it cannot be
/// told which is older. Inside one object all of them do. A host that only a wider listener covers goes to the more
/// specific one, whoever wrote that (Gateway API): whom `allowedListeners` admits can take it.
#[must_use]
pub fn gateways<'a>(snapshot: &'a Snapshot, controller_name: &str) -> Vec<ManagedGateway<'a>> {
    let mut sets: HashMap<(&str, &str), Vec<&ListenerSet>> = HashMap::new();
    for set in &snapshot.listener_sets {
        if let Some(parent) = parent(set) {
            sets.entry(parent).or_default().push(set);
        }
    }
    let namespaces: HashMap<&str, BTreeMap<String, String>> = if sets.is_empty() {
        HashMap::new()
    } else {
        let named = |metadata| (object::name(metadata), labels(metadata));
        snapshot
            .namespaces
            .iter()
            .map(|namespace| named(&namespace.metadata))
            .collect()
    };
    managed_gateways(snapshot, controller_name)
        .into_iter()
        .map(|gateway| {
            let key = (object::namespace(&gateway.metadata), object::name(&gateway.metadata));
            let mut of_gateway = sets.remove(&key).unwrap_or_default();
            of_gateway.sort_by(|one, other| object::age(&one.metadata).cmp(&object::age(&other.metadata)));
            let mut ports = Ports::default();
            let mut listeners = ports.own(gateway);
            let mut attached = Vec::with_capacity(of_gateway.len());
            for set in of_gateway {
                let allowed = admits(gateway, object::namespace(&set.metadata), &namespaces);
                if allowed && listeners.len().saturating_add(set.spec.listeners.len()) > MAX_LISTENERS {
                    listeners.extend(too_many(gateway, set));
                } else if allowed {
                    listeners.extend(ports.of_set(gateway, set));
                }
                attached.push(AttachedSet { set, allowed });
            }
            // Without a moment the order is that of names, which anybody may choose.
            for listener in listeners.iter_mut().filter(|listener| listener.fault.is_none()) {
                let host = (listener.spec.port, listener.hostname.clone());
                if listener.reference.set.is_some() && ports.contested.contains(&host) {
                    listener.fault = Some(if listener.spec.protocol == "TCP" {
                        Fault::PortConflict
                    } else {
                        Fault::HostnameConflict
                    });
                }
            }
            ManagedGateway {
                gateway,
                listeners,
                sets: attached,
            }
        })
        .collect()
}

/// Namespace and name of the Gateway that a set wants to join; none if its parent is no Gateway.
pub(crate) fn parent(set: &ListenerSet) -> Option<(&str, &str)> {
    let parent = &set.spec.parent_ref;
    let is_gateway = parent.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP
        && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway";
    let namespace = parent
        .namespace
        .as_deref()
        .unwrap_or_else(|| object::namespace(&set.metadata));
    is_gateway.then_some((namespace, parent.name.as_str()))
}

/// Whether a Gateway admits ListenerSets of a namespace; by default of none.
fn admits(gateway: &Gateway, namespace: &str, namespaces: &HashMap<&str, BTreeMap<String, String>>) -> bool {
    let allowed = gateway.spec.allowed_listeners.as_ref();
    let Some(allowed) = allowed.and_then(|allowed| allowed.namespaces.as_ref()) else {
        return false;
    };
    match &allowed.from {
        None | Some(From::None) => false,
        Some(From::Same) => object::namespace(&gateway.metadata) == namespace,
        Some(From::All) => true,
        Some(From::Selector) => {
            let of_namespace = allowed.selector.as_ref().zip(namespaces.get(namespace));
            of_namespace.is_some_and(|(selector, labels)| selects!(selector, labels))
        }
    }
}

impl Ports {
    /// The Gateway's own listeners, in the order of its manifest.
    ///
    /// Of listeners that conflict none is usable: which of them was meant cannot be told, and choosing by position would let
    /// an appended listener take over hosts.
    pub(crate) fn own<'a>(&mut self, gateway: &'a Gateway) -> Vec<Listener<'a>> {
        let specs = gateway.spec.listeners.iter().map(Cow::Borrowed);
        self.judge(specs, None, |listener| reference(gateway, None, listener))
    }

    fn of_set<'a>(&mut self, gateway: &Gateway, set: &ListenerSet) -> Vec<Listener<'a>> {
        let specs = set.spec.listeners.iter().map(|listener| Cow::Owned(own_form(listener)));
        let author = Author {
            namespace: object::namespace(&set.metadata).to_owned(),
            dated: set.metadata.creation_timestamp.is_some(),
        };
        self.judge(specs, Some(&author), |listener| reference(gateway, Some(set), listener))
    }
}

/// Listeners of a set for which there is no room: they hold on to nothing.
fn too_many<'a>(gateway: &Gateway, set: &ListenerSet) -> Vec<Listener<'a>> {
    let refused = |(index, listener): (usize, &ListenerSetListeners)| Listener {
        reference: reference(gateway, Some(set), &listener.name),
        index,
        spec: Cow::Owned(own_form(listener)),
        hostname: hostname::normalize(listener.hostname.as_deref()),
        fault: Some(Fault::TooMany),
        yields: true,
    };
    set.spec.listeners.iter().enumerate().map(refused).collect()
}

fn reference(gateway: &Gateway, set: Option<&ListenerSet>, listener: &str) -> ListenerRef {
    ListenerRef {
        namespace: object::namespace(&gateway.metadata).to_owned(),
        gateway: object::name(&gateway.metadata).to_owned(),
        set: set.map(|set| SetRef {
            namespace: object::namespace(&set.metadata).to_owned(),
            name: object::name(&set.metadata).to_owned(),
        }),
        listener: listener.to_owned(),
    }
}

/// A set's listener in the type of a Gateway's, which has the same fields.
fn own_form(listener: &ListenerSetListeners) -> GatewayListeners {
    let allowed_routes = listener
        .allowed_routes
        .as_ref()
        .map(|allowed| GatewayListenersAllowedRoutes {
            kinds: allowed.kinds.as_ref().map(|kinds| {
                kinds
                    .iter()
                    .map(|kind| GatewayListenersAllowedRoutesKinds {
                        group: kind.group.clone(),
                        kind: kind.kind.clone(),
                    })
                    .collect()
            }),
            namespaces: allowed
                .namespaces
                .as_ref()
                .map(|namespaces| GatewayListenersAllowedRoutesNamespaces {
                    from: namespaces.from.as_ref().map(|from| match from {
                        ListenerSetListenersAllowedRoutesNamespacesFrom::All => {
                            GatewayListenersAllowedRoutesNamespacesFrom::All
                        }
                        ListenerSetListenersAllowedRoutesNamespacesFrom::Selector => {
                            GatewayListenersAllowedRoutesNamespacesFrom::Selector
                        }
                        ListenerSetListenersAllowedRoutesNamespacesFrom::Same => {
                            GatewayListenersAllowedRoutesNamespacesFrom::Same
                        }
                    }),
                    selector: namespaces.selector.as_ref().map(|selector| {
                        GatewayListenersAllowedRoutesNamespacesSelector {
                            match_expressions: selector.match_expressions.as_ref().map(|expressions| {
                                expressions
                                    .iter()
                                    .map(|term| GatewayListenersAllowedRoutesNamespacesSelectorMatchExpressions {
                                        key: term.key.clone(),
                                        operator: term.operator.clone(),
                                        values: term.values.clone(),
                                    })
                                    .collect()
                            }),
                            match_labels: selector.match_labels.clone(),
                        }
                    }),
                }),
        });
    let tls = listener.tls.as_ref().map(|tls| GatewayListenersTls {
        certificate_refs: tls.certificate_refs.as_ref().map(|references| {
            references
                .iter()
                .map(|reference| GatewayListenersTlsCertificateRefs {
                    group: reference.group.clone(),
                    kind: reference.kind.clone(),
                    name: reference.name.clone(),
                    namespace: reference.namespace.clone(),
                })
                .collect()
        }),
        mode: tls.mode.as_ref().map(|mode| match mode {
            ListenerSetListenersTlsMode::Terminate => GatewayListenersTlsMode::Terminate,
            ListenerSetListenersTlsMode::Passthrough => GatewayListenersTlsMode::Passthrough,
        }),
        options: tls.options.clone(),
    });
    GatewayListeners {
        allowed_routes,
        hostname: listener.hostname.clone(),
        name: listener.name.clone(),
        port: listener.port,
        protocol: listener.protocol.clone(),
        tls,
    }
}
