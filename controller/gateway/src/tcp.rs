//! Listeners of TCP: which clients may connect is decided before a connection exists, and before a backend hears of it.
//!
//! Envoy's network RBAC decides on a client's first byte: by then the backend is connected, and what it says first has
//! reached the client. Here the rules choose the filter chain instead, which happens when a connection is accepted: none
//! is chosen for a client that may not connect.
//!
//! Every rule that allows has a chain of its own, named by all that admits through it. Envoy keeps connections whose
//! chain stays and drains those whose chain goes, so that an edit closes the connections of the rules that it changes and
//! of no others.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::CidrRange,
            listener::v3::{Filter, FilterChain, Listener, filter},
        },
        extensions::{
            filters::network::tcp_proxy::v3::{
                TcpProxy,
                tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight},
            },
            matching::{common_inputs::network::v3::DirectSourceIpInput, input_matchers::ip::v3::Ip},
        },
    },
    google::protobuf::StringValue,
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            Matcher,
            matcher::{
                MatcherList, MatcherType, OnMatch,
                matcher_list::{
                    FieldMatcher, Predicate,
                    predicate::{MatchType, SinglePredicate, single_predicate},
                },
                on_match,
            },
        },
    },
};
use portcullis_attachment::connection::{Admission, Admitting, Network};
use portcullis_engine::{document::Action, seal};
use prost::{Message, Name};

use crate::{
    Options, Resource, chain, listener,
    resource::LISTENER,
    route::rule::{NO_CLUSTER, Rule},
    xds::{any, number},
};

/// The chain of connections that are refused: there is none of that name, so Envoy closes them and counts them as
/// `no_filter_chain_match`.
const REFUSED: &str = "refused";

/// A listener must have a chain; this one is never chosen, and would close what it got.
const CLOSED: &str = "closed";

/// The most networks and chains of one listener: each Allow rule of a baseline holds the whole policy below it.
const MAX_PARTS: usize = 65_536;

/// What the connections of a port are for.
pub(crate) struct Served<'a> {
    /// The route, `tcproute/namespace/name`.
    pub(crate) route: &'a str,
    pub(crate) rule: &'a Rule,
    pub(crate) admission: &'a Admission,
}

/// The socket of a port whose listener speaks TCP; without a route every connection is closed.
///
/// `Err` says why a route's rules are not what it does, and comes with one that closes every connection.
pub(crate) fn listener(
    port: u16,
    bound: u16,
    served: Option<&Served<'_>>,
    options: &Options,
) -> (Resource, Result<(), String>) {
    let name = listener::socket_name("TCP", port);
    let mut chains = Chains {
        stat_prefix: &name,
        shares: Vec::new(),
        chains: BTreeMap::new(),
        parts: 0,
    };
    let mut matcher = Matcher::default();
    let mut outcome = Ok(());
    if let Some(served) = served.filter(|served| !served.admission.refuses) {
        chains.shares = served.rule.weights();
        if !chains.shares.is_empty() {
            matcher = chains.admit(&served.admission.layers, served.route);
        }
        if chains.parts > MAX_PARTS {
            let parts = chains.parts;
            outcome = Err(format!(
                "the policies of {} come to {parts} networks and rules for connections, more than {MAX_PARTS}",
                served.route
            ));
            matcher = Matcher::default();
            chains.chains.clear();
        }
    }
    if chains.chains.is_empty() {
        matcher = Matcher {
            on_no_match: Some(Box::new(to(REFUSED))),
            matcher_type: None,
        };
        let closed = FilterChain {
            name: CLOSED.to_owned(),
            ..FilterChain::default()
        };
        chains.chains.insert(CLOSED.to_owned(), closed);
    }
    let listener = Listener {
        stat_prefix: name.clone(),
        filter_chain_matcher: Some(matcher),
        filter_chains: chains.chains.into_values().collect(),
        access_log: options
            .access_log
            .iter()
            .map(|path| chain::connection_log(path))
            .collect(),
        ..listener::base(name.clone(), bound)
    };
    let resource = Resource {
        type_url: LISTENER,
        name,
        body: listener.encode_to_vec().into(),
    };
    (resource, outcome)
}

