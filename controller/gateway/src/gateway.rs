//! One Gateway: its listeners' configuration and conditions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::gateways::Gateway;
use portcullis_attachment::{
    effective::Attachment,
    finding::{Finding, Severity},
    listeners::{Listener, listeners},
    object::{self, GATEWAY_GROUP, ListenerRef, ObjectRef},
    status::{Condition, ObjectStatus, Scope, ScopeStatus},
};

use crate::{
    BoundPort, Configuration, Options, Resource,
    backends::Backends,
    certificate::{self, Secrets},
    client_policy::ClientPolicies,
    grants::Grants,
    listener,
    report::{Fault, condition, ignored},
    route::rule::Place,
    routes::Routes,
    table::{Policies, Served, Table},
};

/// What everything of one translation shares.
pub(crate) struct World<'a> {
    pub(crate) grants: &'a Grants<'a>,
    pub(crate) secrets: &'a Secrets<'a>,
    pub(crate) attachment: &'a Attachment,
    pub(crate) options: &'a Options,
    pub(crate) routes: &'a Routes,
    pub(crate) backends: &'a Backends<'a>,
}

/// A listener and what became of it.
struct Judged<'a> {
    listener: Listener<'a>,
    certificates: Vec<Resource>,
    /// A fault of its certificates or of its kinds, for `ResolvedRefs`.
    unresolved: Option<(&'static str, String)>,
    /// Whether it serves nothing.
    down: Option<(&'static str, String)>,
}

/// Translates one Gateway.
pub(crate) fn translate(
    gateway: &Gateway,
    world: &World<'_>,
    clients: &mut ClientPolicies<'_>,
    findings: &mut Vec<Finding>,
) -> (Configuration, ObjectStatus) {
    let namespace = object::namespace(&gateway.metadata);
    let name = object::name(&gateway.metadata);
    let object = ObjectRef::new("Gateway", namespace, name);
    findings.extend(
        unused(gateway)
            .into_iter()
            .map(|fault| fault.finding(Severity::Warning, &object)),
    );
    let judged: Vec<Judged<'_>> = listeners(gateway)
        .into_iter()
        .map(|listener| judge(listener, gateway, namespace, world, clients, &object, findings))
        .collect();
    let configuration = configure(&judged, format!("{namespace}/{name}"), world, clients);
    let status = status(gateway, object, &judged, world.routes);
    (configuration, status)
}

fn judge<'a>(
    listener: Listener<'a>,
    gateway: &Gateway,
    namespace: &str,
    world: &World<'_>,
    clients: &ClientPolicies<'_>,
    object: &ObjectRef,
    findings: &mut Vec<Finding>,
) -> Judged<'a> {
    let path = format!("spec.listeners[{}]", listener.index);
    let spec = listener.spec.clone();
    let mut judged = Judged {
        certificates: Vec::new(),
        unresolved: None,
        down: None,
        listener,
    };
    if let Some(fault) = judged.listener.fault {
        let code = if fault.is_conflict() {
            "listener-conflict"
        } else {
            "invalid-listener"
        };
        findings.push(Fault::new(code, path, phrase(fault.message())).finding(Severity::Error, object));
        judged.down = Some((fault.reason(), fault.message().to_owned()));
        return judged;
    }
    let kinds = spec
        .allowed_routes
        .iter()
        .flat_map(|allowed| allowed.kinds.iter().flatten());
    for (index, kind) in kinds.enumerate() {
        if kind.group.as_deref().unwrap_or(GATEWAY_GROUP) != GATEWAY_GROUP || kind.kind != "HTTPRoute" {
            let message = format!("kind {:?} is not served by this listener", kind.kind);
            let fault = Fault::new(
                "invalid-route-kind",
                format!("{path}.allowedRoutes.kinds[{index}]"),
                message.clone(),
            );
            findings.push(
                fault
                    .fix("only HTTPRoute is supported")
                    .finding(Severity::Error, object),
            );
            judged.unresolved = Some(("InvalidRouteKinds", message));
        }
    }
    if spec.protocol == "HTTP" {
        if spec.tls.is_some() {
            findings.push(ignored(&format!("{path}.tls"), "the protocol is HTTP").finding(Severity::Warning, object));
        }
        return judged;
    }
    if let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) {
        let validates = frontend.default.validation.is_some()
            || frontend
                .per_port
                .iter()
                .flatten()
                .any(|port| port.tls.validation.is_some());
        if validates {
            // Serving without the client certificates that its author asks for is no fallback.
            let message = "spec.tls.frontend asks for client certificates, which are not supported yet".to_owned();
            findings.push(
                Fault::new("unsupported-field", "spec.tls.frontend", message.clone()).finding(Severity::Error, object),
            );
            judged.down = Some(("UnsupportedValue", message));
            return judged;
        }
    }
    if clients.asks_for_client_certificates(&judged.listener.reference) {
        let message =
            "its ClientTrafficPolicy asks for client certificates (spec.tls.clientValidation), which are not supported yet"
                .to_owned();
        findings.push(Fault::new("unsupported-field", path, message.clone()).finding(Severity::Error, object));
        judged.down = Some(("UnsupportedValue", message));
        return judged;
    }
    let tls = spec.tls.as_ref();
    if tls.is_some_and(|tls| tls.options.as_ref().is_some_and(|options| !options.is_empty())) {
        findings.push(ignored(&format!("{path}.tls.options"), "no option is known").finding(Severity::Warning, object));
    }
    let references = tls.and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
    if references.is_empty() {
        let message = "an HTTPS listener needs a certificate".to_owned();
        findings.push(
            Fault::new(
                "missing-certificate",
                format!("{path}.tls.certificateRefs"),
                message.clone(),
            )
            .finding(Severity::Error, object),
        );
        judged.unresolved = Some(("InvalidCertificateRef", message));
    }
    let mut failed = None;
    for (index, reference) in references.iter().enumerate() {
        match certificate::resolve(world.grants, world.secrets, namespace, reference) {
            Ok(resource) => judged.certificates.push(resource),
            Err(refused) => {
                failed = Some((refused.reason, refused.fault.message.clone()));
                let fault = refused.fault.below(&format!("{path}.tls.certificateRefs[{index}]"));
                findings.push(fault.finding(Severity::Error, object));
            }
        }
    }
    if let Some((reason, message)) = failed {
        let reason = if judged.certificates.is_empty() {
            reason
        } else {
            "PartiallyInvalidCertificateRef"
        };
        judged.unresolved = Some((reason, message));
    }
    if judged.certificates.is_empty() {
        let message = judged
            .unresolved
            .as_ref()
            .map(|(_, message)| message.clone())
            .unwrap_or_default();
        judged.down = Some(("Invalid", message));
    }
    judged
}

