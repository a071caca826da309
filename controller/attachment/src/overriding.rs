//! Which policies hide a wider one, for its Overridden condition.

use std::collections::{BTreeMap, BTreeSet};

use crate::target::{Object, Section, Slot, TargetKind, Targets};

/// The more specific policies of one layer by scope. What became of those policies does not matter: they hide the wider
/// one anyway.
#[derive(Default)]
pub(crate) struct Overriding<'a> {
    /// Listeners or rules with a policy, by object.
    sections: BTreeMap<Object<'a>, BTreeSet<&'a str>>,
    /// ListenerSets with a policy, by Gateway.
    sets: BTreeMap<Object<'a>, BTreeSet<Object<'a>>>,
    /// Routes with a policy, by what they refer to: the whole parent or one of its listeners.
    routes: BTreeMap<Object<'a>, BTreeMap<Option<&'a str>, Routes<'a>>>,
    /// ListenerSets that have anything to tell of, by Gateway.
    contained: BTreeMap<Object<'a>, BTreeSet<Object<'a>>>,
}

type Routes<'a> = BTreeSet<Object<'a>>;

impl<'a> Overriding<'a> {
    /// Notes a policy that is aimed at a slot.
    pub(crate) fn add(&mut self, slot: Slot<'a>, targets: &Targets<'a>) {
        let object = slot.object;
        if let Section::Named(section) = slot.section {
            self.sections.entry(object).or_default().insert(section);
        }
        match object.kind {
            TargetKind::HttpRoute | TargetKind::GrpcRoute | TargetKind::TcpRoute => self.add_route(object, targets),
            TargetKind::ListenerSet => {
                if let Some(gateway) = targets.gateway(object) {
                    self.contained.entry(gateway).or_default().insert(object);
                    if slot.section == Section::Whole {
                        self.sets.entry(gateway).or_default().insert(object);
                    }
                }
            }
            TargetKind::Gateway => {}
        }
    }

    fn add_route(&mut self, route: Object<'a>, targets: &Targets<'a>) {
        for reference in targets.parents(route) {
            let kind = if reference.kind == "ListenerSet" {
                TargetKind::ListenerSet
            } else {
                TargetKind::Gateway
            };
            let parent = Object {
                kind,
                namespace: &reference.namespace,
                name: &reference.name,
            };
            if let Some(gateway) = targets.gateway(parent) {
                self.contained.entry(gateway).or_default().insert(parent);
            }
            let of_parent = self.routes.entry(parent).or_default();
            of_parent
                .entry(reference.section_name.as_deref())
                .or_default()
                .insert(route);
        }
    }

    /// The message of the Overridden condition of a policy that holds a slot, in Envoy Gateway's words; `others` is what
    /// it calls the policies that override. Routes whose
    /// policies are merged with this one are left out.
    pub(crate) fn message(
        &self,
        slot: Slot<'a>,
        others: &str,
        merged: &BTreeSet<(TargetKind, String)>,
    ) -> Option<String> {
        let object = slot.object;
        if object.kind.is_route() {
            if slot.section != Section::Whole {
                return None;
            }
            let rules: Vec<&str> = self.sections.get(&object)?.iter().copied().collect();
            return overridden(others, &[("these route rules", rules)]);
        }
        let mut found = Found::default();
        match slot.section {
            Section::Lost => return None,
            Section::Named(listener) => {
                let of_parent = self.routes.get(&object);
                for section in [None, Some(listener)] {
                    let routes = of_parent.and_then(|routes| routes.get(&section));
                    found.routes.extend(routes.into_iter().flatten());
                }
            }
            Section::Whole => {
                self.collect(object, &mut found);
                found.sets.extend(self.sets.get(&object).into_iter().flatten());
                for set in self.contained.get(&object).into_iter().flatten() {
                    self.collect(*set, &mut found);
                }
            }
        }
        found
            .routes
            .retain(|route| !merged.contains(&(route.kind, format!("{}/{}", route.namespace, route.name))));
        let listener = |(of, listener): &(Object<'_>, &str)| format!("{}/{}/{listener}", of.namespace, of.name);
        let whole = |object: &Object<'_>| format!("{}/{}", object.namespace, object.name);
        let of_kind = |kind: TargetKind| {
            let listeners = found.listeners.iter().filter(move |(of, _)| of.kind == kind);
            sorted(listeners.map(listener))
        };
        let groups = [
            ("these gateway listeners", of_kind(TargetKind::Gateway)),
            ("these listenersets", sorted(found.sets.iter().map(whole))),
            ("these listenerset listeners", of_kind(TargetKind::ListenerSet)),
            ("these routes", sorted(found.routes.iter().map(whole))),
        ];
        let groups = groups
            .each_ref()
            .map(|(what, names)| (*what, names.iter().map(String::as_str).collect()));
        overridden(others, &groups)
    }

    /// What is more specific than an object and hangs on it directly or through one of its listeners.
    fn collect(&self, object: Object<'a>, found: &mut Found<'a>) {
        let sections = self.sections.get(&object).into_iter().flatten();
        found.listeners.extend(sections.map(|section| (object, *section)));
        let routes = self.routes.get(&object).into_iter().flat_map(BTreeMap::values);
        found.routes.extend(routes.flatten());
    }
}

/// What overrides one policy.
#[derive(Default)]
struct Found<'a> {
    listeners: BTreeSet<(Object<'a>, &'a str)>,
    sets: BTreeSet<Object<'a>>,
    routes: Routes<'a>,
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

fn overridden(others: &str, groups: &[(&str, Vec<&str>)]) -> Option<String> {
    let groups: Vec<String> = groups
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: [{}]", names.join(" ")))
        .collect();
    (!groups.is_empty()).then(|| {
        format!(
            "This policy is being overridden by other {others} for {}",
            groups.join(" and ")
        )
    })
}
