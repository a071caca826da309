//! What the authors of policies are told: conditions and findings.

mod connections;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    claims::{Claims, Layer, Outcome},
    document::Build,
    effective::Candidate,
    fault::{self, Fault, limited},
    finding::{self, Finding, Severity},
    geography::Geography,
    recipe::Outcomes,
    status::{Condition, ConditionStatus, ObjectStatus, ParentRef, Scope, ScopeStatus},
    target::{Section, Slot, TargetKind, Targets},
};

/// How many ancestors a status may have (Gateway API, `PolicyStatus.ancestors`).
const ANCESTORS: usize = 16;

/// The statuses of all policies that target something of ours, oldest first.
pub(crate) fn statuses(
    candidates: &[Candidate<'_>],
    claims: &Claims<'_>,
    geography: &Geography<'_>,
    outcomes: &Outcomes,
) -> Vec<ObjectStatus> {
    let judged = Judged {
        candidates,
        claims,
        geography,
        outcomes,
    };
    candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| {
            let mut ancestors = Ancestors::default();
            for hit in claims.hits(index) {
                let section = candidate
                    .aims
                    .references
                    .get(hit.reference)
                    .and_then(|reference| reference.target.section_name.as_deref())
                    .unwrap_or_default();
                match &hit.outcome {
                    Outcome::Holds(slot, of_hit) => {
                        for ancestor in of_hit {
                            ancestors.holds(ancestor, (hit.layer, *slot), index, &judged);
                        }
                    }
                    Outcome::Conflicted(slot, of_hit, holder) => {
                        let holder = candidates.get(*holder).map(|holder| holder.object.kind);
                        let message = format!(
                            "Unable to target {}, another {} has already attached to it",
                            slot.describe(),
                            holder.unwrap_or_default()
                        );
                        ancestors.refuse(of_hit, "Conflicted", &message);
                    }
                    Outcome::SectionNotFound(slot, of_hit) => {
                        let message = format!("No section name {section} found for {}", slot.object.full());
                        ancestors.refuse(of_hit, "TargetNotFound", &message);
                    }
                    Outcome::Repeated | Outcome::Unsupported | Outcome::NotFound | Outcome::Foreign => {}
                }
            }
            ancestors.merges(index, &judged);
            ancestors.finish(candidate)
        })
        .collect()
}

/// All policies, and what became of them.
struct Judged<'s, 'a> {
    candidates: &'s [Candidate<'a>],
    claims: &'s Claims<'a>,
    geography: &'s Geography<'s>,
    outcomes: &'s Outcomes,
}

/// The ancestors of one policy, in the order in which they were met.
#[derive(Default)]
struct Ancestors {
    order: Vec<ParentRef>,
    by_ref: BTreeMap<ParentRef, Ancestor>,
}

/// What is said about one ancestor.
#[derive(Default)]
struct Ancestor {
    accepted: Option<Condition>,
    merged: Option<String>,
    overridden: Option<String>,
    /// Reasons and messages.
    warnings: BTreeSet<(&'static str, String)>,
}

impl Ancestors {
    fn of(&mut self, ancestor: &ParentRef) -> &mut Ancestor {
        if !self.by_ref.contains_key(ancestor) {
            self.order.push(ancestor.clone());
        }
        self.by_ref.entry(ancestor.clone()).or_default()
    }

    /// A later failure replaces an earlier one; success replaces nothing.
    fn refuse(&mut self, ancestors: &[ParentRef], reason: &'static str, message: &str) {
        for ancestor in ancestors {
            self.of(ancestor).accepted = Some(condition(
                "Accepted",
                ConditionStatus::False,
                reason,
                message.to_owned(),
            ));
        }
    }

