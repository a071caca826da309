//! A Gateway's listeners as seen by routes: which are usable, and why the others are not.

use std::collections::BTreeMap;

use gateway_api::gateways::{Gateway, GatewayListeners};

use crate::{
    hostname,
    object::{self, ListenerRef},
};

/// One listener of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener<'a> {
    /// Its name in full.
    pub reference: ListenerRef,
    /// The index in `spec.listeners`.
    pub index: usize,
    /// As it was written.
    pub spec: &'a GatewayListeners,
    /// Its hostname in lower case, `*` if it has none.
    pub hostname: String,
    /// Why it takes no routes, if it does not.
    pub fault: Option<Fault>,
}

/// Why a listener takes no routes; certificates are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The protocol is neither HTTP nor HTTPS.
    UnsupportedProtocol,
    /// An HTTPS listener whose TLS is not terminated here.
    UnsupportedTlsMode,
    /// The port is outside 1-65535.
    InvalidPort,
    /// Another listener has the same name.
    DuplicateName,
    /// Another listener of the port speaks a protocol that cannot share it.
    ProtocolConflict,
    /// Another listener of the port has the same hostname.
    HostnameConflict,
}

impl Fault {
    /// The reason of the listener's conditions (Gateway API, `ListenerConditionReason`).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::UnsupportedTlsMode => "UnsupportedTLSMode",
            Self::InvalidPort => "PortUnavailable",
            Self::DuplicateName => "Invalid",
            Self::ProtocolConflict => "ProtocolConflict",
            Self::HostnameConflict => "HostnameConflict",
        }
    }

    /// The message of the listener's conditions.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnsupportedProtocol => "Only the protocols HTTP and HTTPS are supported.",
            Self::UnsupportedTlsMode => "Only the TLS mode Terminate is supported on HTTPS listeners.",
            Self::InvalidPort => "The port must be between 1 and 65535.",
            Self::DuplicateName => "Another listener of this Gateway has the same name.",
            Self::ProtocolConflict => "All listeners for a given port must use a compatible protocol.",
            Self::HostnameConflict => "All listeners for a given port must use a unique hostname.",
        }
    }

    /// Whether two listeners are at odds (the `Conflicted` condition), rather than one being wrong by itself.
    #[must_use]
    pub const fn is_conflict(self) -> bool {
        matches!(
            self,
            Self::DuplicateName | Self::ProtocolConflict | Self::HostnameConflict
        )
    }
}

/// Lists a Gateway's listeners in the order of its manifest.
///
/// Of listeners that conflict none is usable: which of them was meant cannot be told, and choosing by position would let
/// an appended listener take over hosts.
#[must_use]
pub fn listeners(gateway: &Gateway) -> Vec<Listener<'_>> {
    let (namespace, name) = (object::namespace(&gateway.metadata), object::name(&gateway.metadata));
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hosts: BTreeMap<(i32, String), usize> = BTreeMap::new();
    let mut families: BTreeMap<i32, Vec<Family>> = BTreeMap::new();
    for listener in &gateway.spec.listeners {
        *names.entry(&listener.name).or_default() += 1;
        let family = Family::of(&listener.protocol);
        if family == Family::Udp {
            continue;
        }
        let host = hostname::normalize(listener.hostname.as_deref());
        *hosts.entry((listener.port, host)).or_default() += 1;
        let of_port = families.entry(listener.port).or_default();
        if !of_port.contains(&family) {
            of_port.push(family);
        }
    }
    gateway
        .spec
        .listeners
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let host = hostname::normalize(spec.hostname.as_deref());
            let key = (spec.port, host);
            let fault = if !matches!(spec.protocol.as_str(), "HTTP" | "HTTPS") {
                Some(Fault::UnsupportedProtocol)
            } else if !(1..=65535).contains(&spec.port) {
                Some(Fault::InvalidPort)
            } else if spec.protocol == "HTTPS" && passes_through(spec) {
                Some(Fault::UnsupportedTlsMode)
            } else if names.get(spec.name.as_str()).is_some_and(|count| *count > 1) {
                Some(Fault::DuplicateName)
            } else if families.get(&spec.port).is_some_and(|families| families.len() > 1) {
                Some(Fault::ProtocolConflict)
            } else if hosts.get(&key).is_some_and(|count| *count > 1) {
                Some(Fault::HostnameConflict)
            } else {
                None
            };
            Listener {
                reference: ListenerRef {
                    namespace: namespace.to_owned(),
                    gateway: name.to_owned(),
                    listener: spec.name.clone(),
                },
                index,
                spec,
                hostname: key.1,
                fault,
            }
        })
        .collect()
}

