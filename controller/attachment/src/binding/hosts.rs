//! Which hosts a route gets on a listener.

use std::collections::BTreeSet;

use crate::{hostname, listeners::Listener, route::Route};

/// What is said of a route's hostnames within a listener's that a listener of another object has.
pub(super) fn taken(route: &Route<'_>, listener: &Listener<'_>, all: &[Listener<'_>]) -> Vec<String> {
    let wanted = route.hostnames.iter().filter_map(|wanted| {
        let wanted = hostname::normalize(Some(wanted));
        hostname::intersection(&wanted, &listener.hostname).map(str::to_owned)
    });
    wanted
        .filter(|host| owners(host, listener, all).any(|other| other.reference.set != listener.reference.set))
        .map(|host| {
            let port = listener.spec.port;
            format!("a more specific listener of another object has host {host:?} of port {port}, so this route does not get it")
        })
        .collect()
}

/// The listeners of a port that a host belongs to rather than to one of them.
fn owners<'a>(host: &str, listener: &Listener<'_>, all: &'a [Listener<'a>]) -> impl Iterator<Item = &'a Listener<'a>> {
    let own = hostname::specificity(&listener.hostname);
    let port = listener.spec.port;
    all.iter().filter(move |other| {
        other.spec.port == port
            && !other.yields
            && other.spec.protocol != "UDP"
            && hostname::specificity(&other.hostname) > own
            && hostname::covers(&other.hostname, host)
    })
}

/// The hostnames that a route serves on a listener, in the route's order and without repetition.
pub(super) fn hostnames(route: &Route<'_>, listener: &Listener<'_>, all: &[Listener<'_>]) -> Vec<String> {
    let wanted = route.hostnames;
    let candidates: Vec<String> = if wanted.is_empty() {
        vec![listener.hostname.clone()]
    } else {
        wanted
            .iter()
            .filter_map(|wanted| {
                let wanted = hostname::normalize(Some(wanted));
                hostname::intersection(&wanted, &listener.hostname).map(str::to_owned)
            })
            .collect()
    };
    let mut seen = BTreeSet::new();
    candidates
        .into_iter()
        .filter(|host| owners(host, listener, all).next().is_none() && seen.insert(host.clone()))
        .collect()
}
