//! Whom connections to backends trust (Gateway API, `BackendTLSPolicy`; Envoy Gateway, `Backend.spec.tls`).
//!
//! A backend that is meant to be spoken to in TLS is spoken to in TLS or not at all.

mod sources;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use gateway_api::backendtlspolicies::BackendTlsPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_api::backend::{BackendEndpoint, BackendTlsSettings, TlsVersion};
use portcullis_attachment::{
    binding::Bindings,
    finding::{Finding, Severity},
    object::{self, GATEWAY_GROUP, ObjectRef, POLICY_GROUP},
    snapshot::{BrokenPolicy, Snapshot},
    status::{Condition, ObjectStatus, ParentRef, Scope, ScopeStatus},
};

use self::sources::Sources;
pub(crate) use self::sources::{Authorities, Name, Trust};
use crate::report::{Fault, condition, ignored, sentence};

/// One policy.
struct Policy<'a> {
    object: ObjectRef,
    written: &'a BackendTlsPolicy,
    /// What `ResolvedRefs` says, if it does not hold.
    unresolved: Option<(&'static str, String)>,
    trust: Result<Arc<Trust>, (&'static str, String)>,
    /// The policies that have one of its targets.
    older: BTreeSet<usize>,
    /// A port of a target that it names and that does not exist.
    missing: Option<String>,
}

/// Group, kind, namespace and name of a backend.
type Target<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Policies by target and section, oldest first.
type Holders<'a> = HashMap<Target<'a>, BTreeMap<Option<&'a str>, Vec<usize>>>;

/// A backend, as [`Target`].
type Owned = (String, String, String, String);

/// Gateways by namespace and name.
type Gateways = BTreeSet<(String, String)>;

/// The Gateways of the routes that lead to a backend.
type Uses = HashMap<Owned, Gateways>;

/// All policies and what they may refer to.
pub(crate) struct BackendTls<'a> {
    policies: Vec<Policy<'a>>,
    targets: Holders<'a>,
    /// Why a backend's ports that no policy names are not spoken to: a policy names one that does not exist.
    lost: HashMap<Target<'a>, String>,
    /// Policies that could not be read whole.
    broken: &'a [Arc<BrokenPolicy>],
    /// Why none of a backend's ports is spoken to: such a policy targets it.
    closed: HashMap<Target<'a>, String>,
    sources: Sources<'a>,
}

/// The ports of every backend by the names that `sectionName` has for them.
fn sections(snapshot: &Snapshot) -> HashMap<Target<'_>, BTreeSet<String>> {
    let services = snapshot.services.iter().map(|service| {
        let (namespace, name) = (object::namespace(&service.metadata), object::name(&service.metadata));
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let names = ports.filter_map(|port| port.name.clone()).collect();
        (("", "Service", namespace, name), names)
    });
    let backends = snapshot.backends.iter().map(|backend| {
        let (namespace, name) = (object::namespace(&backend.metadata), object::name(&backend.metadata));
        let ports = backend.spec.endpoints.iter().filter_map(|endpoint| {
            let of_address = endpoint.ip.as_ref().map(|ip| ip.port);
            of_address.or_else(|| endpoint.fqdn.as_ref().map(|fqdn| fqdn.port))
        });
        let names = ports.map(|port| port.to_string()).collect();
        ((POLICY_GROUP, "Backend", namespace, name), names)
    });
    services.chain(backends).collect()
}

