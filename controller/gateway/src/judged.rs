//! Whether a listener is served, and why not.

use gateway_api::gateways::Gateway;
use portcullis_attachment::{
    finding::{Finding, Severity},
    hostname,
    listeners::{Listener, kinds_of},
    object::{GATEWAY_GROUP, ListenerRef, ObjectRef},
};

use crate::{
    Resource, certificate,
    client_certificates::{self, Validation},
    client_policy::ClientPolicies,
    gateway::World,
    report::{Fault, ignored},
};

/// A listener and what became of it.
pub(crate) struct Judged<'a> {
    pub(crate) listener: Listener<'a>,
    pub(crate) certificates: Vec<Resource>,
    /// What it asks of the certificates of clients, if anything.
    pub(crate) validation: Option<Validation>,
    /// A fault of its certificates or of its kinds, for `ResolvedRefs`.
    pub(crate) unresolved: Option<(&'static str, String)>,
    /// Why it serves nothing, if it does not.
    pub(crate) down: Option<(&'static str, String)>,
    /// Another listener of the port whose hosts it shares in part.
    pub(crate) overlaps: Option<String>,
}

impl Judged<'_> {
    /// The object that it stands in.
    pub(crate) fn owner(&self) -> ObjectRef {
        let reference = &self.listener.reference;
        match &reference.set {
            Some(set) => ObjectRef::new("ListenerSet", &set.namespace, &set.name),
            None => ObjectRef::new("Gateway", &reference.namespace, &reference.gateway),
        }
    }

    /// Its name among all listeners of the Gateway, the same whatever else listens.
    pub(crate) fn label(&self) -> String {
        let reference = &self.listener.reference;
        match &reference.set {
            Some(set) => format!("{}/{}/{}", set.namespace, set.name, reference.listener),
            None => reference.listener.clone(),
        }
    }
}