/// The chains of a listener in the making.
struct Chains<'a> {
    stat_prefix: &'a str,
    /// Clusters by weight; none closes its share of the connections.
    shares: Vec<(Option<&'a str>, u32)>,
    chains: BTreeMap<String, FilterChain>,
    /// How many networks and rules there are so far.
    parts: usize,
}

impl Chains<'_> {
    /// What decides by the given policies; `path` is all that admits to them.
    fn admit(&mut self, layers: &[Admitting], path: &str) -> Matcher {
        let Some((layer, below)) = layers.split_first() else {
            let chain = self.chain(path);
            return Matcher {
                on_no_match: Some(Box::new(to(&chain))),
                matcher_type: None,
            };
        };
        // Who is admitted by a rule was not denied by one before it.
        let mut denied: Vec<Network> = Vec::new();
        let mut matchers = Vec::new();
        let mut otherwise = None;
        for rule in &layer.rules {
            let networks = rule.networks.as_deref();
            let size = networks.map_or(0, <[Network]>::len);
            self.parts = self.parts.saturating_add(size).saturating_add(1);
            if self.parts > MAX_PARTS {
                break;
            }
            let outcome = match rule.action {
                Action::Deny => {
                    denied.extend(networks.unwrap_or_default());
                    to(REFUSED)
                }
                Action::Allow => self.below(below, &admitted(path, &denied, networks)),
            };
            match networks {
                Some(networks) => matchers.push(FieldMatcher {
                    predicate: Some(within(self.stat_prefix, networks)),
                    on_match: Some(outcome),
                }),
                None => {
                    otherwise = Some(outcome);
                    break;
                }
            }
        }
        let otherwise = match (otherwise, layer.default_action) {
            (Some(outcome), _) => outcome,
            (None, Action::Deny) => to(REFUSED),
            (None, Action::Allow) => self.below(below, &admitted(path, &denied, None)),
        };
        Matcher {
            on_no_match: Some(Box::new(otherwise)),
            matcher_type: (!matchers.is_empty()).then_some(MatcherType::MatcherList(MatcherList { matchers })),
        }
    }

    /// What becomes of connections that a policy admits.
    fn below(&mut self, layers: &[Admitting], path: &str) -> OnMatch {
        if layers.is_empty() {
            let chain = self.chain(path);
            return to(&chain);
        }
        OnMatch {
            keep_matching: false,
            on_match: Some(on_match::OnMatch::Matcher(Box::new(self.admit(layers, path)))),
        }
    }

    /// The chain of connections that are admitted in one way.
    fn chain(&mut self, path: &str) -> String {
        let name = format!("admitted/{}", seal::hash(path.as_bytes(), &[]));
        let proxy = TcpProxy {
            stat_prefix: self.stat_prefix.to_owned(),
            cluster_specifier: Some(specify(&self.shares)),
            ..TcpProxy::default()
        };
        self.chains.entry(name.clone()).or_insert_with(|| FilterChain {
            name: name.clone(),
            filters: vec![Filter {
                name: "envoy.filters.network.tcp_proxy".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(any(&proxy))),
            }],
            ..FilterChain::default()
        });
        name
    }
}

/// All that admits through a rule: what admitted before, whom earlier rules deny, and whom the rule allows.
fn admitted(path: &str, denied: &[Network], allowed: Option<&[Network]>) -> String {
    let list = |networks: &[Network]| {
        let mut networks: Vec<Network> = networks.to_vec();
        networks.sort_unstable();
        networks.dedup();
        let texts: Vec<String> = networks
            .iter()
            .map(|Network { address, length }| format!("{address}/{length}"))
            .collect();
        texts.join(",")
    };
    let allowed = allowed.map_or_else(|| "all".to_owned(), list);
    format!("{path};{allowed} but {}", list(denied))
}

