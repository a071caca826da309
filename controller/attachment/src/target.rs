//! What policies target: objects, sections, and who got there first.

mod aims;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) use self::aims::{Aims, Reference};
use crate::{
    binding::Bindings,
    finding,
    listener_set::{ManagedGateway, gateways, parent},
    object::{self, GATEWAY_GROUP, ObjectRef},
    route::{GRPC_ROUTE, HTTP_ROUTE, TCP_ROUTE, routes},
    snapshot::Snapshot,
    status::ParentRef,
};

/// A kind that policies can target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    ListenerSet,
    Gateway,
}

impl TargetKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TcpRoute,
        Self::ListenerSet,
        Self::Gateway,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HttpRoute => HTTP_ROUTE,
            Self::GrpcRoute => GRPC_ROUTE,
            Self::TcpRoute => TCP_ROUTE,
            Self::ListenerSet => "ListenerSet",
            Self::Gateway => "Gateway",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is a route, whose sections are rules; sections of the others are listeners.
    pub(crate) const fn is_route(self) -> bool {
        matches!(self, Self::HttpRoute | Self::GrpcRoute | Self::TcpRoute)
    }
}

/// An object that policies can target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Object<'a> {
    pub(crate) kind: TargetKind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Object<'a> {
    /// The object of that name; none if policies cannot target its kind.
    pub(crate) fn named(object: &'a ObjectRef) -> Option<Self> {
        Some(Self {
            kind: TargetKind::of(object.kind)?,
            namespace: &object.namespace,
            name: &object.name,
        })
    }

    fn of(kind: TargetKind, metadata: &'a ObjectMeta) -> Self {
        Self {
            kind,
            namespace: object::namespace(metadata),
            name: object::name(metadata),
        }
    }

    /// As Envoy Gateway's messages name it: `Kind namespace/name`.
    pub(crate) fn full(self) -> String {
        format!("{} {}/{}", self.kind.name(), self.namespace, self.name)
    }

    pub(crate) const fn whole(self) -> Slot<'a> {
        self.slot(Section::Whole)
    }

    pub(crate) const fn slot(self, section: Section<'a>) -> Slot<'a> {
        Slot { object: self, section }
    }
}

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Section<'a> {
    /// Every rule, or the listener, of that name.
    Named(&'a str),
    /// One that the object does not have; it may have been any of those that no policy names.
    Lost,
    /// The object itself.
    Whole,
}

/// What at most one policy can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot<'a> {
    pub(crate) object: Object<'a>,
    pub(crate) section: Section<'a>,
}

impl Slot<'_> {
    /// The target for the message of a conflict, in Envoy Gateway's words.
    pub(crate) fn describe(self) -> String {
        let name = self.object.name;
        match self.section {
            Section::Named(rule) if self.object.kind.is_route() => format!("RouteRule {name}/{rule}"),
            Section::Named(listener) => format!("Listener {name}/{listener}"),
            Section::Lost | Section::Whole => format!("{} {name}", self.object.kind.name()),
        }
    }

    /// Whether it is one that several policies share without being at odds.
    pub(crate) fn is_lost(self) -> bool {
        self.section == Section::Lost
    }

    /// The pass in which Envoy Gateway handles it; a later one's failure hides an earlier one's.
    pub(crate) fn pass(self) -> u8 {
        let whole = u8::from(self.section == Section::Whole);
        match self.object.kind {
            TargetKind::HttpRoute | TargetKind::GrpcRoute | TargetKind::TcpRoute => whole,
            TargetKind::ListenerSet => 2 + whole,
            TargetKind::Gateway => 4 + whole,
        }
    }
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
    objects: HashMap<Object<'a>, Known<'a>>,
    namespaces: HashMap<&'a str, &'a ObjectMeta>,
    /// Names by kind and namespace, sorted.
    names: HashMap<(TargetKind, &'a str), BTreeSet<&'a str>>,
}

/// What is known about an object.
struct Known<'a> {
    metadata: &'a ObjectMeta,
    /// Whether it is, or hangs on, a Gateway of ours.
    ours: bool,
    /// The names of its rules or listeners.
    sections: Vec<Option<&'a str>>,
    /// The managed parents of a route.
    parents: Vec<&'a ParentRef>,
    /// The Gateway of a ListenerSet.
    gateway: Option<Object<'a>>,
}

impl<'a> Known<'a> {
    const fn new(metadata: &'a ObjectMeta, sections: Vec<Option<&'a str>>) -> Self {
        Self {
            metadata,
            ours: false,
            sections,
            parents: Vec::new(),
            gateway: None,
        }
    }
}