impl<'a> BackendTls<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, system: &'a str, findings: &mut Vec<Finding>) -> Self {
        let sources = Sources::new(snapshot, system);
        let mut written: Vec<&BackendTlsPolicy> = snapshot.backend_tls_policies.iter().map(AsRef::as_ref).collect();
        written.sort_by(|one, other| object::age(&one.metadata).cmp(&object::age(&other.metadata)));
        let mut policies: Vec<Policy<'a>> = Vec::with_capacity(written.len());
        let mut targets: Holders<'a> = HashMap::new();
        let mut lost: HashMap<Target<'a>, String> = HashMap::new();
        let mut closed: HashMap<Target<'a>, String> = HashMap::new();
        for policy in &snapshot.broken_backend_tls_policies {
            let why = format!("{} cannot be followed: {}", named(&policy.metadata), policy.message);
            for target in targets_of(policy) {
                closed.entry(target).or_insert_with(|| why.clone());
            }
        }
        let sections = sections(snapshot);
        for policy in written {
            let namespace = object::namespace(&policy.metadata);
            let object = ObjectRef::new("BackendTLSPolicy", namespace, object::name(&policy.metadata));
            let mut tell = |severity, fault: Fault| findings.push(fault.finding(severity, &object));
            if policy.spec.options.as_ref().is_some_and(|options| !options.is_empty()) {
                tell(Severity::Warning, ignored("spec.options", "no option is known"));
            }
            let mut unresolved = None;
            let trust = sources.validation(namespace, &policy.spec.validation, &mut |reason, fault: Fault| {
                unresolved.get_or_insert_with(|| (reason, fault.message.clone()));
                tell(Severity::Error, fault.below("spec.validation"));
            });
            let index = policies.len();
            let mut older = BTreeSet::new();
            let mut missing = None;
            for (at, target) in policy.spec.target_refs.iter().enumerate() {
                let known = matches!(
                    (target.group.as_str(), target.kind.as_str()),
                    ("", "Service") | (POLICY_GROUP, "Backend")
                );
                if !known {
                    let path = format!("spec.targetRefs[{at}].kind");
                    let message = format!(
                        "targets of kind {:?} of group {:?} are not served",
                        target.kind, target.group
                    );
                    let fault = Fault::new("unsupported-target", path, message).fix("target a Service or a Backend");
                    tell(Severity::Error, fault);
                    continue;
                }
                let key = (
                    target.group.as_str(),
                    target.kind.as_str(),
                    namespace,
                    target.name.as_str(),
                );
                let section = target.section_name.as_deref().filter(|section| !section.is_empty());
                let ports = sections.get(&key);
                if ports.is_none() {
                    let message = format!("no {} {namespace}/{} exists", target.kind, target.name);
                    let path = format!("spec.targetRefs[{at}].name");
                    tell(Severity::Warning, Fault::new("target-not-found", path, message));
                }
                if let Some(section) = section.filter(|section| !ports.is_some_and(|ports| ports.contains(*section))) {
                    let message = format!("{} {namespace}/{} has no port {section:?}", target.kind, target.name);
                    let known: Vec<&str> = ports.into_iter().flatten().map(String::as_str).collect();
                    let path = format!("spec.targetRefs[{at}].sectionName");
                    let fault = Fault::new("section-not-found", path, message.clone());
                    let fault = if known.is_empty() {
                        fault
                    } else {
                        fault.fix(format!("write one of {}", known.join(", ")))
                    };
                    tell(Severity::Error, fault);
                    lost.entry(key)
                        .or_insert_with(|| format!("{object} cannot be followed: {message}"));
                    missing.get_or_insert(message);
                }
                let holders = targets.entry(key).or_default().entry(section).or_default();
                if let Some(holder) = holders.first().filter(|holder| **holder != index) {
                    older.insert(*holder);
                    let holder = policies
                        .get(*holder)
                        .map(|policy: &Policy<'_>| policy.object.to_string());
                    let path = format!("spec.targetRefs[{at}]");
                    let message = format!(
                        "{} {namespace}/{} already has {}, which applies",
                        target.kind,
                        target.name,
                        holder.unwrap_or_default()
                    );
                    tell(Severity::Error, Fault::new("policy-conflict", path, message));
                }
                holders.push(index);
            }
            policies.push(Policy {
                object,
                written: policy,
                unresolved,
                trust,
                older,
                missing,
            });
        }
        Self {
            policies,
            targets,
            lost,
            broken: &snapshot.broken_backend_tls_policies,
            closed,
            sources,
        }
    }

    /// The trust of a backend's port, by the names that the port may have in `sectionName`; none where no policy says so.
    ///
    /// # Errors
    ///
    /// Says why the policy that applies cannot be followed.
    pub(crate) fn of(&self, target: Target<'_>, sections: &[&str]) -> Result<Option<Arc<Trust>>, String> {
        if let Some(why) = self.closed.get(&target) {
            return Err(why.clone());
        }
        let Some(of_target) = self.targets.get(&target) else {
            return Ok(None);
        };
        let of_section = sections.iter().find_map(|section| of_target.get(&Some(*section)));
        if of_section.is_none()
            && let Some(why) = self.lost.get(&target)
        {
            return Err(why.clone());
        }
        let holders = of_section.or_else(|| of_target.get(&None));
        let holder = holders.and_then(|holders| self.policies.get(*holders.first()?));
        match holder {
            None => Ok(None),
            Some(Policy { trust: Ok(trust), .. }) => Ok(Some(Arc::clone(trust))),
            Some(Policy {
                object,
                trust: Err((_, why)),
                ..
            }) => Err(format!("{object} cannot be followed: {why}")),
        }
    }