/// Sends connections to the chain of a name.
fn to(chain: &str) -> OnMatch {
    let name = StringValue {
        value: chain.to_owned(),
    };
    OnMatch {
        keep_matching: false,
        on_match: Some(on_match::OnMatch::Action(extension("filter-chain", &name))),
    }
}

/// Whether the peer of a connection, whoever else it speaks for, is of some network.
fn within(stat_prefix: &str, networks: &[Network]) -> Predicate {
    let ranges = networks.iter().map(|Network { address, length }| CidrRange {
        address_prefix: address.to_string(),
        prefix_len: number((*length).into()),
    });
    let ranges = Ip {
        cidr_ranges: ranges.collect(),
        stat_prefix: stat_prefix.to_owned(),
    };
    Predicate {
        match_type: Some(MatchType::SinglePredicate(SinglePredicate {
            input: Some(extension(
                "envoy.matching.inputs.direct_source_ip",
                &DirectSourceIpInput {},
            )),
            matcher: Some(single_predicate::Matcher::CustomMatch(extension(
                "envoy.matching.matchers.ip",
                &ranges,
            ))),
        })),
    }
}

fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(message)),
    }
}

fn specify(shares: &[(Option<&str>, u32)]) -> ClusterSpecifier {
    let name = |cluster: Option<&str>| cluster.unwrap_or(NO_CLUSTER).to_owned();
    if let [(cluster, _)] = shares {
        return ClusterSpecifier::Cluster(name(*cluster));
    }
    let weighted = shares.iter().map(|(cluster, weight)| ClusterWeight {
        name: name(*cluster),
        weight: *weight,
        ..ClusterWeight::default()
    });
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: weighted.collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use envoy_types::pb::envoy::extensions::matching::input_matchers::ip::v3::Ip;
    use portcullis_attachment::connection::ConnectionRule;

    use super::*;

    /// The chain that Envoy chooses for a client.
    fn chosen(matcher: &Matcher, client: IpAddr) -> String {
        let fits = |predicate: &Predicate| {
            let Some(MatchType::SinglePredicate(SinglePredicate {
                matcher: Some(single_predicate::Matcher::CustomMatch(ranges)),
                ..
            })) = &predicate.match_type
            else {
                panic!("{predicate:?}")
            };
            let ranges = Ip::decode(ranges.typed_config.as_ref().unwrap().value.as_slice()).unwrap();
            ranges.cidr_ranges.iter().any(|range| {
                let network = Network {
                    address: range.address_prefix.parse().unwrap(),
                    length: u8::try_from(range.prefix_len.unwrap().value).unwrap(),
                };
                network.contains(client)
            })
        };
        let list = match &matcher.matcher_type {
            Some(MatcherType::MatcherList(list)) => list.matchers.as_slice(),
            None => &[],
            other => panic!("{other:?}"),
        };
        let first = list.iter().find(|each| fits(each.predicate.as_ref().unwrap()));
        let outcome = match first {
            Some(first) => first.on_match.as_ref(),
            None => matcher.on_no_match.as_deref(),
        };
        match outcome.unwrap().on_match.as_ref().unwrap() {
            on_match::OnMatch::Matcher(nested) => chosen(nested, client),
            on_match::OnMatch::Action(action) => {
                let any = action.typed_config.as_ref().unwrap();
                StringValue::decode(any.value.as_slice()).unwrap().value
            }
        }
    }

    fn network(text: &str) -> Network {
        let (address, length) = text.split_once('/').unwrap();
        Network {
            address: address.parse().unwrap(),
            length: length.parse().unwrap(),
        }
    }

    fn layer(rules: &[(Action, Option<&str>)], default_action: Action) -> Admitting {
        Admitting {
            policy: "shop/p".to_owned(),
            rules: rules
                .iter()
                .map(|(action, networks)| ConnectionRule {
                    name: "r".to_owned(),
                    action: *action,
                    networks: networks.map(|networks| networks.split(' ').map(network).collect()),
                })
                .collect(),
            default_action,
        }
    }

    fn admit(layers: &[Admitting]) -> (Matcher, BTreeMap<String, FilterChain>) {
        let mut chains = Chains {
            stat_prefix: "tcp-1",
            shares: vec![(Some("c"), 1)],
            chains: BTreeMap::new(),
            parts: 0,
        };
        let matcher = chains.admit(layers, "tcproute/shop/db");
        (matcher, chains.chains)
    }

    /// Every combination of a baseline and a policy of two rules each.
    #[test]
    fn the_chosen_chain_is_that_of_whom_the_policies_admit() {
        let rules: Vec<(Action, Option<&str>)> = [Action::Allow, Action::Deny]
            .into_iter()
            .flat_map(|action| {
                let networks = [None, Some("10.0.0.0/8"), Some("10.1.0.0/16 192.0.2.1/32"), Some("::/0")];
                networks.map(|networks| (action, networks))
            })
            .collect();
        let mut policies: Vec<Admitting> = Vec::new();
        for default in [Action::Allow, Action::Deny] {
            policies.push(layer(&[], default));
            for first in &rules {
                policies.extend(rules.iter().map(|second| layer(&[*first, *second], default)));
            }
        }
        let clients = ["10.0.0.1", "10.1.0.1", "192.0.2.1", "192.0.2.2", "2001:db8::1"];
        let clients = clients.map(|client| client.parse().unwrap());
        for (index, policy) in policies.iter().enumerate() {
            for baseline in policies.iter().skip(index % 7).step_by(7) {
                let admission = Admission {
                    layers: vec![baseline.clone(), policy.clone()],
                    ..Admission::default()
                };
                let (matcher, chains) = admit(&admission.layers);
                for client in clients {
                    let chain = chosen(&matcher, client);
                    assert_eq!(
                        chains.contains_key(&chain),
                        admission.admits(client),
                        "{client} {admission:?}"
                    );
                    assert!(chain == REFUSED || chains.contains_key(&chain), "{chain}");
                }
            }
        }
    }

    /// Connections go on as long as their chain is there.
    #[test]
    fn a_chain_stays_where_its_rule_and_those_that_deny_before_it_do() {
        let (allow, deny) = (Action::Allow, Action::Deny);
        let client = "10.0.0.1".parse().unwrap();
        let chain = |rules: &[(Action, Option<&str>)]| chosen(&admit(&[layer(rules, deny)]).0, client);
        let before = chain(&[(allow, Some("10.0.0.0/8"))]);
        for same in [
            &[(allow, Some("192.0.2.0/24")), (allow, Some("10.0.0.0/8"))][..],
            &[(allow, Some("10.0.0.0/8")), (deny, Some("10.0.0.1/32"))],
        ] {
            assert_eq!(chain(same), before, "{same:?}");
        }
        for other in [
            &[(deny, Some("10.0.0.2/32")), (allow, Some("10.0.0.0/8"))][..],
            &[(allow, Some("10.0.0.0/9"))],
            &[(allow, None)],
        ] {
            assert!(chain(other) != before && chain(other) != REFUSED, "{other:?}");
        }
    }

    #[test]
    fn policies_that_multiply_beyond_measure_close_the_port() {
        let rules: Vec<(Action, Option<&str>)> = (0..300).map(|_| (Action::Allow, Some("10.0.0.0/8"))).collect();
        let many = layer(&rules, Action::Deny);
        let mut chains = Chains {
            stat_prefix: "tcp-1",
            shares: vec![(Some("c"), 1)],
            chains: BTreeMap::new(),
            parts: 0,
        };
        chains.admit(&[many.clone(), many], "");
        assert!(chains.parts > MAX_PARTS);
        assert!(chains.chains.len() <= MAX_PARTS);
    }
}
