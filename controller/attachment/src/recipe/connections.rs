//! Who may connect to a TCPRoute, by the policies that make up the one of its place.

use std::sync::Arc;

use super::{Composer, Cover, Recipe};
use crate::{
    claims::Layer,
    connection::{Admission, Reading, admits_all, not_evaluated},
    document::Build,
    fault::{Fault, Notice},
    object::ListenerRef,
    target::{Object, TargetKind},
};

impl Composer<'_, '_> {
    /// Who may connect to a TCPRoute on a listener.
    pub(crate) fn admission(
        &mut self,
        route: Object<'_>,
        rule: Option<&str>,
        listener: &ListenerRef,
    ) -> Arc<Admission> {
        let cover = Cover::of(route, rule, listener);
        let recipe = self.recipe(&cover, route, listener);
        let own = self.holds(&cover, recipe.enforced);
        if let Some(known) = self.admissions.get(&(recipe, own)) {
            return Arc::clone(known);
        }
        let admission = Arc::new(self.admit(recipe, own));
        self.admissions.insert((recipe, own), Arc::clone(&admission));
        admission
    }

    /// Reads the policies of a recipe for connections; `own` if the enforced one is the route's.
    fn admit(&mut self, recipe: Recipe, own: bool) -> Admission {
        let mut layers = Vec::new();
        let mut refuses = recipe.refused.is_some();
        let read = |build: Option<&Arc<Build>>| build.map(|build| Reading::of(&build.document));
        let parts = [
            (
                Layer::Baseline,
                recipe.baseline,
                read(self.build(recipe.baseline)),
                false,
            ),
            (Layer::Enforced, recipe.enforced, read(self.enforced(recipe)), own),
        ];
        for (layer, index, reading, own) in parts {
            let Some((index, reading)) = index.zip(reading).filter(|_| !refuses) else {
                continue;
            };
            let notices = if !own {
                reading.notices(layer == Layer::Baseline)
            } else if reading.admitting.is_none() && recipe.parent.is_none() {
                vec![admits_all()]
            } else {
                Vec::new()
            };
            self.notice(index, notices);
            refuses |= reading.refuses();
            layers.extend(reading.admitting);
        }
        if let Some(shadow) = recipe.shadow {
            self.notice(shadow, vec![not_evaluated()]);
        }
        let object = |index: Option<usize>| {
            let candidate = index.and_then(|index| self.candidates.get(index));
            candidate.map(|candidate| candidate.object.clone())
        };
        let admission = Admission {
            hash: String::new(),
            layers: if refuses { Vec::new() } else { layers },
            refuses,
            enforced: object(recipe.enforced),
            merged: object(recipe.parent),
            baseline: object(recipe.baseline),
        };
        admission.hashed()
    }

    fn notice(&mut self, index: usize, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let told = self.outcomes.notices.entry(index).or_default();
        for notice in notices {
            if !told.contains(&notice) {
                told.push(notice);
            }
        }
    }

    /// Whether the policy that decides at a place is one of the route itself.
    pub(super) fn holds(&self, cover: &Cover<'_>, policy: Option<usize>) -> bool {
        let of_route = cover.slots.iter().take(cover.of_route);
        let mut held = of_route.filter_map(|slot| self.claims.of(Layer::Enforced, *slot).first().copied());
        policy.is_some() && held.next() == policy
    }

    /// What of a policy connections cannot answer.
    pub(super) fn unfit(&self, route: Object<'_>, policy: usize, build: &Build) -> Vec<Fault> {
        let kind = self.candidates.get(policy).map(|candidate| candidate.object.kind);
        match kind {
            Some(kind) if route.kind == TargetKind::TcpRoute => Reading::of(&build.document).faults(kind),
            _ => Vec::new(),
        }
    }
}