impl<'a> Targets<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, bindings: &'a Bindings, controller_name: &str) -> Self {
        let mut objects: HashMap<Object<'a>, Known<'a>> = HashMap::new();
        for route in routes(snapshot) {
            let kind = TargetKind::of(route.kind).unwrap_or(TargetKind::HttpRoute);
            objects.insert(
                Object::of(kind, route.metadata),
                Known::new(route.metadata, route.rules),
            );
        }
        for gateway in &snapshot.gateways {
            let listeners = gateway
                .spec
                .listeners
                .iter()
                .map(|listener| Some(listener.name.as_str()));
            let known = Known::new(&gateway.metadata, listeners.collect());
            objects.insert(Object::of(TargetKind::Gateway, &gateway.metadata), known);
        }
        for set in &snapshot.listener_sets {
            let listeners = set.spec.listeners.iter().map(|listener| Some(listener.name.as_str()));
            let known = Known::new(&set.metadata, listeners.collect());
            objects.insert(Object::of(TargetKind::ListenerSet, &set.metadata), known);
        }
        for ManagedGateway { gateway, .. } in gateways(snapshot, controller_name) {
            if let Some(known) = objects.get_mut(&Object::of(TargetKind::Gateway, &gateway.metadata)) {
                known.ours = true;
            }
        }
        for set in &snapshot.listener_sets {
            let object = Object::of(TargetKind::ListenerSet, &set.metadata);
            let Some((namespace, name)) = parent(set) else { continue };
            let gateway = Object {
                kind: TargetKind::Gateway,
                namespace,
                name,
            };
            if objects.get(&gateway).is_some_and(|gateway| gateway.ours)
                && let Some(known) = objects.get_mut(&object)
            {
                known.ours = true;
                known.gateway = Some(gateway);
            }
        }
        for parent in &bindings.parents {
            let Some(route) = Object::named(&parent.route) else {
                continue;
            };
            if let Some(known) = objects.get_mut(&route) {
                known.ours = true;
                known.parents.push(&parent.parent);
            }
        }
        let mut names: HashMap<_, BTreeSet<&str>> = HashMap::new();
        for object in objects.keys() {
            names
                .entry((object.kind, object.namespace))
                .or_default()
                .insert(object.name);
        }
        Self {
            objects,
            names,
            namespaces: snapshot
                .namespaces
                .iter()
                .map(|namespace| (object::name(&namespace.metadata), &namespace.metadata))
                .collect(),
        }
    }

    /// Some names of objects of a kind in a namespace.
    pub(crate) fn names(&self, kind: &str, namespace: &str) -> Vec<&'a str> {
        let names = TargetKind::of(kind).and_then(|kind| self.names.get(&(kind, namespace)));
        names.into_iter().flatten().take(finding::SHOWN + 1).copied().collect()
    }

    /// The managed parents of a route.
    pub(crate) fn parents(&self, route: Object<'a>) -> &[&'a ParentRef] {
        self.objects
            .get(&route)
            .map(|known| known.parents.as_slice())
            .unwrap_or_default()
    }

    /// The Gateway of ours that a ListenerSet names as its parent.
    pub(crate) fn gateway(&self, set: Object<'a>) -> Option<Object<'a>> {
        self.objects.get(&set)?.gateway
    }

    /// The names of a route's rules, or of the listeners of a Gateway or a ListenerSet.
    pub(crate) fn sections(&self, object: Object<'a>) -> &[Option<&'a str>] {
        self.objects
            .get(&object)
            .map(|known| known.sections.as_slice())
            .unwrap_or_default()
    }

    pub(crate) fn resolve(&self, reference: &Reference) -> Resolved<'a> {
        let target = &reference.target;
        let kind = TargetKind::of(&target.kind).filter(|_| target.group == GATEWAY_GROUP);
        let Some(kind) = kind else {
            return Resolved::Unsupported;
        };
        let wanted = Object {
            kind,
            namespace: &reference.namespace,
            name: &target.name,
        };
        let Some(known) = self.objects.get(&wanted) else {
            return Resolved::NotFound;
        };
        if !known.ours {
            return Resolved::Foreign;
        }
        let section = match target.section_name.as_deref() {
            None => Section::Whole,
            Some(wanted) => {
                let mut named = known.sections.iter().flatten();
                named
                    .find(|name| **name == wanted)
                    .map_or(Section::Lost, |name| Section::Named(name))
            }
        };
        let slot = Object::of(kind, known.metadata).slot(section);
        let ancestors = if kind.is_route() {
            let mut ancestors: Vec<ParentRef> = Vec::with_capacity(known.parents.len());
            for parent in &known.parents {
                let ancestor = ParentRef {
                    port: None,
                    ..(*parent).clone()
                };
                if !ancestors.contains(&ancestor) {
                    ancestors.push(ancestor);
                }
            }
            ancestors
        } else {
            vec![ParentRef {
                group: GATEWAY_GROUP.to_owned(),
                kind: kind.name().to_owned(),
                namespace: wanted.namespace.to_owned(),
                name: wanted.name.to_owned(),
                section_name: target.section_name.clone(),
                port: None,
            }]
        };
        Resolved::Slot(slot, ancestors)
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
