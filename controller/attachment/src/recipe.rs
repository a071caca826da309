//! Which policies make up the policy of a place, and what comes of putting them together.

mod connections;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use portcullis_engine::document::{self, Cors, Document};

use crate::{
    claims::{Claims, Layer},
    connection::Admission,
    document::{Build, Part, compose, merged},
    effective::{Candidate, EffectivePolicy, Options, deliver, identity, open, salt, size, to_json},
    fault::{Fault, Notice},
    geography::Geography,
    key_server::KeyServer,
    memo::ByAddress,
    memory::{Ingredient, Memory, Merging},
    object::{GATEWAY_GROUP, ListenerRef},
    reference::References,
    status::ParentRef,
    target::{Object, Section, Slot, TargetKind},
};

/// The slots that cover a place, the most specific first; the last is the whole Gateway.
struct Cover<'s> {
    slots: Vec<Slot<'s>>,
    /// How many of them are of the route; the others are of its parent.
    of_route: usize,
}

impl<'s> Cover<'s> {
    fn of(route: Object<'s>, rule: Option<&'s str>, listener: &'s ListenerRef) -> Self {
        let gateway = Object {
            kind: TargetKind::Gateway,
            namespace: &listener.namespace,
            name: &listener.gateway,
        };
        let on = Section::Named(&listener.listener);
        let mut slots = Vec::with_capacity(7);
        slots.extend(rule.map(|rule| route.slot(Section::Named(rule))));
        slots.extend([route.slot(Section::Lost), route.whole()]);
        let of_route = slots.len();
        match &listener.set {
            // The Gateway's own listeners are siblings of a set's: their policies do not cover it.
            Some(set) => {
                let set = Object {
                    kind: TargetKind::ListenerSet,
                    namespace: &set.namespace,
                    name: &set.name,
                };
                slots.extend([set.slot(on), set.slot(Section::Lost), set.whole()]);
            }
            None => slots.extend([gateway.slot(on), gateway.slot(Section::Lost)]),
        }
        slots.push(gateway.whole());
        Self { slots, of_route }
    }
}

/// What the policy of a place is made of, by the indexes of candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Recipe {
    enforced: Option<usize>,
    /// What the enforced one is merged with.
    parent: Option<usize>,
    baseline: Option<usize>,
    shadow: Option<usize>,
    /// One that lost its target to the enforced one, and whose claims would have selected routes.
    rival: Option<usize>,
    /// Whether every request is refused in the name of the enforced policy, or of the baseline where that one is whole.
    refused: Option<Layer>,
    /// The CORS filter of the route's rule, by the index among those that were met.
    cors: Option<usize>,
}

/// All that the policy of a recipe is made from. A build belongs to one policy, so its address stands for that one's name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ingredients {
    enforced: Option<Ingredient>,
    parent: Option<Ingredient>,
    baseline: Option<Ingredient>,
    shadow: Option<Ingredient>,
    rival: Option<Ingredient>,
    refused: Option<Layer>,
    /// As it is written.
    cors: Option<String>,
}

/// A policy, and what the authors of its parts must be told.
#[derive(Clone)]
pub(crate) struct Made {
    policy: Arc<EffectivePolicy>,
    warnings: Vec<(Layer, &'static str, String)>,
}

impl Made {
    fn new(policy: EffectivePolicy) -> Self {
        Self {
            policy: Arc::new(policy),
            warnings: Vec::new(),
        }
    }
}

/// What came out of putting policies together that their authors must be told, by candidate.
#[derive(Default)]
pub(crate) struct Outcomes {
    /// Warnings: reasons and messages.
    pub(crate) warnings: BTreeMap<usize, BTreeSet<(&'static str, String)>>,
    /// Where a policy is merged, and with which one.
    pub(crate) merges: BTreeMap<usize, BTreeMap<ParentRef, usize>>,
    /// The routes, `namespace/name`, whose policies are merged with this one.
    pub(crate) merged_by: BTreeMap<usize, BTreeSet<(TargetKind, String)>>,
    /// What the merging of two policies came to.
    pub(crate) builds: HashMap<(usize, usize), Arc<Build>>,
    /// Policies that are enforced by themselves somewhere although they are to be merged.
    pub(crate) alone: BTreeSet<usize>,
    /// What of a merged policy connections cannot answer, by child and listener.
    pub(crate) unfit: BTreeMap<usize, BTreeMap<ParentRef, Vec<Fault>>>,
    /// What policies come to for connections that their authors must be told.
    pub(crate) notices: BTreeMap<usize, Vec<Notice>>,
}

/// Makes the policies of all places, each once.
pub(crate) struct Composer<'c, 'a> {
    candidates: &'c [Candidate<'a>],
    claims: &'c Claims<'a>,
    references: &'c References<'c>,
    geography: &'c Geography<'c>,
    salt_key: &'c [u8; 32],
    /// The CORS filters of rules, each once.
    cors: Vec<Cors>,
    /// Their indexes, by what they say.
    filters: HashMap<String, usize>,
    made: HashMap<Recipe, Arc<EffectivePolicy>>,
    admissions: HashMap<(Recipe, bool), Arc<Admission>>,
    outcomes: Outcomes,
    memory: &'c mut Memory,
}

impl<'c, 'a> Composer<'c, 'a> {
    pub(crate) fn new(
        candidates: &'c [Candidate<'a>],
        claims: &'c Claims<'a>,
        references: &'c References<'c>,
        geography: &'c Geography<'c>,
        options: &'c Options,
        memory: &'c mut Memory,
    ) -> Self {
        Self {
            candidates,
            claims,
            references,
            geography,
            salt_key: &options.salt_key,
            cors: Vec::new(),
            filters: HashMap::new(),
            made: HashMap::new(),
            admissions: HashMap::new(),
            outcomes: Outcomes::default(),
            memory,
        }
    }