    fn holds<'a>(
        &mut self,
        ancestor: &ParentRef,
        (layer, slot): (Layer, Slot<'a>),
        index: usize,
        judged: &Judged<'_, 'a>,
    ) {
        let Some(candidate) = judged.candidates.get(index) else {
            return;
        };
        let outcomes = judged.outcomes;
        let status = self.of(ancestor);
        // What a policy comes to by itself does not matter where it is merged everywhere.
        let merged = outcomes.merges.contains_key(&index) && !outcomes.alone.contains(&index);
        let unfit = connections::unfit((layer, slot), candidate, merged);
        let lacks = lacks(ancestor, candidate, merged, judged.geography);
        if !candidate.build.faults.is_empty() && !merged {
            let message = candidate.build.message(!slot.object.kind.is_route());
            status.accepted = Some(condition("Accepted", ConditionStatus::False, "Invalid", message));
        } else if !unfit.is_empty() {
            let message = fault::message(&unfit, false);
            status.accepted = Some(condition("Accepted", ConditionStatus::False, "Invalid", message));
        } else if !lacks.is_empty() {
            let message = fault::message(&lacks, !slot.object.kind.is_route());
            status.accepted = Some(condition("Accepted", ConditionStatus::False, "Invalid", message));
        } else if status.accepted.is_none() {
            let message = "Policy has been accepted.".to_owned();
            status.accepted = Some(condition("Accepted", ConditionStatus::True, "Accepted", message));
        }
        let none = BTreeSet::new();
        let merged_by = outcomes.merged_by.get(&index).unwrap_or(&none);
        if !merged_by.is_empty() {
            let mut routes: Vec<&str> = merged_by.iter().map(|(_, route)| route.as_str()).collect();
            routes.sort_unstable();
            status.merged = Some(format!(
                "This policy is being merged by other {} for these routes: [{}]",
                candidate.others(),
                routes.join(" ")
            ));
        }
        let overriding = judged.claims.overriding(layer);
        let message = overriding.and_then(|overriding| overriding.message(slot, candidate.others(), merged_by));
        if message.is_some() {
            status.overridden = message;
        }
        if candidate.single_target {
            let message = "spec.targetRef is deprecated, use spec.targetRefs instead".to_owned();
            status.warnings.insert(("DeprecatedField", message));
        }
        if !merged {
            for notice in &candidate.build.notices {
                status.warnings.extend(notice.condition.clone());
            }
        }
        status
            .warnings
            .extend(outcomes.warnings.get(&index).into_iter().flatten().cloned());
        let of_connections = outcomes.notices.get(&index).into_iter().flatten();
        status
            .warnings
            .extend(of_connections.filter_map(|notice| notice.condition.clone()));
        if let Some(message) = refused((layer, slot), candidate, judged.candidates, judged.claims) {
            status.warnings.insert(("RoutesRefused", message));
        }
    }

    /// Tells of a policy that is merged, by listener: that it is, or why it is not.
    fn merges(&mut self, index: usize, judged: &Judged<'_, '_>) {
        for (ancestor, parent) in judged.outcomes.merges.get(&index).into_iter().flatten() {
            let build = judged.outcomes.builds.get(&(index, *parent));
            let (Some(build), Some(parent)) = (build, judged.candidates.get(*parent)) else {
                continue;
            };
            let status = self.of(ancestor);
            for notice in &build.notices {
                status.warnings.extend(notice.condition.clone());
            }
            let unfit = judged.outcomes.unfit.get(&index).and_then(|of| of.get(ancestor));
            if let Some(unfit) = unfit {
                let message = fault::message(unfit, false);
                status.accepted = Some(condition("Accepted", ConditionStatus::False, "Invalid", message));
            } else if build.faults.is_empty() {
                let message = format!("Merged with policy {}/{}", parent.object.namespace, parent.object.name);
                status.merged = Some(message);
            } else {
                let message = build.message(false);
                status.accepted = Some(condition("Accepted", ConditionStatus::False, "Invalid", message));
            }
        }
    }

    fn finish(mut self, candidate: &Candidate<'_>) -> Option<ObjectStatus> {
        let mut scopes: Vec<(ParentRef, Ancestor)> = self
            .order
            .iter()
            .filter_map(|ancestor| self.by_ref.remove_entry(ancestor))
            .collect();
        if scopes.is_empty() {
            return None;
        }
        let truncated = scopes.len() > ANCESTORS;
        if truncated {
            // As Envoy Gateway: by namespace and name, whatever the kind.
            scopes.sort_by(|(one, of_one), (other, of_other)| {
                let one = (of_one.rank(), &one.namespace, &one.name, one);
                one.cmp(&(of_other.rank(), &other.namespace, &other.name, other))
            });
            scopes.truncate(ANCESTORS);
        }
        let last = scopes.len() - 1;
        let scopes = scopes
            .into_iter()
            .enumerate()
            .map(|(index, (ancestor, status))| ScopeStatus {
                scope: Scope::Parent(ancestor),
                conditions: status.conditions(truncated && index == last),
                attached_routes: None,
                supported_kinds: Vec::new(),
            });
        Some(ObjectStatus::new(
            candidate.object.clone(),
            candidate.metadata.generation,
            scopes.collect(),
        ))
    }
}

impl Ancestor {
    /// What survives a truncation first.
    fn rank(&self) -> u8 {
        let refused = self
            .accepted
            .as_ref()
            .is_some_and(|accepted| accepted.status == ConditionStatus::False);
        match (refused, &self.overridden) {
            (true, _) => 0,
            (false, Some(_)) => 1,
            (false, None) => 2,
        }
    }

