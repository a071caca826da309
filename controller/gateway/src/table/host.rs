//! One virtual host: the routes of a host in order, and each of their policies once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::Metadata,
            route::v3::{
                HeaderMatcher, RedirectAction, Route, RouteMatch, header_matcher::HeaderMatchSpecifier,
                redirect_action::SchemeRewriteSpecifier, route::Action, route_match::PathSpecifier,
            },
        },
        extensions::transport_sockets::tls::v3::GenericSecret,
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use portcullis_attachment::{effective::EffectivePolicy, memo::same};
use portcullis_engine::{
    document::Document,
    seal::{KEYS_NAMESPACE, METADATA_NAMESPACE, SECRETS_KEY_PREFIX},
};
use prost::{Message, bytes::Bytes};

use super::guard::Guards;
use crate::{
    chain::rechecked,
    key_servers::{KeySets, of_policy},
    route::{
        matches::{Match, Rank, regex},
        mirror::Withheld,
        rule::{Place, Rule, answer},
    },
    wire,
    xds::{any, inline},
};

/// What is left of an authority once a trailing dot is stripped: labels, or an IPv6 address, and perhaps a port.
///
/// Anything else never equals a host of the table but may end in one, so it would fall through to a wider virtual host; and where
/// hosts are compared, what stands in the place of a port is left out, whatever it is.
const AUTHORITY: &str = r"([0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?";

/// An authority with a port.
const WITH_PORT: &str = ".*:[0-9]+";

/// A rule as it is served on one listener.
#[derive(Clone)]
pub(crate) struct Served {
    /// The route's name with its kind: `httproute/namespace/name`.
    pub(crate) route: Arc<str>,
    /// The route's position among all routes, oldest first.
    pub(crate) age: usize,
    pub(crate) index: usize,
    pub(crate) rule: Arc<Rule>,
    pub(crate) policy: Option<Arc<EffectivePolicy>>,
    /// Whether it may get requests that were meant for a rule under another policy.
    pub(crate) shut: bool,
    pub(crate) place: Place,
}

impl Served {
    /// Whether it comes to the same routes in the same order, wherever its route stands among those of other hosts.
    fn is_alike(&self, other: &Self) -> bool {
        let Self {
            route,
            age: _,
            index,
            rule,
            policy,
            shut,
            place,
        } = self;
        let same_policy = match (policy, &other.policy) {
            (Some(one), Some(other)) => same(one, other),
            (None, None) => true,
            _ => false,
        };
        (route, index, shut, place) == (&other.route, &other.index, &other.shut, &other.place)
            && same_policy
            && same(rule, &other.rule)
    }
}

/// All that a virtual host is made from.
#[derive(Clone)]
pub(crate) struct Host {
    pub(super) served: Vec<Served>,
    /// The status where nothing matches.
    pub(super) fallback: u32,
    /// The policy of what no route serves.
    none: Arc<EffectivePolicy>,
    /// The key sets that its policies need, as far as they were fetched.
    keys: KeySets,
}

/// A virtual host as Envoy gets it.
pub(crate) struct VirtualHost {
    from: Host,
    pub(super) encoded: Bytes,
    /// The positions of rules whose requests are not copied, because a copy would hold a credential.
    uncopied: Vec<usize>,
}

impl VirtualHost {
    /// Whether `host` would come to the same; its rules stand in the order of their age.
    pub(super) fn is_of(&self, host: &Host) -> bool {
        let Host {
            served,
            fallback,
            none,
            keys,
        } = &self.from;
        let mut pairs = served.iter().zip(&host.served);
        *fallback == host.fallback
            && *keys == host.keys
            && same(none, &host.none)
            && served.len() == host.served.len()
            && pairs.all(|(one, other)| one.is_alike(other))
    }

    /// Rules of `host`, which it is of, whose requests are not copied: each route's age and the rule's index.
    pub(super) fn uncopied<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = (usize, usize)> + 'a {
        let served = self.uncopied.iter().filter_map(|position| host.served.get(*position));
        served.map(|served| (served.age, served.index))
    }
}

/// One route with its place in the order.
struct Entry<'a> {
    rank: Rank,
    /// A preflight comes after the routes that its author wrote.
    preflight: bool,
    /// The rule's place among those of the host, oldest first, and the match's among the rule's.
    order: (usize, i64),
    route: Route,
    policy: &'a EffectivePolicy,
}

/// What a virtual host needs to know about policies beyond their names, by hash.
#[derive(Default)]
pub(crate) struct Policies {
    known: HashMap<String, Arc<Known>>,
    /// Rules whose requests are not copied, because a copy would hold a credential: the route's position and the rule's.
    pub(crate) uncopied: BTreeSet<(usize, usize)>,
}

