//! Policies where there are connections and no requests: which clients a TCPRoute admits.

use std::net::IpAddr;

use portcullis_engine::{
    address::parse_network,
    document::{Action, Authorization, Document, Rule},
    seal,
};

use crate::{
    fault::{Fault, Feature, Notice},
    object::ObjectRef,
};

/// Who may connect to a TCPRoute on a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// What stands for it: another one where it decides otherwise.
    pub hash: String,
    /// The policies that must all admit a connection; none admits everybody.
    pub layers: Vec<Admitting>,
    /// Whether every connection is refused, because a policy could not be enforced whole.
    pub refuses: bool,
    /// The policy that decides, or that refuses; absent where no policy covers the place.
    pub enforced: Option<ObjectRef>,
    /// The policy above it that it is merged with (`spec.mergeType`).
    pub merged: Option<ObjectRef>,
    /// The Gateway's baseline, which must admit a connection as well.
    pub baseline: Option<ObjectRef>,
}

/// Ordered rules of one policy; the first that fits a client decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitting {
    /// The policy's identity, `namespace/name`.
    pub policy: String,
    /// The rules; an Allow rule that no connection can fit is left out.
    pub rules: Vec<ConnectionRule>,
    /// What happens to a connection that no rule fits.
    pub default_action: Action,
}

/// One rule on the address of a connection's peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRule {
    /// The rule's name for explanations.
    pub name: String,
    /// The effect.
    pub action: Action,
    /// The networks of the clients that it fits; every client's if absent.
    pub networks: Option<Vec<Network>>,
}

/// A network, masked; an IPv4 network mapped into IPv6 is its IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// How many leading bits its addresses share.
    pub length: u8,
}

impl Network {
    /// Whether an address in canonical form is of the network; an IPv4 address is of no IPv6 network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits() ^ other.to_bits())) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= self.length.into()
    }
}

impl Admission {
    /// Names it by what it decides.
    pub(crate) fn hashed(self) -> Self {
        let decides = format!("{} {:?}", self.refuses, self.layers);
        Self {
            hash: seal::hash(decides.as_bytes(), &[]),
            ..self
        }
    }

    /// Whether a client with this address may connect.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        !self.refuses && self.layers.iter().all(|layer| layer.decide(client) == Action::Allow)
    }
}

impl Admitting {
    fn decide(&self, client: IpAddr) -> Action {
        let fits = |rule: &&ConnectionRule| {
            let networks = rule.networks.as_ref();
            networks.is_none_or(|networks| networks.iter().any(|network| network.contains(client)))
        };
        let first = self.rules.iter().find(fits);
        first.map_or(self.default_action, |rule| rule.action)
    }
}

/// What a policy comes to for connections.
pub(crate) struct Reading {
    /// What it asks that no connection can answer, by field; it then refuses all.
    features: Vec<&'static str>,
    /// Rules that ask for more than addresses, by index.
    rules: Vec<RequestRule>,
    /// Its rules on connections; none if it has no authorization.
    pub(crate) admitting: Option<Admitting>,
}

/// A rule that asks for what only a request has.
struct RequestRule {
    index: usize,
    action: Action,
    /// Whether it names addresses too.
    addressed: bool,
    /// By field, with the word of Envoy Gateway's message.
    asks: Vec<(&'static str, &'static str)>,
}

impl Reading {
    /// Reads a policy's document, its own and not those of others beside it.
    ///
    /// Whatever a connection cannot answer keeps it out: an Allow rule that asks for it never fits, a Deny rule fits
    /// whoever its addresses do.
    pub(crate) fn of(document: &Document) -> Self {
        // Every field is named, so that a new one cannot be forgotten.
        let Document {
            version: _,
            policy,
            refuse,
            cors,
            csrf,
            api_key,
            basic_auth,
            jwt,
            any_of,
            authorization,
            baseline: _,
            shadow: _,
        } = document;
        let features = [
            (cors.is_some(), "cors"),
            (csrf.is_some(), "csrf"),
            (basic_auth.is_some(), "basicAuth"),
            (api_key.is_some(), "apiKeyAuth"),
            (jwt.is_some(), "jwt"),
            (!any_of.is_empty(), "anyOf"),
            (refuse.is_some(), "refuse"),
        ];
        let features = features.into_iter().filter(|(present, _)| *present);
        let mut reading = Self {
            features: features.map(|(_, field)| field).collect(),
            rules: Vec::new(),
            admitting: None,
        };
        if let Some(Authorization { default_action, rules }) = authorization {
            reading.admitting = Some(Admitting {
                policy: policy.clone(),
                rules: rules
                    .iter()
                    .enumerate()
                    .filter_map(|(index, rule)| reading.rule(index, rule))
                    .collect(),
                default_action: *default_action,
            });
        }
        reading
    }

