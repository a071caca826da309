//! All routes that something of ours takes: read once, and their conditions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use gateway_api::{experimental::tcproutes::TcpRoute, grpcroutes::GrpcRoute, httproutes::HttpRoute};
use portcullis_api::http_route::HttpRouteRetry;
use portcullis_attachment::{
    binding::Bindings,
    finding::{Finding, Severity},
    object::{self, ListenerRef, ObjectRef},
    snapshot::{RouteRetries, Snapshot, UnknownField},
    status::{Condition, ConditionStatus, ObjectStatus, Scope, ScopeStatus},
};

use crate::{
    backends::Backends,
    report::{Fault, condition, ignored, sentence},
    route::{
        rule::{Notes, Rule},
        source::{Kind, Source},
    },
};

/// Every bound route, oldest first.
pub(crate) struct Routes {
    pub(crate) all: Vec<Read>,
    /// Positions in `all`, with the hostnames served there.
    by_listener: HashMap<ListenerRef, Vec<(usize, Vec<String>)>>,
}

/// One route.
pub(crate) struct Read {
    pub(crate) object: ObjectRef,
    /// `httproute/namespace/name`, or the same with `grpcroute` or `tcproute`.
    pub(crate) name: Arc<str>,
    pub(crate) rules: Vec<Arc<Rule>>,
    generation: Option<i64>,
    notes: Vec<Notes>,
}

impl Routes {
    /// Reads every route that has a parent of ours.
    pub(crate) fn read(
        snapshot: &Snapshot,
        bindings: &Bindings,
        backends: &mut Backends<'_>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let objects = Objects::new(snapshot);
        let mut routes = Self {
            all: Vec::new(),
            by_listener: HashMap::new(),
        };
        let mut positions: HashMap<&ObjectRef, usize> = HashMap::new();
        for parent in &bindings.parents {
            let position = match positions.get(&parent.route) {
                Some(position) => *position,
                None => {
                    let Some((generation, kind, rules)) = objects.understood(&parent.route) else {
                        continue;
                    };
                    let read = Read::new(&parent.route, kind, generation, rules, backends, findings);
                    routes.all.push(read);
                    positions.insert(&parent.route, routes.all.len() - 1);
                    routes.all.len() - 1
                }
            };
            for bound in &parent.listeners {
                let on = routes.by_listener.entry(bound.listener.clone()).or_default();
                // Two parentRefs may lead to the same listener; those of one route come one after another.
                match on.last_mut().filter(|(other, _)| *other == position) {
                    Some((_, hostnames)) => {
                        for host in &bound.hostnames {
                            if !hostnames.contains(host) {
                                hostnames.push(host.clone());
                            }
                        }
                    }
                    None => on.push((position, bound.hostnames.clone())),
                }
            }
        }
        routes
    }

    /// The routes that a listener takes.
    pub(crate) fn on(&self, listener: &ListenerRef) -> &[(usize, Vec<String>)] {
        self.by_listener.get(listener).map(Vec::as_slice).unwrap_or_default()
    }

    /// The status of every route.
    pub(crate) fn statuses(&self, bindings: &Bindings) -> Vec<ObjectStatus> {
        let mut scopes: BTreeMap<&ObjectRef, Vec<ScopeStatus>> = BTreeMap::new();
        let known: HashMap<&ObjectRef, &Read> = self.all.iter().map(|route| (&route.object, route)).collect();
        for parent in &bindings.parents {
            let Some(route) = known.get(&parent.route) else {
                continue;
            };
            scopes.entry(&parent.route).or_default().push(ScopeStatus {
                scope: Scope::Parent(parent.parent.clone()),
                conditions: route.conditions(&parent.accepted),
                attached_routes: None,
                supported_kinds: Vec::new(),
            });
        }
        self.all
            .iter()
            .map(|route| {
                ObjectStatus::new(
                    route.object.clone(),
                    route.generation,
                    scopes.remove(&route.object).unwrap_or_default(),
                )
            })
            .collect()
    }
}

type Key<'a> = (&'a str, &'a str);

/// Routes of all kinds, by namespace and name.
struct Objects<'a> {
    http: HashMap<Key<'a>, &'a HttpRoute>,
    grpc: HashMap<Key<'a>, &'a GrpcRoute>,
    tcp: HashMap<Key<'a>, &'a TcpRoute>,
    retries: HashMap<Key<'a>, &'a BTreeMap<usize, HttpRouteRetry>>,
    unknown: HashMap<&'a ObjectRef, &'a [UnknownField]>,
}