/// Judges one listener.
pub(crate) fn judge<'a>(
    listener: Listener<'a>,
    gateway: &Gateway,
    world: &World<'_>,
    clients: &ClientPolicies<'_>,
    findings: &mut Vec<Finding>,
) -> Judged<'a> {
    let path = format!("spec.listeners[{}]", listener.index);
    let mut judged = Judged {
        certificates: Vec::new(),
        validation: None,
        unresolved: None,
        down: None,
        overlaps: None,
        listener,
    };
    let object = judged.owner();
    let mut tell = |severity, fault: Fault| findings.push(fault.finding(severity, &object));
    if let Some(fault) = judged.listener.fault {
        let code = if fault.is_conflict() {
            "listener-conflict"
        } else {
            "invalid-listener"
        };
        tell(Severity::Error, Fault::new(code, path, phrase(fault.message())));
        judged.down = Some((fault.reason(), fault.message().to_owned()));
        return judged;
    }
    let unknown = world.snapshot.unknown_fields.iter();
    let unknown = unknown
        .filter(|unknown| unknown.object == object)
        .flat_map(|unknown| &unknown.fields)
        .find(|field| field.below("listeners", judged.listener.index).is_some());
    if let Some(field) = unknown {
        let message = format!("{} {}", field.path, field.message);
        tell(
            Severity::Error,
            Fault::new("unknown-field", field.path.clone(), field.message.clone()),
        );
        judged.down = Some(("UnsupportedValue", message));
        return judged;
    }
    let spec = judged.listener.spec.as_ref();
    let served = kinds_of(&spec.protocol);
    let kinds = spec
        .allowed_routes
        .iter()
        .flat_map(|allowed| allowed.kinds.iter().flatten());
    for (index, kind) in kinds.enumerate() {
        let group = kind.group.as_deref().unwrap_or(GATEWAY_GROUP);
        if group != GATEWAY_GROUP || !served.contains(&kind.kind.as_str()) {
            let message = format!("kind {:?} is not served by this listener", kind.kind);
            let at = format!("{path}.allowedRoutes.kinds[{index}]");
            let fix = match served {
                [only] => format!("write {only}"),
                served => format!("write one of {}", served.join(", ")),
            };
            tell(
                Severity::Error,
                Fault::new("invalid-route-kind", at, message.clone()).fix(fix),
            );
            judged.unresolved = Some(("InvalidRouteKinds", message));
        }
    }
    if spec.protocol == "TCP"
        && let Some(why) = clients.hides_peers(&judged.listener.reference)
    {
        let message = format!("its ClientTrafficPolicy {why}");
        tell(Severity::Error, Fault::new("unsupported-field", path, message.clone()));
        judged.down = Some(("UnsupportedValue", message));
        return judged;
    }
    if spec.protocol != "HTTPS" {
        if spec.tls.is_some() {
            tell(
                Severity::Warning,
                ignored(&format!("{path}.tls"), &format!("the protocol is {}", spec.protocol)),
            );
        }
        return judged;
    }
    let asked = client_certificates::of_listener(gateway, &judged.listener.reference, spec.port, &path, world, clients);
    // Listeners of one Gateway share what is wrong with it.
    for fault in asked.faults {
        let finding = fault.finding(Severity::Error, &object);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    let mut tell = |severity, fault: Fault| findings.push(fault.finding(severity, &object));
    if asked.unresolved.is_some() {
        judged.unresolved = asked.unresolved;
    }
    match asked.validation {
        Ok(validation) => judged.validation = validation,
        Err(refused) => {
            judged.down = Some((refused.reason, refused.message));
            return judged;
        }
    }
    let tls = spec.tls.as_ref();
    if tls.is_some_and(|tls| tls.options.as_ref().is_some_and(|options| !options.is_empty())) {
        tell(
            Severity::Warning,
            ignored(&format!("{path}.tls.options"), "no option is known"),
        );
    }
    let references = tls.and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
    let mut failed = None;
    if references.is_empty() {
        let message = "an HTTPS listener needs a certificate".to_owned();
        let at = format!("{path}.tls.certificateRefs");
        tell(Severity::Error, Fault::new("missing-certificate", at, message.clone()));
        failed = Some(("InvalidCertificateRef", message));
    }
    let mut certificates: Vec<Resource> = Vec::with_capacity(references.len());
    for (index, reference) in references.iter().enumerate() {
        match certificate::resolve(world.grants, world.secrets, &object, reference) {
            Ok(resource) if certificates.contains(&resource) => {}
            Ok(resource) => certificates.push(resource),
            Err(refused) => {
                failed = Some((refused.reason, refused.fault.message.clone()));
                let fault = refused.fault.below(&format!("{path}.tls.certificateRefs[{index}]"));
                tell(Severity::Error, fault);
            }
        }
    }
    if let Some((reason, message)) = failed {
        let reason = if certificates.is_empty() {
            judged.down = Some(("Invalid", message.clone()));
            reason
        } else {
            "PartiallyInvalidCertificateRef"
        };
        judged.unresolved = Some((reason, message));
    }
    judged.certificates = certificates;
    judged
}

/// Tells HTTPS listeners whose hosts one wildcard certificate may cover together.
pub(crate) fn overlap(judged: &mut [Judged<'_>]) {
    let served: Vec<(i32, String, ListenerRef)> = judged
        .iter()
        .filter(|each| each.down.is_none() && each.listener.spec.protocol == "HTTPS")
        .map(|each| {
            let listener = &each.listener;
            (
                listener.spec.port,
                listener.hostname.clone(),
                listener.reference.clone(),
            )
        })
        .collect();
    for each in judged {
        if each.down.is_some() || each.listener.spec.protocol != "HTTPS" {
            continue;
        }
        let own = &each.listener;
        let mut others = served.iter().filter(|(port, host, reference)| {
            *port == own.spec.port
                && *reference != own.reference
                && hostname::intersection(host, &own.hostname).is_some()
        });
        let of_object = |(_, _, reference): &&(i32, String, ListenerRef)| reference.set == own.reference.set;
        // What other objects call theirs is none of this one's business.
        each.overlaps = match (others.clone().find(of_object), others.next()) {
            (Some((_, _, other)), _) => Some(format!("listener {}", other.listener)),
            (None, Some(_)) => Some("another listener of the port".to_owned()),
            (None, None) => None,
        };
    }
}

/// A condition's message as a finding's.
pub(crate) fn phrase(message: &str) -> String {
    let mut characters = message.trim_end_matches('.').chars();
    let first = characters
        .next()
        .map(|first| first.to_lowercase().to_string())
        .unwrap_or_default();
    format!("{first}{}", characters.as_str())
}