fn passes_through(listener: &GatewayListeners) -> bool {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_ref());
    mode == Some(&gateway_api::gateways::GatewayListenersTlsMode::Passthrough)
}

/// Protocols that can share a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Http,
    /// Told apart by SNI.
    Tls,
    Udp,
    Other,
}

impl Family {
    fn of(protocol: &str) -> Self {
        match protocol {
            "HTTP" => Self::Http,
            "HTTPS" | "TLS" => Self::Tls,
            "UDP" => Self::Udp,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::gateways::{GatewayListenersTls, GatewayListenersTlsMode};

    use super::*;

    fn listener(written: &str) -> GatewayListeners {
        let mut parts = written.split(' ');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (name, protocol, port, hostname) = (next(), next(), next(), next());
        let passes = next() == "passthrough";
        GatewayListeners {
            name,
            protocol,
            port: port.parse().unwrap(),
            hostname: Some(hostname).filter(|hostname| !hostname.is_empty()),
            tls: passes.then(|| GatewayListenersTls {
                mode: Some(GatewayListenersTlsMode::Passthrough),
                ..GatewayListenersTls::default()
            }),
            ..GatewayListeners::default()
        }
    }

    #[test]
    fn tells_which_listeners_are_usable() {
        let cases: [(&[&str], &[Option<Fault>]); 12] = [
            (
                &[
                    "a HTTPS 443 a.com",
                    "b HTTPS 443 b.com",
                    "c HTTPS 443 *.com",
                    "d HTTPS 443",
                ],
                &[None; 4],
            ), // different hosts
            (&["a HTTP 80", "b HTTPS 443"], &[None; 2]), // different ports
            (
                &["a HTTP 80 A.com", "b HTTP 80 a.com", "c HTTP 80 c.com"],
                &[Some(Fault::HostnameConflict), Some(Fault::HostnameConflict), None],
            ), // same host
            (&["a HTTP 80", "b HTTP 80"], &[Some(Fault::HostnameConflict); 2]), // no host
            (
                &["a HTTP 80 a.com", "b HTTPS 80 b.com"],
                &[Some(Fault::ProtocolConflict); 2],
            ), // mixed port
            (
                &["a HTTP 80", "b TCP 80"],
                &[Some(Fault::ProtocolConflict), Some(Fault::UnsupportedProtocol)],
            ), // tcp on http
            (&["a HTTP 80", "b UDP 80"], &[None, Some(Fault::UnsupportedProtocol)]), // udp beside http
            (
                &["a HTTPS 443 a.com", "b TLS 443 b.com"],
                &[None, Some(Fault::UnsupportedProtocol)],
            ), // tls beside https
            (
                &["a HTTPS 443 a.com", "b TLS 443 a.com"],
                &[Some(Fault::HostnameConflict), Some(Fault::UnsupportedProtocol)],
            ), // tls on https
            (&["a HTTP 80", "a HTTP 81"], &[Some(Fault::DuplicateName); 2]), // names
            (
                &["a HTTP 0", "b HTTP 65535", "c HTTP 65536"],
                &[Some(Fault::InvalidPort), None, Some(Fault::InvalidPort)],
            ), // ports
            (&["a HTTPS 443 a.com passthrough"], &[Some(Fault::UnsupportedTlsMode)]), // passthrough
        ];
        for (written, faults) in cases {
            let mut gateway = Gateway::default();
            gateway.spec.listeners = written.iter().map(|written| listener(written)).collect();
            let found: Vec<Option<Fault>> = listeners(&gateway).iter().map(|listener| listener.fault).collect();
            assert_eq!(found, faults, "{written:?}");
        }
    }
}