impl<'a> Objects<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        macro_rules! by_name {
            ($objects:expr, $value:expr) => {
                $objects
                    .iter()
                    .map(|object| {
                        let metadata = &object.metadata;
                        (
                            (object::namespace(metadata), object::name(metadata)),
                            $value(object),
                        )
                    })
                    .collect()
            };
        }
        Self {
            http: by_name!(snapshot.http_routes, AsRef::as_ref),
            grpc: by_name!(snapshot.grpc_routes, AsRef::as_ref),
            tcp: by_name!(snapshot.tcp_routes, AsRef::as_ref),
            retries: by_name!(snapshot.http_route_retries, |retries: &'a Arc<RouteRetries>| &retries
                .rules),
            unknown: snapshot
                .unknown_fields
                .iter()
                .map(|unknown| (&unknown.object, unknown.fields.as_slice()))
                .collect(),
        }
    }

    /// As [`Objects::rules`]; a rule with a field that is not understood is at fault.
    fn understood(&self, route: &'a ObjectRef) -> Option<(Option<i64>, Kind, Vec<Source<'a>>)> {
        let mut found = self.rules(route)?;
        for field in self.unknown.get(route).copied().unwrap_or_default() {
            for (index, source) in found.2.iter_mut().enumerate() {
                if let Some(path) = field.below("rules", index) {
                    source.fault = Some(Fault::new("unknown-field", path, field.message.clone()));
                }
            }
        }
        Some(found)
    }

    /// The generation, the kind and the rules of a route.
    fn rules(&self, route: &'a ObjectRef) -> Option<(Option<i64>, Kind, Vec<Source<'a>>)> {
        let key = (route.namespace.as_str(), route.name.as_str());
        let namespace = route.namespace.as_str();
        if route.kind == Kind::Grpc.name() {
            let object = self.grpc.get(&key)?;
            let rules = object.spec.rules.iter().flatten();
            let sources = rules.map(|rule| Source::grpc(rule, namespace)).collect();
            return Some((object.metadata.generation, Kind::Grpc, sources));
        }
        if route.kind == Kind::Tcp.name() {
            let object = self.tcp.get(&key)?;
            let rules = &object.spec.rules;
            let sources = rules.iter().map(|rule| Source::tcp(rule, rules.len() == 1, namespace));
            return Some((object.metadata.generation, Kind::Tcp, sources.collect()));
        }
        let object = self.http.get(&key)?;
        let retries = self.retries.get(&key);
        let rules = object.spec.rules.iter().flatten().enumerate();
        let sources = rules
            .map(|(index, rule)| Source::http(rule, retries.and_then(|retries| retries.get(&index)), namespace))
            .collect();
        Some((object.metadata.generation, Kind::Http, sources))
    }
}

impl Read {
    fn new(
        object: &ObjectRef,
        kind: Kind,
        generation: Option<i64>,
        sources: Vec<Source<'_>>,
        backends: &mut Backends<'_>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut rules = Vec::new();
        let mut all_notes = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let (rule, notes) = Rule::read(source, backends);
            let path = format!("spec.rules[{index}]");
            let located = |fault: &Fault, severity| fault.clone().below(&path).finding(severity, object);
            findings.extend(notes.faults.iter().map(|fault| located(fault, Severity::Error)));
            findings.extend(
                notes
                    .unresolved
                    .iter()
                    .map(|(_, fault)| located(fault, Severity::Error)),
            );
            findings.extend(notes.warnings.iter().map(|fault| located(fault, Severity::Warning)));
            rules.push(Arc::new(rule));
            all_notes.push(notes);
        }
        if rules.is_empty() {
            findings
                .push(ignored("spec.rules", "a route without rules serves nothing").finding(Severity::Warning, object));
        }
        Self {
            object: object.clone(),
            name: format!("{}/{}/{}", kind.name().to_lowercase(), object.namespace, object.name).into(),
            rules,
            generation,
            notes: all_notes,
        }
    }

    fn conditions(&self, bound: &Condition) -> Vec<Condition> {
        let mut conditions = vec![bound.clone()];
        let faulty: Vec<usize> = (0..)
            .zip(&self.notes)
            .filter(|(_, notes)| !notes.faults.is_empty())
            .map(|(index, _)| index)
            .collect();
        let first = self.notes.iter().find_map(|notes| notes.faults.first());
        if let Some(fault) = first.filter(|_| bound.status == ConditionStatus::True) {
            let reason = if fault.code == "incompatible-filters" {
                "IncompatibleFilters"
            } else {
                "UnsupportedValue"
            };
            let message = format!("Rule(s) {faulty:?}: {}", sentence(&fault.message));
            if faulty.len() == self.notes.len() {
                conditions = vec![condition("Accepted", false, reason, message)];
            } else {
                conditions.push(condition("PartiallyInvalid", true, reason, message));
            }
        }
        let unresolved = self.notes.iter().find_map(|notes| notes.unresolved.first());
        conditions.push(match unresolved {
            Some((reason, fault)) => condition("ResolvedRefs", false, reason, sentence(&fault.message)),
            None => condition(
                "ResolvedRefs",
                true,
                "ResolvedRefs",
                "Resolved all the Object references for the Route",
            ),
        });
        let empty: Vec<&str> = self
            .notes
            .iter()
            .flat_map(|notes| notes.empty.iter().map(String::as_str))
            .collect();
        if let Some(first) = empty.first() {
            let message = format!("No ready endpoints behind {first}.");
            conditions.push(condition("BackendsAvailable", false, "EndpointsNotFound", message));
        }
        conditions.sort_by_key(|condition| condition.r#type);
        conditions
    }
}