    pub(crate) fn outcome(self) -> Outcomes {
        self.outcomes
    }

    /// The policy of a place; the CORS filter of its rule stands in place of the policy's CORS.
    pub(crate) fn policy(
        &mut self,
        route: Object<'_>,
        rule: Option<&str>,
        listener: &ListenerRef,
        cors: Option<&Cors>,
    ) -> Arc<EffectivePolicy> {
        let cover = Cover::of(route, rule, listener);
        let recipe = Recipe {
            cors: cors.map(|cors| self.filter(cors)),
            ..self.recipe(&cover, route, listener)
        };
        if let Some(known) = self.made.get(&recipe) {
            return Arc::clone(known);
        }
        let policy = self.remember(recipe);
        self.made.insert(recipe, Arc::clone(&policy));
        policy
    }

    /// Makes the policy of a recipe unless the last snapshot had it too, and notes what authors must be told.
    fn remember(&mut self, recipe: Recipe) -> Arc<EffectivePolicy> {
        let ingredients = self.ingredients(recipe);
        let known = self.memory.policies.recall(&ingredients);
        let made = known.unwrap_or_else(|| self.make(recipe));
        for (layer, reason, message) in &made.warnings {
            let index = match layer {
                Layer::Enforced => recipe.enforced,
                Layer::Baseline => recipe.baseline,
                Layer::Shadow => recipe.shadow,
            };
            if let Some(index) = index {
                let warnings = self.outcomes.warnings.entry(index).or_default();
                warnings.insert((reason, message.clone()));
            }
        }
        let policy = Arc::clone(&made.policy);
        self.memory.policies.keep(ingredients, made);
        policy
    }

    fn ingredients(&self, recipe: Recipe) -> Ingredients {
        let own = |build: Option<&Arc<Build>>| build.map(|build| ByAddress(Arc::clone(build)));
        Ingredients {
            enforced: own(self.enforced(recipe)),
            parent: own(self.build(recipe.parent)),
            baseline: own(self.build(recipe.baseline)),
            shadow: own(self.build(recipe.shadow)),
            rival: own(self.build(recipe.rival)),
            refused: recipe.refused,
            cors: recipe.cors.and_then(|index| self.cors.get(index)).map(to_json),
        }
    }

    fn filter(&mut self, cors: &Cors) -> usize {
        let written = to_json(cors);
        if let Some(known) = self.filters.get(&written) {
            return *known;
        }
        let index = self.cors.len();
        self.cors.push(cors.clone());
        self.filters.insert(written, index);
        index
    }

    fn is_whole(&self, index: usize) -> bool {
        self.candidates
            .get(index)
            .is_some_and(|candidate| candidate.build.faults.is_empty())
    }

    /// Whether a policy is whole, and the proxies of a listener know all that it asks.
    fn can_tell(&self, index: usize, listener: &ListenerRef) -> bool {
        let build = self.build(Some(index)).filter(|_| self.is_whole(index));
        build.is_some_and(|build| self.geography.lack_on(&build.document, listener).is_empty())
    }

