//! What the authors of policies are told of what they come to in places: on TCPRoutes, and without databases.

use std::collections::BTreeMap;

use crate::{
    claims::{Claims, Layer, Outcome},
    connection::{Reading, no_shadow},
    effective::Candidate,
    fault::Fault,
    finding::{Finding, Severity},
    geography::Geography,
    recipe::Outcomes,
    target::{Slot, TargetKind},
};

/// Why a policy that is enforced by itself on a TCPRoute is invalid there, whole as it may be elsewhere.
pub(super) fn unfit((layer, slot): (Layer, Slot<'_>), candidate: &Candidate<'_>, merged: bool) -> Vec<Fault> {
    if slot.object.kind != TargetKind::TcpRoute || merged || !candidate.build.faults.is_empty() {
        return Vec::new();
    }
    let kind = candidate.object.kind;
    let mut faults = Reading::of(&candidate.build.document).faults(kind);
    if layer == Layer::Shadow {
        faults.push(no_shadow(kind));
    }
    faults
}

/// The findings of a policy; `merged` if it is enforced nowhere by itself.
pub(super) fn findings(
    index: usize,
    candidate: &Candidate<'_>,
    merged: bool,
    claims: &Claims<'_>,
    geography: &Geography<'_>,
    outcomes: &Outcomes,
) -> Vec<Finding> {
    let mut faults: Vec<Fault> = Vec::new();
    let of_targets = claims.hits(index).iter().flat_map(|hit| match &hit.outcome {
        Outcome::Holds(slot, ancestors) => {
            let mut faults = unfit((hit.layer, *slot), candidate, merged);
            let lacks = ancestors.iter();
            faults.extend(lacks.flat_map(|ancestor| super::lacks(ancestor, candidate, merged, geography)));
            faults
        }
        _ => Vec::new(),
    });
    let of_merges = outcomes.unfit.get(&index).into_iter().flat_map(BTreeMap::values);
    for fault in of_targets.chain(of_merges.flatten().cloned()) {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    let faults = faults.into_iter().map(|fault| Finding {
        severity: Severity::Error,
        code: fault.code,
        object: candidate.object.clone(),
        path: fault.path,
        message: fault.message,
        fix: fault.fix,
    });
    let notices = outcomes.notices.get(&index).into_iter().flatten();
    let notices = notices.map(|notice| Finding {
        severity: Severity::Warning,
        code: notice.code,
        object: candidate.object.clone(),
        path: notice.path.clone(),
        message: notice.message.clone(),
        fix: Some(notice.fix.clone()),
    });
    faults.chain(notices).collect()
}