    fn conditions(self, aggregated: bool) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = self.accepted.into_iter().collect();
        if aggregated {
            let message =
                format!("Ancestors have been truncated because the number of policy ancestors exceeds {ANCESTORS}.");
            conditions.push(condition("Aggregated", ConditionStatus::True, "Aggregated", message));
        }
        if let Some(message) = self.merged {
            conditions.push(condition("Merged", ConditionStatus::True, "Merged", message));
        }
        if let Some(message) = self.overridden {
            conditions.push(condition("Overridden", ConditionStatus::True, "Overridden", message));
        }
        let reasons: BTreeSet<&'static str> = self.warnings.iter().map(|(reason, _)| *reason).collect();
        let messages: Vec<String> = self.warnings.into_iter().map(|(_, message)| message).collect();
        let reason = match reasons.into_iter().collect::<Vec<_>>().as_slice() {
            [] => return conditions,
            [reason] => reason,
            _ => "Warnings",
        };
        conditions.push(condition("Warning", ConditionStatus::True, reason, messages.join("; ")));
        conditions
    }
}

/// What a policy that is enforced by itself asks of databases that the proxies of an ancestor do not have.
fn lacks(ancestor: &ParentRef, candidate: &Candidate<'_>, merged: bool, geography: &Geography<'_>) -> Vec<Fault> {
    if merged || !candidate.build.faults.is_empty() {
        return Vec::new();
    }
    geography.lack_at(&candidate.build.document, ancestor)
}

fn condition(r#type: &'static str, status: ConditionStatus, reason: &'static str, message: String) -> Condition {
    Condition {
        r#type,
        status,
        reason,
        message: limited(message),
    }
}