    fn recipe(&mut self, cover: &Cover<'_>, route: Object<'_>, listener: &ListenerRef) -> Recipe {
        let claims = self.claims;
        let mut recipe = Recipe::default();
        let claimed = cover.slots.iter().map(|slot| (slot, claims.of(Layer::Enforced, *slot)));
        let mut claimed = claimed.filter(|(_, policies)| !policies.is_empty());
        if let Some((slot, [holder, others @ ..])) = claimed.next() {
            recipe.enforced = Some(*holder);
            let contested = slot.is_lost() || !others.is_empty();
            let selects = |index: &usize| {
                self.candidates
                    .get(*index)
                    .is_some_and(|other| other.selecting().is_some())
            };
            recipe.rival = others.iter().copied().find(selects);
            let merges = self.candidates.get(*holder).is_some_and(Candidate::merges);
            let above = cover.slots.iter().skip(cover.of_route);
            let above = above.map(|slot| (slot, claims.of(Layer::Enforced, *slot)));
            let parent = above
                .filter(|_| merges && !contested)
                .find_map(|(slot, policies)| match policies {
                    [] => None,
                    [parent, others @ ..] => Some((*parent, slot.is_lost() || !others.is_empty())),
                });
            let whole = match parent {
                Some((parent, contested)) => {
                    recipe.parent = Some(parent);
                    self.merge(*holder, parent, contested, route, listener)
                }
                None => {
                    if merges {
                        self.outcomes.alone.insert(*holder);
                    }
                    let of_route = self.holds(cover, recipe.enforced);
                    let build = self.build(recipe.enforced).filter(|_| of_route);
                    self.can_tell(*holder, listener)
                        && build.is_none_or(|build| self.unfit(route, *holder, build).is_empty())
                }
            };
            if contested || !whole {
                recipe.refused = Some(Layer::Enforced);
            }
        }
        if let Some(gateway) = cover.slots.last()
            && let [holder, others @ ..] = claims.of(Layer::Baseline, *gateway)
        {
            recipe.baseline = Some(*holder);
            if recipe.refused.is_none() && !(others.is_empty() && self.can_tell(*holder, listener)) {
                recipe.refused = Some(Layer::Baseline);
            }
        }
        if recipe.refused.is_none() {
            let mut held = cover.slots.iter().filter(|slot| !slot.is_lost());
            let holder = held.find_map(|slot| claims.of(Layer::Shadow, *slot).first());
            recipe.shadow = holder.copied().filter(|holder| self.can_tell(*holder, listener));
        }
        recipe
    }

    /// Merges a policy with the one above it, once, and notes where; tells whether the outcome is whole.
    fn merge(
        &mut self,
        child: usize,
        parent: usize,
        contested: bool,
        route: Object<'_>,
        listener: &ListenerRef,
    ) -> bool {
        let (Some(of_child), Some(of_parent)) = (self.candidates.get(child), self.candidates.get(parent)) else {
            return false;
        };
        let Ok(source) = of_child.source else { return false };
        let whole = of_parent.build.faults.is_empty() && !contested;
        let references = self.references;
        let salt_key = self.salt_key;
        let memory = &mut *self.memory;
        let build = self.outcomes.builds.entry((child, parent)).or_insert_with(|| {
            let objects = (of_child.object.clone(), of_parent.object.clone());
            let merging = Merging {
                child: of_child.origin.clone(),
                parent: of_parent.origin.clone(),
                whole,
            };
            memory.merge(objects, &merging, references, || {
                let with = match of_parent.source {
                    Ok(parent) if whole => Ok(parent),
                    Ok(parent) => Err(parent.author),
                    Err(author) => Err(author),
                };
                let salt = salt(salt_key, &identity(source.author.kind, of_child.metadata));
                merged(source, with, salt, references)
            })
        });
        let build = Arc::clone(build);
        let unfit = if build.faults.is_empty() {
            let mut unfit = self.unfit(route, child, &build);
            unfit.extend(self.geography.lack_on(&build.document, listener));
            unfit
        } else {
            Vec::new()
        };
        let whole = build.faults.is_empty() && unfit.is_empty();
        let (kind, namespace, name) = match &listener.set {
            None => ("Gateway", &listener.namespace, &listener.gateway),
            Some(set) => ("ListenerSet", &set.namespace, &set.name),
        };
        let ancestor = ParentRef {
            group: GATEWAY_GROUP.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.clone(),
            name: name.clone(),
            section_name: Some(listener.listener.clone()),
            port: None,
        };
        if !unfit.is_empty() {
            let of_child = self.outcomes.unfit.entry(child).or_default();
            of_child.insert(ancestor.clone(), unfit);
        }
        self.outcomes.merges.entry(child).or_default().insert(ancestor, parent);
        if whole {
            let name = (route.kind, format!("{}/{}", route.namespace, route.name));
            self.outcomes.merged_by.entry(parent).or_default().insert(name);
        }
        whole
    }