/// Fields of a Gateway that have no effect.
fn unused(gateway: &Gateway) -> Vec<Fault> {
    let spec = &gateway.spec;
    let mut faults = Vec::new();
    if spec.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty()) {
        faults.push(ignored(
            "spec.addresses",
            "every listener binds all addresses of its proxy",
        ));
    }
    if spec.infrastructure.is_some() {
        faults.push(ignored("spec.infrastructure", "no infrastructure is created"));
    }
    if spec.tls.as_ref().is_some_and(|tls| tls.backend.is_some()) {
        faults.push(ignored("spec.tls.backend", "no certificate is shown to backends"));
    }
    let allows = spec
        .allowed_listeners
        .as_ref()
        .and_then(|allowed| allowed.namespaces.as_ref()?.from.as_ref());
    if allows.is_some_and(|from| *from != gateway_api::gateways::GatewayAllowedListenersNamespacesFrom::None) {
        faults.push(ignored("spec.allowedListeners", "ListenerSets are not supported"));
    }
    faults
}

fn configure(
    judged: &[Judged<'_>],
    gateway: String,
    world: &World<'_>,
    clients: &mut ClientPolicies<'_>,
) -> Configuration {
    let mut ports: BTreeMap<u16, Vec<&Judged<'_>>> = BTreeMap::new();
    for each in judged.iter().filter(|each| each.down.is_none()) {
        if let Ok(port) = u16::try_from(each.listener.spec.port) {
            ports.entry(port).or_default().push(each);
        }
    }
    let mut resources: BTreeMap<(&'static str, String), Resource> = BTreeMap::new();
    let mut clusters = BTreeSet::new();
    let mut policies = Policies::default();
    let mut bound_ports = Vec::new();
    let mut keep = |resource: Resource| {
        resources.insert((resource.type_url, resource.name.clone()), resource);
    };
    for (port, group) in ports {
        let shift = if port < 1024 {
            world.options.privileged_port_shift
        } else {
            0
        };
        let bound = port.saturating_add(shift);
        let https = group.iter().any(|each| each.listener.spec.protocol == "HTTPS");
        let mut serve = |table: &mut Table, each: &Judged<'_>| {
            serve(
                table,
                &each.listener,
                Place { https, port },
                world,
                &mut policies,
                &mut clusters,
            );
        };
        if https {
            for each in &group {
                let mut table = Table::new(
                    listener::secure_table(port, &each.listener.spec.name),
                    Arc::clone(&world.options.none),
                );
                // Whoever got here by another listener's name, as with one certificate for both, is sent back.
                for other in judged
                    .iter()
                    .filter(|other| i64::from(other.listener.spec.port) == i64::from(port))
                {
                    if other.listener.hostname != each.listener.hostname {
                        table.reserve(&other.listener.hostname, 421);
                    }
                }
                table.reserve(&each.listener.hostname, 404);
                serve(&mut table, each);
                keep(table.finish());
                each.certificates.iter().cloned().for_each(&mut keep);
            }
            let secure: Vec<_> = group
                .iter()
                .map(|each| listener::Secure {
                    name: &each.listener.spec.name,
                    hostname: &each.listener.hostname,
                    certificates: each.certificates.iter().map(|secret| secret.name.clone()).collect(),
                    detection: clients.detection(&each.listener.reference),
                })
                .collect();
            keep(listener::secure(port, bound, &secure, world.options));
        } else {
            let mut table = Table::new(listener::plain_table(port), Arc::clone(&world.options.none));
            for other in judged
                .iter()
                .filter(|other| i64::from(other.listener.spec.port) == i64::from(port))
            {
                table.reserve(&other.listener.hostname, 404);
            }
            for each in &group {
                serve(&mut table, each);
            }
            keep(table.finish());
            let sharing: Vec<&ListenerRef> = group.iter().map(|each| &each.listener.reference).collect();
            let detection = clients.shared_detection(port, &sharing);
            keep(listener::plain(port, bound, &detection, world.options));
        }
        bound_ports.push(BoundPort {
            listeners: group.iter().map(|each| each.listener.spec.name.clone()).collect(),
            port,
            bound,
            protocol: if https { "HTTPS" } else { "HTTP" }.to_owned(),
        });
    }
    for cluster in clusters {
        if let Some(upstream) = world.backends.upstreams.get(cluster) {
            upstream.resources().into_iter().for_each(&mut keep);
        }
    }
    Configuration {
        gateway,
        resources: resources.into_values().collect(),
        listeners: bound_ports,
    }
}

/// Adds every route that a listener takes to a table.
fn serve<'a>(
    table: &mut Table,
    listener: &Listener<'_>,
    place: Place,
    world: &World<'a>,
    policies: &mut Policies,
    clusters: &mut BTreeSet<&'a str>,
) {
    let routes: &'a Routes = world.routes;
    for (age, hostnames) in routes.on(&listener.reference) {
        let Some(route) = routes.all.get(*age) else { continue };
        let policy_of = |index| {
            world.attachment.policies.get(&portcullis_attachment::effective::Place {
                listener: listener.reference.clone(),
                route: route.object.clone(),
                rule: index,
            })
        };
        // What a match that cannot be read would have taken goes to the route's other rules: without the policy that was
        // meant for it, if theirs is another.
        let lost: BTreeSet<&str> = (0..)
            .zip(&route.rules)
            .filter(|(_, rule)| rule.lost_matches)
            .filter_map(|(index, _)| policy_of(index))
            .map(|policy| policy.hash.as_str())
            .filter(|hash| *hash != world.options.none.hash)
            .collect();
        for (index, rule) in route.rules.iter().enumerate() {
            let policy = policy_of(index);
            clusters.extend(rule.clusters.iter().map(String::as_str));
            let served = Served {
                route: &route.name,
                age: *age,
                index,
                rule,
                policy,
                shut: policy.is_some_and(|policy| lost.iter().any(|hash| *hash != policy.hash)),
                place,
            };
            for host in hostnames {
                table.add(host, &served, policies);
            }
        }
    }
}