#[derive(Default)]
struct Known {
    /// Whether the filter answers preflights.
    cors: bool,
    /// Whether its tokens may send requests to another route.
    recomputes: bool,
    withheld: Withheld,
}

impl Policies {
    fn know(&mut self, policy: &EffectivePolicy) -> Arc<Known> {
        if let Some(known) = self.known.get(&policy.hash) {
            return Arc::clone(known);
        }
        let document = serde_json::from_str::<Document>(&policy.document).ok();
        let known = Arc::new(Known {
            cors: !policy.refuses && document.as_ref().is_some_and(|document| document.cors.is_some()),
            recomputes: !policy.refuses && document.as_ref().is_some_and(recomputes),
            withheld: Withheld::of(document.as_ref()),
        });
        self.known.insert(policy.hash.clone(), Arc::clone(&known));
        known
    }
}

/// Whether tokens of a policy may send requests to another route.
fn recomputes(document: &Document) -> bool {
    let documents = [Some(document), document.baseline.as_deref()];
    let mut providers = documents
        .into_iter()
        .flatten()
        .filter_map(|document| document.jwt.as_ref())
        .flat_map(|jwt| &jwt.providers);
    providers.any(|provider| provider.recompute_route)
}

impl Host {
    pub(super) fn new(fallback: u32, none: Arc<EffectivePolicy>) -> Self {
        Self {
            served: Vec::new(),
            fallback,
            none,
            keys: KeySets::new(),
        }
    }

    /// Sends along what was fetched for its policies.
    pub(super) fn ship(&mut self, fetched: &KeySets) {
        if fetched.is_empty() {
            return;
        }
        let policies = self.served.iter().filter_map(|served| served.policy.as_deref());
        self.keys = policies.flat_map(|policy| of_policy(policy, fetched)).collect();
    }

    /// Routes in order, then the answer where none matches; each policy's body once.
    pub(super) fn build(&self, host: &str, known: &mut Policies) -> VirtualHost {
        let guards = Guards::of(&self.served);
        // A request may come to any rule with the credentials that the policy before asked for.
        let policies = self.served.iter().filter_map(|served| served.policy.as_deref());
        let recomputing = policies
            .map(|policy| known.know(policy))
            .filter(|policy| policy.recomputes);
        let carried: Vec<Arc<Known>> = recomputing.collect();
        let mut uncopied = Vec::new();
        let mut entries = Vec::new();
        let mut place = 0;
        let mut before: Option<&Served> = None;
        for (position, served) in self.served.iter().enumerate() {
            // One rule may be served twice, by two listeners.
            let again = before.is_some_and(|before| (before.age, before.index) == (served.age, served.index));
            place += usize::from(!again);
            before = Some(served);
            let before = entries.len();
            if self.enter(host, served, place, (known, &carried), &mut entries) {
                uncopied.push(position);
            }
            for entry in entries.iter_mut().skip(before).filter(|_| !guards.is_empty()) {
                if let Some(condition) = &mut entry.route.r#match {
                    guards.guard(served, condition);
                    if guards.shuts(served, condition) {
                        entry.route.action = Some(answer(500));
                    }
                }
            }
        }
        entries.sort_by_key(|entry| (entry.rank, entry.preflight, entry.order));
        let none = self.none.as_ref();
        let mut policies: BTreeMap<&str, &EffectivePolicy> = BTreeMap::from([(none.hash.as_str(), none)]);
        let mut routes = Vec::with_capacity(entries.len() + 2);
        routes.push(refuse_authority(none).encode_to_vec());
        for entry in &entries {
            policies.insert(&entry.policy.hash, entry.policy);
            routes.push(entry.route.encode_to_vec());
        }
        routes.push(fallback(none, self.fallback).encode_to_vec());
        let message = wire::VirtualHost {
            name: host.to_owned(),
            domains: vec![host.to_owned()],
            routes,
            metadata: Some(host_metadata(policies.values().copied(), &self.keys)),
        };
        VirtualHost {
            from: self.clone(),
            encoded: message.encode_to_vec().into(),
            uncopied,
        }
    }

    /// Adds every match of a rule, and tells whether its requests go uncopied.
    fn enter<'a>(
        &'a self,
        host: &str,
        served: &'a Served,
        place: usize,
        (policies, carried): (&mut Policies, &[Arc<Known>]),
        entries: &mut Vec<Entry<'a>>,
    ) -> bool {
        // A place without a policy is a fault of ours: it stays shut.
        let (policy, shut) = match &served.policy {
            // So does one whose CORS filter nobody would answer for.
            Some(policy) => {
                let unanswered = served.rule.cors && !policies.know(policy).cors;
                (policy, policy.refuses || served.shut || unanswered)
            }
            None => (&self.none, true),
        };
        let known = policies.know(policy);
        let withheld = carried
            .iter()
            .fold(known.withheld.clone(), |all, before| all.and(&before.withheld));
        for matched in &served.rule.matches {
            let name = route_name(served, matched, host);
            let order = (place, matched.index);
            let mut route = if shut {
                Route {
                    action: Some(answer(500)),
                    ..Route::default()
                }
            } else {
                served.rule.route(matched, served.place, &withheld)
            };
            route.r#match = Some(matched.condition());
            route.metadata = Some(route_metadata(policy));
            if known.recomputes {
                route.typed_per_filter_config = rechecked();
            }
            if let Some(condition) = matched.preflight().filter(|_| known.cors) {
                entries.push(Entry {
                    rank: matched.rank,
                    preflight: true,
                    order,
                    route: Route {
                        name: format!("{name}/preflight"),
                        r#match: Some(condition),
                        action: Some(answer(404)),
                        metadata: route.metadata.clone(),
                        ..Route::default()
                    },
                    policy,
                });
            }
            if let Some(told) = tell_port(&route, &name, served.place) {
                // In front of the other one, which would take its requests too.
                entries.push(Entry {
                    rank: matched.rank,
                    preflight: false,
                    order,
                    route: told,
                    policy,
                });
            }
            route.name = name;
            entries.push(Entry {
                rank: matched.rank,
                preflight: false,
                order,
                route,
                policy,
            });
        }
        served.rule.copies() && withheld.everything()
    }
}

