//! What a policy refers to, by name and by selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_api::security_policy::{NamespacesFrom, SecurityPolicySpec, TargetSelector};

use super::{TargetKind, Targets, labels};
use crate::{
    finding::Severity,
    object::{self, GATEWAY_GROUP, PolicyKind},
    reference::References,
    selector::{self, selects},
    snapshot::PolicyTarget,
};

/// One reference of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) target: PolicyTarget,
    /// The target's namespace: the policy's own, except through a selector.
    pub(crate) namespace: String,
    /// Where it stands in the policy.
    pub(crate) path: String,
}

/// Everything that a policy refers to.
#[derive(Default)]
pub(crate) struct Aims {
    pub(crate) references: Vec<Reference>,
    /// Selectors, or hits of theirs, that have no effect.
    pub(crate) idle: Vec<Idle>,
}

/// A selector, or a hit of one, that has no effect.
pub(crate) struct Idle {
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: String,
}

impl Targets<'_> {
    /// Everything that a policy refers to: what its selectors hit, then what it names beside that, as Envoy Gateway goes
    /// through them.
    pub(crate) fn aims(
        &self,
        policy: PolicyKind,
        namespace: &str,
        spec: &SecurityPolicySpec,
        references: &References<'_>,
    ) -> Aims {
        let mut aims = Aims::default();
        for (index, selector) in spec.target_selectors.iter().enumerate() {
            self.select(policy, namespace, selector, index, references, &mut aims);
        }
        let selected = aims.references.len();
        for (target, path) in PolicyTarget::named(spec.target_ref.as_ref(), &spec.target_refs) {
            let hits = aims.references.get(..selected).unwrap_or_default();
            if hits
                .iter()
                .any(|hit| hit.target == target && hit.namespace == namespace)
            {
                continue;
            }
            aims.references.push(Reference {
                target,
                namespace: namespace.to_owned(),
                path,
            });
        }
        aims
    }

    /// What a selector hits: in other namespaces only what they grant.
    fn select(
        &self,
        policy: PolicyKind,
        namespace: &str,
        selector: &TargetSelector,
        index: usize,
        references: &References<'_>,
        aims: &mut Aims,
    ) {
        let path = format!("spec.targetSelectors[{index}]");
        let kind = TargetKind::of(&selector.kind).filter(|_| selector.group == GATEWAY_GROUP);
        let Some(kind) = kind else {
            aims.idle.push(Idle {
                severity: Severity::Error,
                code: "unsupported-target",
                path: format!("{path}.kind"),
                message: format!(
                    "targets of kind {:?} of group {:?} are not served",
                    selector.kind, selector.group
                ),
                fix: "select Gateways, ListenerSets, HTTPRoutes, GRPCRoutes or TCPRoutes".to_owned(),
            });
            return;
        };
        let empty = BTreeMap::new();
        let mut hits: Vec<&ObjectMeta> = self
            .objects
            .iter()
            .filter(|(object, known)| {
                object.kind == kind
                    && known.ours
                    && self.looks_in(selector, namespace, object.namespace)
                    && selector::matches(
                        known.metadata.labels.as_ref().unwrap_or(&empty),
                        Some(&selector.match_labels),
                        selector.match_expressions.iter().map(|expression| {
                            let values = expression.values.as_deref().unwrap_or_default();
                            (expression.key.as_str(), expression.operator.as_str(), values)
                        }),
                    )
            })
            .map(|(_, known)| known.metadata)
            .collect();
        hits.sort_by_key(|metadata| object::age(metadata));
        let before = aims.references.len();
        let mut unpermitted = 0_usize;
        for metadata in hits {
            let (of, name) = (object::namespace(metadata), object::name(metadata));
            if !references.permits(policy, namespace, of, GATEWAY_GROUP, kind.name(), name) {
                unpermitted += 1;
                continue;
            }
            let reference = Reference {
                target: PolicyTarget {
                    group: selector.group.clone(),
                    kind: selector.kind.clone(),
                    name: name.to_owned(),
                    section_name: None,
                },
                namespace: of.to_owned(),
                path: path.clone(),
            };
            let twice = |other: &Reference| other.target == reference.target && other.namespace == of;
            if !aims.references.iter().take(before).any(twice) {
                aims.references.push(reference);
            }
        }
        // Only their number: what other namespaces have is not told to whoever writes a selector.
        if unpermitted > 0 {
            aims.idle.push(Idle {
                severity: Severity::Warning,
                code: "reference-not-permitted",
                path,
                message: format!(
                    "the selector matches objects of other namespaces whose ReferenceGrants do not permit that: {unpermitted} of kind {}",
                    kind.name()
                ),
                fix: format!(
                    "add a ReferenceGrant to their namespaces from {} in {namespace} to {}",
                    policy.name(),
                    kind.name()
                ),
            });
        }
    }

    fn looks_in(&self, selector: &TargetSelector, own: &str, namespace: &str) -> bool {
        let namespaces = selector.namespaces.as_ref();
        match namespaces.map(|namespaces| namespaces.from).unwrap_or_default() {
            NamespacesFrom::Same => own == namespace,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => {
                let wanted = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                let labels = self.namespaces.get(namespace).map(|metadata| labels(metadata));
                wanted
                    .zip(labels)
                    .is_some_and(|(wanted, labels)| selects!(wanted, &labels))
            }
            NamespacesFrom::Unknown => false,
        }
    }
}