    fn rule(&mut self, index: usize, rule: &Rule) -> Option<ConnectionRule> {
        let Rule {
            name,
            action,
            client_cidrs,
            geo_locations,
            methods,
            path,
            headers,
            cel,
            jwt,
            certificate,
        } = rule;
        let asks = [
            (cel.is_some(), "cel", "CEL"),
            (jwt.is_some(), "principal.jwt", "JWT"),
            (!headers.is_empty(), "principal.headers", "headers"),
            (
                !geo_locations.is_empty(),
                "principal.clientIPGeoLocations",
                "clientIPGeoLocations",
            ),
            (
                certificate.is_some(),
                "principal.clientCertificate",
                "clientCertificate",
            ),
            (!methods.is_empty() || path.is_some(), "operation", "operation"),
        ];
        let asks = asks.into_iter().filter(|(present, ..)| *present);
        let asks: Vec<_> = asks.map(|(_, field, word)| (field, word)).collect();
        let fits = asks.is_empty();
        if !fits {
            self.rules.push(RequestRule {
                index,
                action: *action,
                addressed: !client_cidrs.is_empty(),
                asks,
            });
        }
        let networks: Option<Vec<Network>> = client_cidrs
            .iter()
            .map(|text| {
                let network = parse_network(text).ok()?;
                Some(Network {
                    address: network.network(),
                    length: network.prefix_len(),
                })
            })
            .collect();
        // What cannot be read was refused before; if it were not, it would fit whom the rule denies and nobody else.
        let networks = match (action, networks) {
            (Action::Allow, Some(networks)) if fits && !networks.is_empty() => Some(networks),
            (Action::Allow, _) => return None,
            (Action::Deny, networks) => networks.filter(|networks| !networks.is_empty()),
        };
        Some(ConnectionRule {
            name: name.clone(),
            action: *action,
            networks,
        })
    }

    /// Whether the policy refuses every connection for what it asks.
    pub(crate) fn refuses(&self) -> bool {
        !self.features.is_empty()
    }

    /// Why a policy of a TCPRoute is invalid, in Envoy Gateway's words; nothing if connections can answer all of it.
    pub(crate) fn faults(&self, kind: &str) -> Vec<Fault> {
        let fault = |path: String, why: String, message: String| Fault {
            feature: Feature::Whole,
            code: "unsupported-for-tcp",
            condition: format!("Invalid {kind} for TCP route: {why} ({path})"),
            path,
            message,
            fix: Some("remove it: until then connections of its TCPRoutes are refused".to_owned()),
        };
        let features = self.features.iter().map(|field| {
            fault(
                format!("spec.{field}"),
                "only authorization is supported for TCP (routes/listeners)".to_owned(),
                format!("{field} cannot be applied to connections"),
            )
        });
        let rules = self.rules.iter().flat_map(|RequestRule { index, asks, .. }| {
            asks.iter().map(move |(field, word)| {
                fault(
                    format!("spec.authorization.rules[{index}].{field}"),
                    format!("rule {index}: {word} not supported for TCP"),
                    "a connection has only its client's address".to_owned(),
                )
            })
        });
        features.chain(rules).collect()
    }

    /// What the author of a policy of a Gateway, a ListenerSet or a listener is told, where it covers TCPRoutes.
    pub(crate) fn notices(&self, baseline: bool) -> Vec<Notice> {
        let fix = if baseline {
            "remove it from the baseline, or serve TCPRoutes by another Gateway"
        } else {
            "give the TCPRoutes a policy of their own, with clientCIDRs alone"
        };
        if self.refuses() {
            let fields = self.features.join(", ");
            return vec![Notice {
                code: "connections-refused",
                path: format!("spec.{}", self.features.first().copied().unwrap_or_default()),
                message: format!("connections of TCPRoutes are refused: {fields} cannot be applied to them"),
                fix: fix.to_owned(),
                condition: Some((
                    "ConnectionsRefused",
                    format!(
                        "Connections of TCPRoutes that this policy covers are refused: {fields} cannot be applied to them"
                    ),
                )),
            }];
        }
        let told = |rule: &RequestRule| {
            let fields: Vec<&str> = rule.asks.iter().map(|(field, _)| *field).collect();
            let path = format!("spec.authorization.rules[{}]", rule.index);
            let effect = match (rule.action, rule.addressed) {
                (Action::Allow, _) => "allows no connection of a TCPRoute",
                (Action::Deny, true) => "denies every connection of a TCPRoute that its clientCIDRs fit",
                (Action::Deny, false) => "denies every connection of a TCPRoute",
            };
            let why = format!("{effect}: {} cannot be asked of it", fields.join(", "));
            Notice {
                code: "request-only-rule",
                message: format!("the rule {why}"),
                fix: fix.to_owned(),
                condition: Some(("ConnectionsRefused", format!("{path} {why}"))),
                path,
            }
        };
        self.rules.iter().map(told).collect()
    }
}

