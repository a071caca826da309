//! A Gateway's listeners as seen by routes: which are usable, and why the others are not.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use gateway_api::gateways::{GatewayListeners, GatewayListenersAllowedRoutesKinds};

use crate::{
    hostname,
    object::{GATEWAY_GROUP, ListenerRef},
};

pub use crate::route::{ROUTE_KINDS, kinds_of};

/// One listener of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener<'a> {
    /// Its name in full.
    pub reference: ListenerRef,
    /// The index in `spec.listeners`.
    pub index: usize,
    /// As it was written; one of a ListenerSet in the form of a Gateway's.
    pub spec: Cow<'a, GatewayListeners>,
    /// Its hostname in lower case, `*` if it has none.
    pub hostname: String,
    /// Why it takes no routes, if it does not.
    pub fault: Option<Fault>,
    /// Whether it lost its hosts to a listener of the Gateway or of an older ListenerSet; every other one keeps them,
    /// usable or not, so that no listener's policy can be walked around.
    pub yields: bool,
}

impl Listener<'_> {
    /// The kinds of routes that it takes (`status.listeners[].supportedKinds`).
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let allowed = self.spec.allowed_routes.as_ref();
        let kinds = allowed.and_then(|allowed| allowed.kinds.as_deref()).unwrap_or_default();
        kinds_of(&self.spec.protocol).iter().copied().filter(move |served| {
            let named = |kind: &GatewayListenersAllowedRoutesKinds| {
                kind.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP && kind.kind == *served
            };
            kinds.is_empty() || kinds.iter().any(named)
        })
    }
}

/// Why a listener takes no routes; certificates are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The protocol is neither HTTP, HTTPS nor TCP.
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
    /// Another listener of the port speaks TCP too: nothing tells their connections apart.
    PortConflict,
    /// The Gateway with its older ListenerSets has as many listeners as it may have.
    TooMany,
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
            Self::ProtocolConflict | Self::PortConflict => "ProtocolConflict",
            Self::HostnameConflict => "HostnameConflict",
            Self::TooMany => "TooManyListeners",
        }
    }

    /// The message of the listener's conditions.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnsupportedProtocol => "Only the protocols HTTP, HTTPS and TCP are supported.",
            Self::UnsupportedTlsMode => "Only the TLS mode Terminate is supported on HTTPS listeners.",
            Self::InvalidPort => "The port must be between 1 and 65535.",
            Self::DuplicateName => "Another listener of this Gateway has the same name.",
            Self::ProtocolConflict => "All listeners for a given port must use a compatible protocol.",
            Self::HostnameConflict => "All listeners for a given port must use a unique hostname.",
            Self::PortConflict => "Only one TCP listener is allowed for a given port.",
            Self::TooMany => "The listeners of a Gateway and its ListenerSets must not be more than 256.",
        }
    }

    /// Whether two listeners are at odds (the `Conflicted` condition), rather than one being wrong by itself.
    #[must_use]
    pub const fn is_conflict(self) -> bool {
        matches!(
            self,
            Self::DuplicateName | Self::ProtocolConflict | Self::HostnameConflict | Self::PortConflict
        )
    }
}

/// Whose listener it is, where that is a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) namespace: String,
    /// Whether it is known when the set was made.
    pub(crate) dated: bool,
}

/// What the listeners of the objects judged so far hold on to.
#[derive(Default)]
pub(crate) struct Ports {
    /// Hosts by port, with the ListenerSet that has them.
    hosts: BTreeMap<(i32, String), Option<Author>>,
    /// Hosts that sets of two namespaces want and of whom it cannot be told which was there first.
    pub(crate) contested: BTreeSet<(i32, String)>,
    families: BTreeMap<i32, BTreeSet<Family>>,
}