/// Why places that the holder of a slot covers answer 500 although it is not at fault itself.
fn refused(
    (layer, slot): (Layer, Slot<'_>),
    candidate: &Candidate<'_>,
    candidates: &[Candidate<'_>],
    claims: &Claims<'_>,
) -> Option<String> {
    let names = |indexes: &[usize]| {
        let names: Vec<String> = indexes
            .iter()
            .filter_map(|index| candidates.get(*index))
            .map(|candidate| format!("{}/{}", candidate.object.namespace, candidate.object.name))
            .collect();
        names.join(" ")
    };
    if layer == Layer::Shadow {
        return None;
    }
    let others = candidate.others();
    let closed = if slot.object.kind == TargetKind::TcpRoute {
        "Connections that this policy covers are refused"
    } else {
        "Requests that this policy covers are answered with 500"
    };
    if let Some((_, losers)) = claims.of(layer, slot).split_first()
        && !losers.is_empty()
    {
        return Some(format!(
            "{closed} because other {others} target {} as well: [{}]",
            slot.describe(),
            names(losers)
        ));
    }
    if layer == Layer::Baseline || slot.section != Section::Whole {
        return None;
    }
    let sections = if slot.object.kind.is_route() {
        "rules"
    } else {
        "listeners"
    };
    let lost = claims.of(layer, slot.object.slot(Section::Lost));
    (!lost.is_empty()).then(|| {
        format!(
            "{closed} because other {others} target {sections} that {} does not have: [{}]",
            slot.describe(),
            names(lost)
        )
    })
}

/// The findings of all policies, oldest first.
pub(crate) fn findings<'a>(
    candidates: &[Candidate<'a>],
    claims: &Claims<'a>,
    targets: &Targets<'a>,
    geography: &Geography<'_>,
    outcomes: &Outcomes,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let parents: BTreeSet<usize> = outcomes
            .merges
            .get(&index)
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        let own = parents.is_empty() || outcomes.alone.contains(&index);
        let merged = parents
            .iter()
            .filter_map(|parent| outcomes.builds.get(&(index, *parent)).map(AsRef::as_ref));
        let builds: Vec<&Build> = own
            .then_some(candidate.build.as_ref())
            .into_iter()
            .chain(merged)
            .collect();
        // A broken policy's findings come from who found it broken.
        findings.extend(
            builds
                .iter()
                .flat_map(|build| &build.faults)
                .filter(|fault| !fault.is_of_schema())
                .map(|fault| Finding {
                    severity: Severity::Error,
                    code: fault.code,
                    object: candidate.object.clone(),
                    path: fault.path.clone(),
                    message: fault.message.clone(),
                    fix: fault.fix.clone(),
                }),
        );
        findings.extend(builds.iter().flat_map(|build| &build.notices).map(|notice| Finding {
            severity: Severity::Warning,
            code: notice.code,
            object: candidate.object.clone(),
            path: notice.path.clone(),
            message: notice.message.clone(),
            fix: Some(notice.fix.clone()),
        }));
        findings.extend(connections::findings(
            index, candidate, !own, claims, geography, outcomes,
        ));
        if candidate.single_target {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "deprecated-field",
                object: candidate.object.clone(),
                path: "spec.targetRef".to_owned(),
                message: "spec.targetRef is deprecated".to_owned(),
                fix: Some("write a list of one under targetRefs".to_owned()),
            });
        }
        findings.extend(candidate.aims.idle.iter().map(|idle| Finding {
            severity: idle.severity,
            code: idle.code,
            object: candidate.object.clone(),
            path: idle.path.clone(),
            message: idle.message.clone(),
            fix: Some(idle.fix.clone()),
        }));
        if candidate.aims.references.is_empty() && !candidate.build.faults.iter().any(Fault::is_of_schema) {
            let (severity, message, fix) = if candidate.selects {
                // What it is meant for may come later.
                (Severity::Warning, "no target is selected", None)
            } else {
                (
                    Severity::Error,
                    "the policy targets nothing",
                    Some("write targetRefs".to_owned()),
                )
            };
            findings.push(Finding {
                severity,
                code: "no-target",
                object: candidate.object.clone(),
                path: "spec".to_owned(),
                message: message.to_owned(),
                fix,
            });
        }
        for hit in claims.hits(index) {
            let Some(reference) = candidate.aims.references.get(hit.reference) else {
                continue;
            };
            let target = &reference.target;
            let named = format!("{} {}/{}", target.kind, reference.namespace, target.name);
            let (severity, code, field, message, fix) = match &hit.outcome {
                Outcome::Holds(..) | Outcome::Foreign => continue,
                Outcome::Conflicted(slot, _, holder) => {
                    let holder = candidates.get(*holder).map(|holder| holder.object.to_string());
                    let effect = if hit.layer == Layer::Shadow {
                        "this one is not evaluated there"
                    } else if slot.object.kind == TargetKind::TcpRoute {
                        "what both cover is refused"
                    } else {
                        "what both cover answers 500"
                    };
                    let message = format!(
                        "{} is already targeted by {}: {effect}",
                        slot.describe(),
                        holder.unwrap_or_default()
                    );
                    let fix = "merge the two policies into one".to_owned();
                    (Severity::Error, "policy-conflict", "", message, Some(fix))
                }
                Outcome::SectionNotFound(slot, _) => {
                    let section = target.section_name.as_deref().unwrap_or_default();
                    let what = if slot.object.kind.is_route() {
                        "rule"
                    } else {
                        "listener"
                    };
                    let names: Vec<&str> = targets.sections(slot.object).iter().flatten().copied().collect();
                    let effect = if hit.layer == Layer::Shadow {
                        "it is not evaluated there"
                    } else if slot.object.kind == TargetKind::TcpRoute {
                        "connections of the route are refused"
                    } else {
                        "what that may stand for answers 500"
                    };
                    let message = format!("{named} has no {what} {section:?}: {effect}");
                    let fix = finding::one_of(&names).unwrap_or_else(|| format!("give the {what} a name"));
                    (Severity::Error, "section-not-found", ".sectionName", message, Some(fix))
                }
                Outcome::Repeated => {
                    let message = format!("{named} is named before");
                    (
                        Severity::Warning,
                        "duplicate-target",
                        "",
                        message,
                        Some("remove it".to_owned()),
                    )
                }
                Outcome::Unsupported => {
                    let message = format!(
                        "targets of kind {:?} of group {:?} are not served",
                        target.kind, target.group
                    );
                    let fix = "target a Gateway, a ListenerSet, an HTTPRoute, a GRPCRoute or a TCPRoute".to_owned();
                    (Severity::Error, "unsupported-target", ".kind", message, Some(fix))
                }
                Outcome::NotFound => {
                    let message = format!("{named} does not exist");
                    let fix = finding::one_of(&targets.names(&target.kind, &reference.namespace))
                        .unwrap_or_else(|| format!("create it in namespace {}", reference.namespace));
                    (Severity::Error, "target-not-found", ".name", message, Some(fix))
                }
            };
            findings.push(Finding {
                severity,
                code,
                object: candidate.object.clone(),
                path: format!("{}{field}", reference.path),
                message,
                fix,
            });
        }
    }
    findings
}
