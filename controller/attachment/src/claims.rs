//! Which policy took which slot, and which came too late.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    effective::Candidate,
    status::ParentRef,
    target::{Resolved, Slot, Targets},
};

/// The slots of all policies.
pub(crate) struct Claims<'a> {
    /// Policies by slot, oldest first: the first holds it.
    slots: HashMap<Slot<'a>, Vec<usize>>,
    /// What every policy's references lead to, the most specific first.
    hits: Vec<Vec<Hit<'a>>>,
    /// Which more specific policies there are, by what they are more specific than.
    pub(crate) overriding: Overriding<'a>,
}

/// One reference of a policy and what became of it.
pub(crate) struct Hit<'a> {
    /// The index of the reference.
    pub(crate) reference: usize,
    pub(crate) outcome: Outcome<'a>,
}

/// What became of a reference.
pub(crate) enum Outcome<'a> {
    /// The policy has the slot.
    Holds(Slot<'a>, Vec<ParentRef>),
    /// An older policy has the slot: its index.
    Conflicted(Slot<'a>, Vec<ParentRef>, usize),
    /// The target has no such section.
    SectionNotFound(Slot<'a>, Vec<ParentRef>),
    /// The policy names the same target before.
    Repeated,
    /// A group or kind that is not served.
    Unsupported,
    /// No such object.
    NotFound,
    /// An object of other controllers.
    Foreign,
}

impl<'a> Claims<'a> {
    pub(crate) fn new(candidates: &[Candidate<'a>], targets: &Targets<'a>) -> Self {
        let mut slots: HashMap<Slot<'a>, Vec<usize>> = HashMap::new();
        let mut overriding = Overriding::default();
        let mut hits = Vec::with_capacity(candidates.len());
        for (index, candidate) in candidates.iter().enumerate() {
            let mut of_policy: Vec<Hit<'a>> = Vec::with_capacity(candidate.references.len());
            for (reference, written) in candidate.references.iter().enumerate() {
                let outcome = match targets.resolve(written) {
                    Resolved::Unsupported => Outcome::Unsupported,
                    Resolved::NotFound => Outcome::NotFound,
                    Resolved::Foreign => Outcome::Foreign,
                    Resolved::Slot(slot, ancestors) => {
                        overriding.add(slot, targets);
                        let of_slot = slots.entry(slot).or_default();
                        let repeated = of_slot.last() == Some(&index);
                        if !repeated {
                            of_slot.push(index);
                        }
                        match of_slot.first() {
                            _ if slot.is_lost() => Outcome::SectionNotFound(slot, ancestors),
                            _ if repeated => Outcome::Repeated,
                            Some(holder) if *holder != index => Outcome::Conflicted(slot, ancestors, *holder),
                            _ => Outcome::Holds(slot, ancestors),
                        }
                    }
                };
                of_policy.push(Hit { reference, outcome });
            }
            of_policy.sort_by_key(|hit| hit.outcome.pass());
            hits.push(of_policy);
        }
        Self {
            slots,
            hits,
            overriding,
        }
    }

    /// The policies of a slot, oldest first.
    pub(crate) fn of<'s>(&'s self, slot: Slot<'s>) -> &'s [usize] {
        self.slots.get(&slot).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a policy's references lead to.
    pub(crate) fn hits(&self, candidate: usize) -> &[Hit<'a>] {
        self.hits.get(candidate).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Outcome<'_> {
    /// The pass in which Envoy Gateway handles such a target; a later one's failure hides an earlier one's.
    const fn pass(&self) -> u8 {
        match self {
            Self::Holds(slot, _) | Self::Conflicted(slot, ..) | Self::SectionNotFound(slot, _) => match slot {
                Slot::Rule(..) | Slot::LostRule(..) => 0,
                Slot::Route(..) => 1,
                Slot::Listener(..) | Slot::LostListener(..) => 2,
                Slot::Gateway(..) => 3,
            },
            _ => 4,
        }
    }
}

/// Routes by namespace and name.
type Routes<'a> = BTreeSet<(&'a str, &'a str)>;

/// The more specific policies by scope. What became of those policies does not matter: they hide the wider one anyway.
#[derive(Default)]
pub(crate) struct Overriding<'a> {
    /// Listeners with a policy, by Gateway.
    listeners: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
    /// Routes with a policy that refer to the whole Gateway.
    routes: BTreeMap<(&'a str, &'a str), Routes<'a>>,
    /// Routes with a policy that refer to a listener, by Gateway and listener.
    listener_routes: BTreeMap<(&'a str, &'a str), BTreeMap<&'a str, Routes<'a>>>,
    /// Rules with a policy, by route.
    rules: BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>,
}

impl<'a> Overriding<'a> {
    fn add(&mut self, slot: Slot<'a>, targets: &Targets<'a>) {
        match slot {
            Slot::Gateway(..) | Slot::LostListener(..) => {}
            Slot::Listener(namespace, gateway, listener) => {
                self.listeners.entry((namespace, gateway)).or_default().insert(listener);
            }
            Slot::Route(namespace, route) | Slot::LostRule(namespace, route) => {
                self.add_route(namespace, route, targets);
            }
            Slot::Rule(namespace, route, rule) => {
                self.rules.entry((namespace, route)).or_default().insert(rule);
                self.add_route(namespace, route, targets);
            }
        }
    }

    fn add_route(&mut self, namespace: &'a str, route: &'a str, targets: &Targets<'a>) {
        for parent in targets.parents(namespace, route) {
            let gateway = (parent.namespace.as_str(), parent.name.as_str());
            let routes = match &parent.section_name {
                None => self.routes.entry(gateway).or_default(),
                Some(section) => self
                    .listener_routes
                    .entry(gateway)
                    .or_default()
                    .entry(section)
                    .or_default(),
            };
            routes.insert((namespace, route));
        }
    }

    /// The message of the Overridden condition of a policy that holds a slot, in Envoy Gateway's words.
    pub(crate) fn message(&self, slot: Slot<'_>) -> Option<String> {
        let mut listeners = BTreeSet::new();
        let mut routes = BTreeSet::new();
        match slot {
            Slot::Rule(..) | Slot::LostRule(..) | Slot::LostListener(..) => return None,
            Slot::Route(namespace, route) => {
                let rules: Vec<&str> = self.rules.get(&(namespace, route))?.iter().copied().collect();
                return Some(overridden(&[("these route rules", rules.join(" "))]));
            }
            Slot::Listener(namespace, gateway, listener) => {
                routes.extend(self.routes.get(&(namespace, gateway)).into_iter().flatten());
                let of_listeners = self.listener_routes.get(&(namespace, gateway));
                routes.extend(
                    of_listeners
                        .and_then(|routes| routes.get(listener))
                        .into_iter()
                        .flatten(),
                );
            }
            Slot::Gateway(namespace, gateway) => {
                listeners.extend(
                    self.listeners
                        .get(&(namespace, gateway))
                        .into_iter()
                        .flatten()
                        .map(|listener| format!("{namespace}/{gateway}/{listener}")),
                );
                routes.extend(self.routes.get(&(namespace, gateway)).into_iter().flatten());
                let of_listeners = self.listener_routes.get(&(namespace, gateway));
                routes.extend(of_listeners.into_iter().flat_map(BTreeMap::values).flatten());
            }
        }
        let listeners: Vec<String> = listeners.into_iter().collect();
        let mut routes: Vec<String> = routes
            .into_iter()
            .map(|(namespace, route)| format!("{namespace}/{route}"))
            .collect();
        routes.sort_unstable();
        if listeners.is_empty() && routes.is_empty() {
            return None;
        }
        Some(overridden(&[
            ("these gateway listeners", listeners.join(" ")),
            ("these routes", routes.join(" ")),
        ]))
    }
}

fn overridden(groups: &[(&str, String)]) -> String {
    let groups: Vec<String> = groups
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: [{names}]"))
        .collect();
    format!(
        "This policy is being overridden by other securityPolicies for {}",
        groups.join(" and ")
    )
}