    fn make(&self, recipe: Recipe) -> Made {
        let composed = self.compose(recipe);
        let size = size(&composed);
        if size <= document::MAX_BYTES {
            return Made::new(composed);
        }
        let over = format!("{size} bytes, more than {}", document::MAX_BYTES);
        if recipe.shadow.is_some() {
            let message = format!("This policy is not evaluated where it and what is enforced come to {over}.");
            let mut made = self.make(Recipe { shadow: None, ..recipe });
            made.warnings.push((Layer::Shadow, "NotEvaluated", message));
            return made;
        }
        if recipe.refused.is_some() {
            // Nothing but its CORS can be that large.
            return Made::new(self.closed(recipe));
        }
        let refused = Some(if recipe.enforced.is_some() {
            Layer::Enforced
        } else {
            Layer::Baseline
        });
        let mut made = self.make(Recipe { refused, ..recipe });
        for layer in [Layer::Enforced, Layer::Baseline] {
            let message =
                format!("Requests are answered with 500 where this policy and the others of the place come to {over}.");
            made.warnings.push((layer, "RoutesRefused", message));
        }
        made
    }

    fn build(&self, index: Option<usize>) -> Option<&Arc<Build>> {
        self.candidates.get(index?).map(|candidate| &candidate.build)
    }

    fn enforced(&self, recipe: Recipe) -> Option<&Arc<Build>> {
        let pair = recipe.enforced.zip(recipe.parent);
        pair.and_then(|pair| self.outcomes.builds.get(&pair))
            .or_else(|| self.build(recipe.enforced))
    }

    /// The documents of a recipe as one.
    fn compose(&self, recipe: Recipe) -> EffectivePolicy {
        let own = match (self.enforced(recipe), recipe.refused) {
            (Some(build), Some(Layer::Enforced)) => build.refusal(),
            (Some(build), _) => (build.document.clone(), build.secrets.clone()),
            (None, _) => open(self.salt_key),
        };
        let baseline = self.build(recipe.baseline).map(|build| match recipe.refused {
            Some(Layer::Baseline) => build.refusal(),
            _ => (build.document.clone(), build.secrets.clone()),
        });
        let shadow = self
            .build(recipe.shadow)
            .map(|build| (build.document.clone(), build.secrets.clone()));
        let part = |(document, secrets)| Part { document, secrets };
        let (document, secrets) = compose(
            part((&own.0, &own.1)),
            baseline.as_ref().map(|(document, secrets)| part((document, secrets))),
            shadow.as_ref().map(|(document, secrets)| part((document, secrets))),
            recipe.cors.and_then(|index| self.cors.get(index)),
        );
        let mut policy = self.named(recipe, deliver(&document, &secrets));
        policy.key_servers = self.key_servers(recipe, &document);
        policy
    }

    /// The servers of keys that a document of a recipe names.
    fn key_servers(&self, recipe: Recipe, document: &Document) -> Vec<Arc<KeyServer>> {
        let documents = [Some(document), document.baseline.as_deref(), document.shadow.as_deref()];
        let jwt = documents
            .into_iter()
            .flatten()
            .filter_map(|document| document.jwt.as_ref());
        let named: BTreeSet<&str> = jwt
            .flat_map(|jwt| &jwt.remote_key_sets)
            .map(|set| set.id.as_str())
            .collect();
        if named.is_empty() {
            return Vec::new();
        }
        let builds = [
            self.enforced(recipe),
            self.build(recipe.baseline),
            self.build(recipe.shadow),
        ];
        let servers = builds.into_iter().flatten().flat_map(|build| &build.key_servers);
        let servers = servers.filter(|server| named.contains(server.id.as_str()));
        let servers: BTreeMap<&str, &Arc<KeyServer>> = servers.map(|server| (server.id.as_str(), server)).collect();
        servers.into_values().cloned().collect()
    }

    /// The refusal of a recipe without CORS.
    fn closed(&self, recipe: Recipe) -> EffectivePolicy {
        let build = match recipe.refused {
            Some(Layer::Baseline) => self.build(recipe.baseline),
            _ => self.enforced(recipe),
        };
        let (mut document, secrets) = build.map_or_else(|| open(self.salt_key), |build| build.refusal());
        document.refuse = Some(document::Refuse::PolicyInvalid);
        document.cors = None;
        self.named(recipe, deliver(&document, &secrets))
    }

    fn named(&self, recipe: Recipe, mut policy: EffectivePolicy) -> EffectivePolicy {
        let object = |index: Option<usize>| {
            let candidate = index.and_then(|index| self.candidates.get(index));
            candidate.map(|candidate| candidate.object.clone())
        };
        policy.enforced = object(recipe.enforced);
        policy.merged = object(recipe.parent);
        policy.baseline = object(recipe.baseline);
        policy.shadow = object(recipe.shadow);
        let judging = [recipe.enforced, recipe.parent, recipe.baseline, recipe.rival];
        let judging = judging.into_iter().flatten();
        let judging = judging.filter_map(|index| self.candidates.get(index));
        policy.selecting = judging.filter_map(Candidate::selecting).collect();
        policy
    }
}