/// What the author of a TCPRoute's policy without `authorization` is told.
pub(crate) fn admits_all() -> Notice {
    let message = "without authorization the policy admits every connection of its TCPRoutes";
    Notice {
        code: "connections-admitted",
        path: "spec".to_owned(),
        message: message.to_owned(),
        fix: "write authorization, or remove the policy if one of the Gateway is to apply".to_owned(),
        condition: Some((
            "ConnectionsAdmitted",
            "Connections of TCPRoutes that this policy targets are all admitted: it has no authorization".to_owned(),
        )),
    }
}

/// What the author of a shadow that covers TCPRoutes is told.
pub(crate) fn not_evaluated() -> Notice {
    Notice {
        code: "shadow-of-connections",
        path: "spec.shadow".to_owned(),
        message: "it is not evaluated for connections of TCPRoutes".to_owned(),
        fix: "try it on a TCPRoute by enforcing it on a listener of another port".to_owned(),
        condition: Some((
            "NotEvaluated",
            "This policy is not evaluated for connections of TCPRoutes.".to_owned(),
        )),
    }
}

/// Why a shadow of a TCPRoute is invalid.
pub(crate) fn no_shadow(kind: &str) -> Fault {
    Fault {
        feature: Feature::Whole,
        code: "unsupported-for-tcp",
        path: "spec.shadow".to_owned(),
        message: "a shadow is not evaluated for connections".to_owned(),
        fix: Some("remove it, or enforce it".to_owned()),
        condition: format!("Invalid {kind} for TCP route: shadow is not supported for TCP (spec.shadow)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let network = parse_network(text).unwrap();
        Network {
            address: network.network(),
            length: network.prefix_len(),
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "255.1.1.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "10.0.0.1", false),
            ("::/0", "2001:db8::1", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("2001:db8::/33", "2001:db8:8000::", false),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
        ];
        for (written, address, expected) in cases {
            assert_eq!(
                network(written).contains(address.parse().unwrap()),
                expected,
                "{written} {address}"
            );
        }
    }

    /// The rules of a policy, each with the network that it names, and its default action.
    type Rules<'a> = (&'a [(Action, Option<&'a str>)], Action);

    fn admission(layers: &[Rules<'_>]) -> Admission {
        let layer = |(rules, default_action): &(&[(Action, Option<&str>)], Action)| Admitting {
            policy: "shop/p".to_owned(),
            rules: rules
                .iter()
                .map(|(action, networks)| ConnectionRule {
                    name: "r".to_owned(),
                    action: *action,
                    networks: networks.map(|networks| networks.split(' ').map(network).collect()),
                })
                .collect(),
            default_action: *default_action,
        };
        Admission {
            layers: layers.iter().map(layer).collect(),
            ..Admission::default()
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_every_layer_must_admit() {
        use Action::{Allow, Deny};
        let client = "10.0.0.1".parse().unwrap();
        let cases: [(&[Rules<'_>], bool); 8] = [
            (&[], true),
            (&[(&[], Deny)], false),
            (&[(&[], Allow)], true),
            (
                &[(&[(Deny, Some("10.0.0.1/32")), (Allow, Some("10.0.0.0/8"))], Allow)],
                false,
            ),
            (&[(&[(Allow, Some("10.0.0.0/8")), (Deny, None)], Allow)], true),
            (&[(&[(Deny, None), (Allow, Some("10.0.0.0/8"))], Allow)], false),
            (&[(&[(Allow, Some("10.0.0.0/8"))], Deny), (&[], Deny)], false),
            (
                &[(&[], Allow), (&[(Allow, Some("192.0.2.0/24 10.0.0.1/32"))], Deny)],
                true,
            ),
        ];
        for (layers, expected) in cases {
            assert_eq!(admission(layers).admits(client), expected, "{layers:?}");
            assert_eq!(
                admission(layers).admits("::ffff:10.0.0.1".parse().unwrap()),
                expected,
                "{layers:?}"
            );
        }
        let refusing = Admission {
            refuses: true,
            ..Admission::default()
        };
        assert!(!refusing.admits(client));
    }
}