fn status(gateway: &Gateway, object: ObjectRef, judged: &[Judged<'_>], routes: &Routes) -> ObjectStatus {
    let up = judged.iter().filter(|each| each.down.is_none()).count();
    let all = up == judged.len() && judged.iter().all(|each| each.unresolved.is_none());
    let accepted = if up == 0 {
        condition("Accepted", false, "ListenersNotValid", "No listener is valid.")
    } else if all {
        condition("Accepted", true, "Accepted", "The Gateway is accepted.")
    } else {
        condition("Accepted", true, "ListenersNotValid", "Some listeners are not valid.")
    };
    let programmed = if up == 0 {
        condition("Programmed", false, "Invalid", "No listener is valid.")
    } else {
        condition(
            "Programmed",
            true,
            "Programmed",
            "The configuration is sent to the proxies.",
        )
    };
    let mut scopes = vec![ScopeStatus {
        scope: Scope::Object,
        conditions: vec![accepted, programmed],
        attached_routes: None,
    }];
    for each in judged {
        let reference: &ListenerRef = &each.listener.reference;
        scopes.push(ScopeStatus {
            scope: Scope::Listener(each.listener.spec.name.clone()),
            conditions: conditions(each),
            attached_routes: i32::try_from(routes.on(reference).len()).ok(),
        });
    }
    ObjectStatus {
        object,
        observed_generation: gateway.metadata.generation,
        scopes,
    }
}

fn conditions(judged: &Judged<'_>) -> Vec<Condition> {
    let fault = judged.listener.fault;
    let conflicted = match fault.filter(|fault| fault.is_conflict()) {
        Some(fault) => condition("Conflicted", true, fault.reason(), fault.message()),
        None => condition(
            "Conflicted",
            false,
            "NoConflicts",
            "The listener conflicts with no other.",
        ),
    };
    let resolved = match &judged.unresolved {
        Some((reason, message)) => condition("ResolvedRefs", false, reason, sentence(message)),
        None => condition(
            "ResolvedRefs",
            true,
            "ResolvedRefs",
            "Listener references have been resolved.",
        ),
    };
    // A certificate that is missing is told by ResolvedRefs; the listener itself is well-formed (Gateway API).
    let refused = judged.down.as_ref().filter(|(reason, _)| *reason != "Invalid");
    let accepted = match refused {
        Some((reason, message)) => condition("Accepted", false, reason, sentence(message)),
        None => condition("Accepted", true, "Accepted", "The listener is accepted."),
    };
    let programmed = match &judged.down {
        Some((_, message)) => condition("Programmed", false, "Invalid", sentence(message)),
        None => condition(
            "Programmed",
            true,
            "Programmed",
            "The configuration is sent to the proxies.",
        ),
    };
    vec![accepted, conflicted, programmed, resolved]
}

/// A condition's message as a finding's.
fn phrase(message: &str) -> String {
    let mut characters = message.trim_end_matches('.').chars();
    let first = characters
        .next()
        .map(|first| first.to_lowercase().to_string())
        .unwrap_or_default();
    format!("{first}{}", characters.as_str())
}

/// A finding's message as a condition's.
pub(crate) fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string())
        .unwrap_or_default();
    let rest = characters.as_str();
    let stop = if rest.ends_with('.') { "" } else { "." };
    format!("{first}{rest}{stop}")
}