    /// The trust of a Backend that sets it itself.
    ///
    /// # Errors
    ///
    /// Says which setting is not served.
    pub(crate) fn of_settings(
        &self,
        namespace: &str,
        settings: &BackendTlsSettings,
        endpoints: &[BackendEndpoint],
    ) -> Result<Arc<Trust>, String> {
        let unsupported = [
            (settings.insecure_skip_verify == Some(true), "insecureSkipVerify"),
            (settings.client_certificate_ref.is_some(), "clientCertificateRef"),
            (
                !matches!(settings.min_version, None | Some(TlsVersion::Auto | TlsVersion::V1_2)),
                "minVersion",
            ),
            (
                !matches!(settings.max_version, None | Some(TlsVersion::Auto | TlsVersion::V1_3)),
                "maxVersion",
            ),
            (!settings.ciphers.is_empty(), "ciphers"),
            (!settings.ecdh_curves.is_empty(), "ecdhCurves"),
            (!settings.signature_algorithms.is_empty(), "signatureAlgorithms"),
            (!settings.alpn_protocols.is_empty(), "alpnProtocols"),
            (!settings.fingerprints.is_empty(), "fingerprints"),
        ];
        if let Some((_, field)) = unsupported.iter().find(|(set, _)| *set) {
            return Err(format!("sets tls.{field}, which is not supported"));
        }
        let server_name = if settings.auto_sni_from_endpoint_hostname == Some(true) {
            let name = |endpoint: &BackendEndpoint| {
                let own = endpoint.hostname.clone();
                own.or_else(|| endpoint.fqdn.as_ref().map(|fqdn| fqdn.hostname.clone()))
            };
            let names: BTreeSet<Option<String>> = endpoints.iter().map(name).collect();
            let only = names.first().filter(|_| names.len() == 1);
            only.cloned().flatten()
        } else {
            settings.sni.clone()
        };
        let Some(server_name) = server_name else {
            return Err("sets tls, but names no single host that its endpoints prove to be; set tls.sni".to_owned());
        };
        let references = settings.ca_certificate_refs.iter().map(|reference| {
            (
                reference.group.as_str(),
                reference.kind.as_str(),
                reference.name.as_str(),
            )
        });
        let mut why = None;
        let authorities = self.sources.authorities(
            namespace,
            references,
            settings.well_known_ca_certificates.as_deref(),
            &mut |_, fault: Fault| {
                why.get_or_insert(fault.message);
            },
        );
        match authorities {
            Some(authorities) => Ok(Arc::new(Trust {
                names: vec![Name::Dns(server_name.clone())],
                server_name,
                authorities,
            })),
            None => Err(format!(
                "sets tls, but {}",
                why.unwrap_or_else(|| "no authority is trusted".to_owned())
            )),
        }
    }

    /// The status of every policy, for each Gateway whose routes lead to a target of it.
    pub(crate) fn statuses(&self, snapshot: &Snapshot, bindings: &Bindings) -> Vec<ObjectStatus> {
        let uses = uses(snapshot, bindings);
        let status = |policy: &Policy<'a>| {
            let namespace = object::namespace(&policy.written.metadata);
            let gateways: BTreeSet<&(String, String)> = policy
                .written
                .spec
                .target_refs
                .iter()
                .filter_map(|target| {
                    let key = (
                        target.group.clone(),
                        target.kind.clone(),
                        namespace.to_owned(),
                        target.name.clone(),
                    );
                    uses.get(&key)
                })
                .flatten()
                .collect();
            ObjectStatus::new(
                policy.object.clone(),
                policy.written.metadata.generation,
                gateways
                    .into_iter()
                    .map(|gateway| self.scope(policy, gateway))
                    .collect(),
            )
        };
        let broken = self.broken.iter().map(|policy| {
            let owned = |(group, kind, namespace, name): Target<'_>| -> Owned {
                (group.to_owned(), kind.to_owned(), namespace.to_owned(), name.to_owned())
            };
            let used = targets_of(policy).filter_map(|target| uses.get(&owned(target)));
            let gateways: BTreeSet<&(String, String)> = used.flatten().collect();
            let accepted = || condition("Accepted", false, "Invalid", sentence(&policy.message));
            ObjectStatus::new(
                named(&policy.metadata),
                policy.metadata.generation,
                gateways
                    .into_iter()
                    .map(|gateway| of_gateway(gateway, vec![accepted()]))
                    .collect(),
            )
        });
        let all = self.policies.iter().map(status).chain(broken);
        all.filter(|status| !status.scopes.is_empty()).collect()
    }

    fn scope(&self, policy: &Policy<'_>, gateway: &(String, String)) -> ScopeStatus {
        let older = policy.older.first().and_then(|older| self.policies.get(*older));
        let accepted = match (older, &policy.trust) {
            (None, Ok(_)) if policy.missing.is_some() => {
                let message = policy.missing.as_deref().map(sentence).unwrap_or_default();
                condition("Accepted", false, "TargetNotFound", message)
            }
            (Some(older), _) => {
                let (namespace, name) = (&older.object.namespace, &older.object.name);
                let message = format!("Policy conflicts with BackendTLSPolicy {namespace}/{name}.");
                condition("Accepted", false, "Conflicted", message)
            }
            (None, Err((reason, message))) => condition("Accepted", false, reason, sentence(message)),
            (None, Ok(_)) => condition("Accepted", true, "Accepted", "Policy has been accepted."),
        };
        let resolved = match &policy.unresolved {
            Some((reason, message)) => condition("ResolvedRefs", false, reason, sentence(message)),
            None => condition(
                "ResolvedRefs",
                true,
                "ResolvedRefs",
                "Resolved all the Object references.",
            ),
        };
        of_gateway(gateway, vec![accepted, resolved])
    }
}

