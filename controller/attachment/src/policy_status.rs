//! What the authors of policies are told: conditions and findings.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    claims::{Claims, Outcome},
    effective::Candidate,
    fault::{Fault, limited},
    finding::{self, Finding, Severity},
    status::{Condition, ConditionStatus, ObjectStatus, ParentRef, Scope, ScopeStatus},
    target::{Slot, Targets},
};

/// How many ancestors a status may have (Gateway API, `PolicyStatus.ancestors`).
const ANCESTORS: usize = 16;

/// The statuses of all policies that target something of ours, oldest first.
pub(crate) fn statuses(candidates: &[Candidate<'_>], claims: &Claims<'_>) -> Vec<ObjectStatus> {
    candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| {
            let mut ancestors = Ancestors::default();
            for hit in claims.hits(index) {
                let section = candidate
                    .references
                    .get(hit.reference)
                    .and_then(|reference| reference.target.section_name.as_deref())
                    .unwrap_or_default();
                match &hit.outcome {
                    Outcome::Holds(slot, of_hit) => {
                        for ancestor in of_hit {
                            ancestors.holds(ancestor, *slot, candidate, candidates, claims);
                        }
                    }
                    Outcome::Conflicted(slot, of_hit, _) => {
                        let message = format!(
                            "Unable to target {}, another SecurityPolicy has already attached to it",
                            slot.describe()
                        );
                        ancestors.refuse(of_hit, "Conflicted", &message);
                    }
                    Outcome::SectionNotFound(slot, of_hit) => {
                        let target = match *slot {
                            Slot::LostListener(namespace, name) => format!("Gateway {namespace}/{name}"),
                            Slot::LostRule(namespace, name)
                            | Slot::Rule(namespace, name, _)
                            | Slot::Route(namespace, name)
                            | Slot::Listener(namespace, name, _)
                            | Slot::Gateway(namespace, name) => format!("HTTPRoute {namespace}/{name}"),
                        };
                        let message = format!("No section name {section} found for {target}");
                        ancestors.refuse(of_hit, "TargetNotFound", &message);
                    }
                    Outcome::Repeated | Outcome::Unsupported | Outcome::NotFound | Outcome::Foreign => {}
                }
            }
            ancestors.finish(candidate)
        })
        .collect()
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

    fn holds(
        &mut self,
        ancestor: &ParentRef,
        slot: Slot<'_>,
        candidate: &Candidate<'_>,
        candidates: &[Candidate<'_>],
        claims: &Claims<'_>,
    ) {
        let status = self.of(ancestor);
        if !candidate.build.faults.is_empty() {
            let message = candidate.build.message(slot.on_gateway());
            status.accepted = Some(condition("Accepted", ConditionStatus::False, "Invalid", message));
        } else if status.accepted.is_none() {
            let message = "Policy has been accepted.".to_owned();
            status.accepted = Some(condition("Accepted", ConditionStatus::True, "Accepted", message));
        }
        if let Some(message) = claims.overriding.message(slot) {
            status.overridden = Some(message);
        }
        if candidate.single_target {
            let message = "spec.targetRef is deprecated, use spec.targetRefs instead".to_owned();
            status.warnings.insert(("DeprecatedField", message));
        }
        for notice in &candidate.build.notices {
            status.warnings.extend(notice.condition.clone());
        }
        if let Some(message) = refused(slot, candidates, claims) {
            status.warnings.insert(("RoutesRefused", message));
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
            scopes.sort_by(|one, other| (one.1.rank(), &one.0).cmp(&(other.1.rank(), &other.0)));
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
        Some(ObjectStatus {
            object: candidate.object.clone(),
            observed_generation: candidate.metadata.generation,
            scopes: scopes.collect(),
        })
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

fn condition(r#type: &'static str, status: ConditionStatus, reason: &'static str, message: String) -> Condition {
    Condition {
        r#type,
        status,
        reason,
        message: limited(message),
    }
}

/// Why places that the holder of a slot covers answer 500 although it is not at fault itself.
fn refused(slot: Slot<'_>, candidates: &[Candidate<'_>], claims: &Claims<'_>) -> Option<String> {
    let names = |indexes: &[usize]| {
        let names: Vec<String> = indexes
            .iter()
            .filter_map(|index| candidates.get(*index))
            .map(|candidate| format!("{}/{}", candidate.object.namespace, candidate.object.name))
            .collect();
        names.join(" ")
    };
    if let Some((_, losers)) = claims.of(slot).split_first()
        && !losers.is_empty()
    {
        return Some(format!(
            "Requests that this policy covers are answered with 500 because other securityPolicies target {} as well: [{}]",
            slot.describe(),
            names(losers)
        ));
    }
    let (lost, section) = match slot {
        Slot::Route(namespace, route) => (Slot::LostRule(namespace, route), "rules"),
        Slot::Gateway(namespace, gateway) => (Slot::LostListener(namespace, gateway), "listeners"),
        _ => return None,
    };
    let lost = claims.of(lost);
    (!lost.is_empty()).then(|| {
        format!(
            "Requests that this policy covers are answered with 500 because other securityPolicies target {section} that {} does not have: [{}]",
            slot.describe(),
            names(lost)
        )
    })
}

/// The findings of all policies, oldest first.
pub(crate) fn findings(candidates: &[Candidate<'_>], claims: &Claims<'_>, targets: &Targets<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        // A broken policy's findings come from who found it broken.
        findings.extend(
            candidate
                .build
                .faults
                .iter()
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
        findings.extend(candidate.build.notices.iter().map(|notice| Finding {
            severity: Severity::Warning,
            code: notice.code,
            object: candidate.object.clone(),
            path: notice.path.clone(),
            message: notice.message.clone(),
            fix: Some(notice.fix.clone()),
        }));
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
        if candidate.references.is_empty() && !candidate.build.faults.iter().any(Fault::is_of_schema) {
            findings.push(Finding {
                severity: Severity::Error,
                code: "no-target",
                object: candidate.object.clone(),
                path: "spec".to_owned(),
                message: "the policy targets nothing".to_owned(),
                fix: Some("write targetRefs".to_owned()),
            });
        }
        for hit in claims.hits(index) {
            let Some(reference) = candidate.references.get(hit.reference) else {
                continue;
            };
            let target = &reference.target;
            let named = format!("{} {}/{}", target.kind, reference.namespace, target.name);
            let (severity, code, field, message, fix) = match &hit.outcome {
                Outcome::Holds(..) | Outcome::Foreign => continue,
                Outcome::Conflicted(slot, _, holder) => {
                    let holder = candidates.get(*holder).map(|holder| holder.object.to_string());
                    let message = format!(
                        "{} is already targeted by {}: what both cover answers 500",
                        slot.describe(),
                        holder.unwrap_or_default()
                    );
                    let fix = "merge the two policies into one".to_owned();
                    (Severity::Error, "policy-conflict", "", message, Some(fix))
                }
                Outcome::SectionNotFound(slot, _) => {
                    let section = target.section_name.as_deref().unwrap_or_default();
                    let (what, names) = if slot.on_gateway() {
                        let names = targets.listeners(&reference.namespace, &target.name);
                        ("listener", names)
                    } else {
                        let names = targets.rules(&reference.namespace, &target.name);
                        ("rule", names.into_iter().flatten().collect())
                    };
                    let message = format!("{named} has no {what} {section:?}: what that may stand for answers 500");
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
                    let fix = "target a Gateway or an HTTPRoute".to_owned();
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
