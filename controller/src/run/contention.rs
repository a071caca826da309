//! Who gets a port that two Gateways of a run want.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_gateway::Configuration;

/// Takes ports away that only listeners of ListenerSets want, if another Gateway or program has them, and says so.
///
/// Whoever may add listeners to one Gateway must not cost another one its port, nor either one its start.
pub(crate) fn modest(
    all: &[Configuration],
    owners: &BTreeMap<u16, String>,
    occupied: &BTreeSet<u16>,
) -> (Vec<Configuration>, Vec<String>) {
    let mut wanted: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    let mut own: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for configuration in all {
        for port in &configuration.listeners {
            let gateway = configuration.gateway.as_str();
            wanted.entry(port.bound).or_default().insert(gateway);
            if !port.only_sets {
                own.entry(port.bound).or_default().insert(gateway);
            }
        }
    }
    let mut kept = all.to_vec();
    let mut withdrawn = Vec::new();
    for configuration in &mut kept {
        let gateway = configuration.gateway.clone();
        for port in configuration.listeners.clone().iter().filter(|port| port.only_sets) {
            let bound = port.bound;
            let all = wanted.get(&bound);
            // A Gateway's own listener comes first, then who has the port already, then the first by name.
            let first = own
                .get(&bound)
                .and_then(BTreeSet::first)
                .copied()
                .or_else(|| {
                    let owner = owners.get(&bound).map(String::as_str);
                    owner.filter(|owner| all.is_some_and(|all| all.contains(owner)))
                })
                .or_else(|| all.and_then(BTreeSet::first).copied());
            let holder = if occupied.contains(&bound) {
                "another program".to_owned()
            } else if let Some(first) = first.filter(|first| *first != gateway) {
                format!("Gateway {first}")
            } else {
                continue;
            };
            configuration.withdraw(bound);
            withdrawn.push(format!(
                "Gateway {gateway}: {} is not served: {holder} has port {bound}",
                port.listeners.join(", ")
            ));
        }
    }
    (kept, withdrawn)
}

/// Divides configurations into those that can be served side by side, by name, and the reasons why the others cannot.
///
/// Who wants a port that another one has goes last: nobody takes a port over by a name that sorts before the owner's.
pub(crate) fn by_port(all: &[Configuration], owners: &BTreeMap<u16, String>) -> (Vec<Configuration>, Vec<String>) {
    let (modest, greedy): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|configuration| {
        let mut ports = configuration.listeners.iter();
        ports.all(|port| {
            owners
                .get(&port.bound)
                .is_none_or(|owner| *owner == configuration.gateway)
        })
    });
    let mut served: Vec<Configuration> = Vec::new();
    let mut clashes = Vec::new();
    for configuration in modest.into_iter().chain(greedy) {
        served.push(configuration);
        if let Some(clash) = super::clash(&served) {
            clashes.push(clash);
            served.pop();
        }
    }
    served.sort_by(|one, other| one.gateway.cmp(&other.gateway));
    (served, clashes)
}

#[cfg(test)]
mod tests {
    use portcullis_gateway::BoundPort;

    use super::*;

    fn configuration(gateway: &str, port: u16) -> Configuration {
        Configuration {
            gateway: gateway.to_owned(),
            resources: Vec::new(),
            listeners: vec![BoundPort {
                listeners: vec!["http".to_owned()],
                port,
                bound: port,
                protocol: "HTTP".to_owned(),
                only_sets: false,
            }],
        }
    }

    #[test]
    fn a_set_s_listener_costs_no_gateway_a_port() {
        let mut all = [
            configuration("aaa/mine", 443),
            configuration("edge/public", 443),
            configuration("edge/zone", 81),
        ];
        all[0].listeners[0].only_sets = true;
        all[0].listeners.push(configuration("aaa/mine", 80).listeners.remove(0));
        all[2].listeners[0].only_sets = true;
        let ports = |kept: &[Configuration]| -> Vec<Vec<u16>> {
            let bound = |kept: &Configuration| kept.listeners.iter().map(|port| port.bound).collect();
            kept.iter().map(bound).collect()
        };
        let owners = BTreeMap::from([(443, "aaa/mine".to_owned())]);
        let (kept, withdrawn) = modest(&all, &owners, &BTreeSet::from([81]));
        assert_eq!(ports(&kept), [vec![80], vec![443], vec![]]);
        assert_eq!(
            withdrawn,
            [
                "Gateway aaa/mine: http is not served: Gateway edge/public has port 443",
                "Gateway edge/zone: http is not served: another program has port 81"
            ]
        );
        assert!(by_port(&kept, &owners).1.is_empty());
        all[1].listeners[0].only_sets = true;
        let owners = BTreeMap::from([(443, "edge/public".to_owned())]);
        let (kept, _) = modest(&all, &owners, &BTreeSet::new());
        assert_eq!(ports(&kept), [vec![80], vec![443], vec![81]], "who has it keeps it");
    }

    #[test]
    fn no_gateway_takes_the_port_of_another() {
        let all = [
            configuration("aaa/mine", 443),
            configuration("edge/public", 443),
            configuration("other/own", 80),
        ];
        let names = |served: &[Configuration]| -> Vec<String> {
            served
                .iter()
                .map(|configuration| configuration.gateway.clone())
                .collect()
        };
        let owners = BTreeMap::from([(443, "edge/public".to_owned()), (8080, "aaa/mine".to_owned())]);
        let (served, clashes) = by_port(&all, &owners);
        assert_eq!(names(&served), ["edge/public", "other/own"]);
        assert_eq!(
            clashes,
            ["Gateways edge/public and aaa/mine both want port 443, and each has an Envoy of its own here"]
        );
        let (served, _) = by_port(&all[..1], &owners);
        assert_eq!(names(&served), ["aaa/mine"], "the owner has left");
        let (served, _) = by_port(&all, &BTreeMap::new());
        assert_eq!(names(&served), ["aaa/mine", "other/own"]);
    }
}