fn of_gateway(gateway: &(String, String), conditions: Vec<Condition>) -> ScopeStatus {
    ScopeStatus {
        scope: Scope::Parent(ParentRef {
            group: GATEWAY_GROUP.to_owned(),
            kind: "Gateway".to_owned(),
            namespace: gateway.0.clone(),
            name: gateway.1.clone(),
            section_name: None,
            port: None,
        }),
        conditions,
        attached_routes: None,
        supported_kinds: Vec::new(),
    }
}

fn named(metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef::new("BackendTLSPolicy", object::namespace(metadata), object::name(metadata))
}

/// What a policy that could not be read whole targets.
fn targets_of(policy: &BrokenPolicy) -> impl Iterator<Item = Target<'_>> {
    let namespace = object::namespace(&policy.metadata);
    policy.targets.iter().map(move |target| {
        (
            target.group.as_str(),
            target.kind.as_str(),
            namespace,
            target.name.as_str(),
        )
    })
}

/// Gateways by the backends that their routes lead to.
fn uses(snapshot: &Snapshot, bindings: &Bindings) -> Uses {
    let mut gateways: HashMap<(&str, &str, &str), Gateways> = HashMap::new();
    for parent in &bindings.parents {
        let route = &parent.route;
        let of_route = gateways.entry((route.kind, &route.namespace, &route.name)).or_default();
        of_route.extend(
            parent
                .listeners
                .iter()
                .map(|bound| (bound.listener.namespace.clone(), bound.listener.gateway.clone())),
        );
    }
    let mut uses = Uses::new();
    let mut add =
        |kind: &str, metadata, group: &Option<String>, of: &Option<String>, namespace: &Option<String>, name: &str| {
            let own = object::namespace(metadata);
            let Some(of_route) = gateways.get(&(kind, own, object::name(metadata))) else {
                return;
            };
            let key = (
                group.clone().unwrap_or_default(),
                of.clone().unwrap_or_else(|| "Service".to_owned()),
                namespace.clone().unwrap_or_else(|| own.to_owned()),
                name.to_owned(),
            );
            uses.entry(key).or_default().extend(of_route.iter().cloned());
        };
    for route in &snapshot.http_routes {
        let rules = route.spec.rules.iter().flatten();
        for to in rules.flat_map(|rule| rule.backend_refs.iter().flatten()) {
            add(
                "HTTPRoute",
                &route.metadata,
                &to.group,
                &to.kind,
                &to.namespace,
                &to.name,
            );
        }
    }
    for route in &snapshot.grpc_routes {
        let rules = route.spec.rules.iter().flatten();
        for to in rules.flat_map(|rule| rule.backend_refs.iter().flatten()) {
            add(
                "GRPCRoute",
                &route.metadata,
                &to.group,
                &to.kind,
                &to.namespace,
                &to.name,
            );
        }
    }
    for route in &snapshot.tcp_routes {
        for to in route.spec.rules.iter().flat_map(|rule| &rule.backend_refs) {
            add(
                "TCPRoute",
                &route.metadata,
                &to.group,
                &to.kind,
                &to.namespace,
                &to.name,
            );
        }
    }
    uses
}