fn route_name(served: &Served, matched: &Match, host: &str) -> String {
    let host = host.replace('.', "_");
    format!("{}/rule/{}/match/{}/{host}", served.route, served.index, matched.index)
}

/// The route of everything that no other matches.
pub(crate) fn fallback(none: &EffectivePolicy, status: u32) -> Route {
    Route {
        name: format!("status/{status}"),
        r#match: Some(everything()),
        action: Some(answer(status)),
        metadata: Some(route_metadata(none)),
        ..Route::default()
    }
}

pub(crate) fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix(String::new())),
        ..RouteMatch::default()
    }
}

fn refuse_authority(none: &EffectivePolicy) -> Route {
    let mut route = fallback(none, 400);
    route.r#match = Some(RouteMatch {
        headers: vec![HeaderMatcher {
            invert_match: true,
            ..authority(AUTHORITY)
        }],
        ..everything()
    });
    route
}

fn authority(pattern: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: ":authority".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex(pattern))),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    }
}

/// Of a redirect that leaves out the port, because its scheme implies it: the route for requests whose host has a port, which Envoy
/// would leave in.
fn tell_port(route: &Route, name: &str, place: Place) -> Option<Route> {
    let Some(Action::Redirect(redirect)) = &route.action else {
        return None;
    };
    if redirect.port_redirect != 0 || !redirect.host_redirect.is_empty() {
        return None;
    }
    let https = match &redirect.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => scheme == "https",
        _ => place.https,
    };
    let mut told = route.clone();
    told.name = format!("{name}/port");
    told.action = Some(Action::Redirect(RedirectAction {
        port_redirect: if https { 443 } else { 80 },
        ..redirect.clone()
    }));
    told.r#match.as_mut()?.headers.push(authority(WITH_PORT));
    Some(told)
}

fn route_metadata(policy: &EffectivePolicy) -> Metadata {
    let hash = Value {
        kind: Some(Kind::StringValue(policy.hash.clone())),
    };
    let fields = Struct {
        fields: HashMap::from([("h".to_owned(), hash)]),
    };
    Metadata {
        filter_metadata: HashMap::from([(METADATA_NAMESPACE.to_owned(), fields)]),
        ..Metadata::default()
    }
}

fn host_metadata<'a>(policies: impl Iterator<Item = &'a EffectivePolicy>, keys: &KeySets) -> wire::Metadata {
    let mut documents = Vec::new();
    let mut secrets = BTreeMap::new();
    for policy in policies {
        documents.push((policy.hash.clone(), policy.document.clone()));
        let secret = GenericSecret {
            secret: inline(policy.secrets.clone().into_bytes()),
            ..GenericSecret::default()
        };
        secrets.insert(format!("{SECRETS_KEY_PREFIX}{}", policy.hash), any(&secret));
    }
    let mut filter_metadata = BTreeMap::from([(METADATA_NAMESPACE.to_owned(), wire::Struct::of(documents))]);
    if !keys.is_empty() {
        let keys = keys
            .iter()
            .map(|(id, keys)| (id.clone(), format!("{}\n{}", keys.fetched, keys.jwks)));
        filter_metadata.insert(KEYS_NAMESPACE.to_owned(), wire::Struct::of(keys));
    }
    wire::Metadata {
        filter_metadata,
        typed_filter_metadata: secrets,
    }
}
