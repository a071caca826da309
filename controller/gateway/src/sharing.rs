//! Which listeners of ListenerSets a port has no room for: whatever the Gateway and older sets have on it stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_attachment::{
    finding::{Finding, Severity},
    object::SetRef,
};

use crate::{
    Options,
    client_policy::ClientPolicies,
    detection::Detection,
    judged::{Judged, phrase},
    report::Fault,
};

/// The port that Envoy binds for a listener's.
pub(crate) fn bound(port: u16, options: &Options) -> u16 {
    let shift = if port < 1024 { options.privileged_port_shift } else { 0 };
    port.saturating_add(shift)
}

/// What the objects before hold on to.
#[derive(Default)]
struct Held {
    /// Ports as Envoy binds them, and the listeners' ports.
    ports: BTreeMap<u16, u16>,
    /// How clients are told on a port without TLS; none where the Gateway's own listeners differ.
    detections: BTreeMap<u16, Option<Detection>>,
}

/// Refuses the listeners of sets that could be served only at another object's cost: one that would be bound to the port
/// of another, and one that reads its clients' addresses in another way on a port without TLS.
///
/// Of one set's listeners that are at odds with each other all lose.
pub(crate) fn settle(
    judged: &mut [Judged<'_>],
    clients: &ClientPolicies<'_>,
    options: &Options,
    findings: &mut Vec<Finding>,
) {
    let mut owners: Vec<Option<SetRef>> = Vec::new();
    for each in judged.iter() {
        if owners.last() != Some(&each.listener.reference.set) {
            owners.push(each.listener.reference.set.clone());
        }
    }
    let mut held = Held::default();
    for owner in owners {
        let mut wanted: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
        let mut read: BTreeMap<u16, Vec<Detection>> = BTreeMap::new();
        for each in judged.iter().filter(|each| each.listener.reference.set == owner) {
            let Some(port) = port(each) else { continue };
            wanted.entry(bound(port, options)).or_default().insert(port);
            if each.listener.spec.protocol == "HTTP" {
                let detection = clients.detection(&each.listener.reference);
                let read = read.entry(port).or_default();
                if !read.contains(&detection) {
                    read.push(detection);
                }
            }
        }
        if owner.is_some() {
            for each in judged.iter_mut().filter(|each| each.listener.reference.set == owner) {
                let Some(port) = port(each) else { continue };
                let bound = bound(port, options);
                let crowded = match held.ports.get(&bound) {
                    Some(holder) => *holder != port,
                    None => wanted.get(&bound).is_some_and(|ports| ports.len() > 1),
                };
                let differs = read.get(&port).is_some_and(|own| match held.detections.get(&port) {
                    Some(Some(holder)) => {
                        each.listener.spec.protocol == "HTTP" && *holder != clients.detection(&each.listener.reference)
                    }
                    Some(None) => false,
                    None => own.len() > 1,
                });
                let refused = if crowded {
                    let message = format!("Port {port} would be bound as {bound}, which another listener has.");
                    Some(("PortUnavailable", message))
                } else if differs {
                    let message =
                        format!("All listeners for port {port} must find out the addresses of clients in one way.");
                    Some(("ProtocolConflict", message))
                } else {
                    None
                };
                if let Some((reason, message)) = refused {
                    let path = format!("spec.listeners[{}]", each.listener.index);
                    let fault = Fault::new("listener-conflict", path, phrase(&message));
                    findings.push(fault.finding(Severity::Error, &each.owner()));
                    each.down = Some((reason, message));
                }
            }
        }
        for each in judged.iter().filter(|each| each.listener.reference.set == owner) {
            let Some(port) = port(each) else { continue };
            held.ports.entry(bound(port, options)).or_insert(port);
            if each.listener.spec.protocol == "HTTP" {
                let same = read.get(&port).is_none_or(|read| read.len() == 1);
                let detection = same.then(|| clients.detection(&each.listener.reference));
                held.detections.entry(port).or_insert(detection);
            }
        }
    }
}

/// The port of a listener that is served.
fn port(judged: &Judged<'_>) -> Option<u16> {
    let served = judged.down.is_none();
    served.then(|| u16::try_from(judged.listener.spec.port).ok()).flatten()
}