impl Ports {
    /// Judges the listeners of one object: against each other, where all that conflict lose, and against those of the
    /// objects before, to which they yield.
    pub(crate) fn judge<'a>(
        &mut self,
        specs: impl Iterator<Item = Cow<'a, GatewayListeners>>,
        author: Option<&Author>,
        reference: impl Fn(&str) -> ListenerRef,
    ) -> Vec<Listener<'a>> {
        let mut listeners: Vec<Listener<'a>> = specs
            .enumerate()
            .map(|(index, spec)| {
                // Nothing tells the connections of a port apart, whatever hostname stands there.
                let named = spec.hostname.as_deref().filter(|_| spec.protocol != "TCP");
                let hostname = hostname::normalize(named);
                let lost = self.lost(&spec, &hostname);
                if matches!(lost, Some(Fault::HostnameConflict | Fault::PortConflict)) {
                    self.contest(spec.port, &hostname, author);
                }
                Listener {
                    reference: reference(&spec.name),
                    index,
                    hostname,
                    fault: lost,
                    yields: lost.is_some(),
                    spec,
                }
            })
            .collect();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut hosts: BTreeMap<(i32, String), usize> = BTreeMap::new();
        for listener in &listeners {
            *names.entry(listener.spec.name.clone()).or_default() += 1;
            let family = Family::of(&listener.spec.protocol);
            if listener.yields || family == Family::Udp {
                continue;
            }
            let host = (listener.spec.port, listener.hostname.clone());
            self.hosts.entry(host.clone()).or_insert_with(|| author.cloned());
            *hosts.entry(host).or_default() += 1;
            self.families.entry(listener.spec.port).or_default().insert(family);
        }
        for listener in &mut listeners {
            let spec = &listener.spec;
            let shared = hosts.get(&(spec.port, listener.hostname.clone()));
            let families = self.families.get(&spec.port);
            let tcp = Family::of(&spec.protocol) == Family::Tcp;
            listener.fault = if kinds_of(&spec.protocol).is_empty() {
                Some(Fault::UnsupportedProtocol)
            } else if !(1..=65535).contains(&spec.port) {
                Some(Fault::InvalidPort)
            } else if spec.protocol == "HTTPS" && passes_through(spec) {
                Some(Fault::UnsupportedTlsMode)
            } else if names.get(&spec.name).is_some_and(|count| *count > 1) {
                Some(Fault::DuplicateName)
            } else if listener.yields {
                listener.fault
            } else if families.is_some_and(|families| families.len() > 1) {
                Some(Fault::ProtocolConflict)
            } else if shared.is_some_and(|count| *count > 1) {
                Some(if tcp {
                    Fault::PortConflict
                } else {
                    Fault::HostnameConflict
                })
            } else {
                None
            };
        }
        listeners
    }

    /// Notes that a set wants the host of another namespace's set, if it cannot be told which of the two is older.
    fn contest(&mut self, port: i32, hostname: &str, author: Option<&Author>) {
        let host = (port, hostname.to_owned());
        let holder = self.hosts.get(&host).and_then(Option::as_ref);
        if let Some((holder, author)) = holder.zip(author)
            && holder.namespace != author.namespace
            && !(holder.dated && author.dated)
        {
            self.contested.insert(host);
        }
    }

    /// What a listener loses to those of the objects before.
    fn lost(&self, spec: &GatewayListeners, hostname: &str) -> Option<Fault> {
        let family = Family::of(&spec.protocol);
        let taken = self.families.get(&spec.port)?;
        if family == Family::Udp {
            None
        } else if taken.iter().any(|other| *other != family) {
            Some(Fault::ProtocolConflict)
        } else {
            let host = (spec.port, hostname.to_owned());
            let fault = if family == Family::Tcp {
                Fault::PortConflict
            } else {
                Fault::HostnameConflict
            };
            self.hosts.contains_key(&host).then_some(fault)
        }
    }
}

fn passes_through(listener: &GatewayListeners) -> bool {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_ref());
    mode == Some(&gateway_api::gateways::GatewayListenersTlsMode::Passthrough)
}

/// Protocols that can share a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Http,
    /// Told apart by SNI.
    Tls,
    /// One listener has the whole port.
    Tcp,
    Udp,
    Other,
}

impl Family {
    fn of(protocol: &str) -> Self {
        match protocol {
            "HTTP" => Self::Http,
            "HTTPS" | "TLS" => Self::Tls,
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::gateways::{Gateway, GatewayListenersTls, GatewayListenersTlsMode};

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

    /// As in the Gateway API's `ListenerConditionReason`.
    #[test]
    fn reasons_are_those_of_the_gateway_api() {
        for (fault, reason) in [
            (Fault::UnsupportedProtocol, "UnsupportedProtocol"),
            (Fault::UnsupportedTlsMode, "UnsupportedTLSMode"),
            (Fault::InvalidPort, "PortUnavailable"),
            (Fault::DuplicateName, "Invalid"),
            (Fault::ProtocolConflict, "ProtocolConflict"),
            (Fault::HostnameConflict, "HostnameConflict"),
            (Fault::PortConflict, "ProtocolConflict"),
            (Fault::TooMany, "TooManyListeners"),
        ] {
            assert_eq!(fault.reason(), reason);
        }
    }

    #[test]
    fn tells_which_listeners_are_usable() {
        let cases: [(&[&str], &[Option<Fault>]); 15] = [
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
            (&["a HTTP 80", "b TCP 80"], &[Some(Fault::ProtocolConflict); 2]), // tcp on http
            (&["a TCP 80", "b TCP 81"], &[None; 2]),     // tcp
            (&["a TCP 80", "b TCP 80"], &[Some(Fault::PortConflict); 2]), // one port
            (
                &["a TCP 443", "b TLS 443 b.com"],
                &[Some(Fault::ProtocolConflict), Some(Fault::UnsupportedProtocol)],
            ), // tcp on tls
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
            let found: Vec<Option<Fault>> = Ports::default()
                .own(&gateway)
                .iter()
                .map(|listener| listener.fault)
                .collect();
            assert_eq!(found, faults, "{written:?}");
        }
    }
}
