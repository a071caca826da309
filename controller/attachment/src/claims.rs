//! Which policy took which slot, and which came too late.

use std::collections::HashMap;

use crate::{
    effective::Candidate,
    overriding::Overriding,
    status::ParentRef,
    target::{Resolved, Slot, Targets},
};

/// How a policy bears on the requests of its places. Policies of different layers share no slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// The most specific one decides.
    Enforced,
    /// That of the Gateway must admit the request as well.
    Baseline,
    /// The most specific one is evaluated, and changes nothing.
    Shadow,
}

/// The slots of all policies.
pub(crate) struct Claims<'a> {
    /// Policies by slot, oldest first: the first holds it.
    slots: HashMap<(Layer, Slot<'a>), Vec<usize>>,
    /// What every policy's references lead to, the most specific first.
    hits: Vec<Vec<Hit<'a>>>,
    enforced: Overriding<'a>,
    shadow: Overriding<'a>,
}

/// One reference of a policy and what became of it.
pub(crate) struct Hit<'a> {
    /// The index of the reference.
    pub(crate) reference: usize,
    pub(crate) layer: Layer,
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
        let mut claims = Self {
            slots: HashMap::new(),
            hits: Vec::with_capacity(candidates.len()),
            enforced: Overriding::default(),
            shadow: Overriding::default(),
        };
        for (index, candidate) in candidates.iter().enumerate() {
            let references = &candidate.aims.references;
            let mut of_policy: Vec<Hit<'a>> = Vec::with_capacity(references.len());
            for (reference, written) in references.iter().enumerate() {
                let (layer, outcome) = match targets.resolve(written) {
                    Resolved::Unsupported => (Layer::Enforced, Outcome::Unsupported),
                    Resolved::NotFound => (Layer::Enforced, Outcome::NotFound),
                    Resolved::Foreign => (Layer::Enforced, Outcome::Foreign),
                    Resolved::Slot(slot, ancestors) => {
                        let layer = candidate.layer(slot);
                        (layer, claims.claim(index, layer, slot, ancestors, targets))
                    }
                };
                of_policy.push(Hit {
                    reference,
                    layer,
                    outcome,
                });
            }
            of_policy.sort_by_key(|hit| hit.outcome.pass());
            claims.hits.push(of_policy);
        }
        claims
    }

    fn claim(
        &mut self,
        index: usize,
        layer: Layer,
        slot: Slot<'a>,
        ancestors: Vec<ParentRef>,
        targets: &Targets<'a>,
    ) -> Outcome<'a> {
        match layer {
            Layer::Enforced => self.enforced.add(slot, targets),
            Layer::Shadow => self.shadow.add(slot, targets),
            Layer::Baseline => {}
        }
        let of_slot = self.slots.entry((layer, slot)).or_default();
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

    /// The policies of a slot, oldest first.
    pub(crate) fn of<'s>(&'s self, layer: Layer, slot: Slot<'s>) -> &'s [usize] {
        self.slots.get(&(layer, slot)).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a policy's references lead to.
    pub(crate) fn hits(&self, candidate: usize) -> &[Hit<'a>] {
        self.hits.get(candidate).map(Vec::as_slice).unwrap_or_default()
    }

    /// What overrides the policies of a layer; nothing overrides a baseline.
    pub(crate) const fn overriding(&self, layer: Layer) -> Option<&Overriding<'a>> {
        match layer {
            Layer::Enforced => Some(&self.enforced),
            Layer::Shadow => Some(&self.shadow),
            Layer::Baseline => None,
        }
    }
}

impl Outcome<'_> {
    fn pass(&self) -> u8 {
        match self {
            Self::Holds(slot, _) | Self::Conflicted(slot, ..) | Self::SectionNotFound(slot, _) => slot.pass(),
            _ => u8::MAX,
        }
    }
}
