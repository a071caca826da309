//! Route tables: which policy and which rule a request gets, by host and path. Every route carries a policy.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::Metadata,
            route::v3::{
                HeaderMatcher, Route, RouteMatch, header_matcher::HeaderMatchSpecifier, route_match::PathSpecifier,
            },
        },
        extensions::transport_sockets::tls::v3::GenericSecret,
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use portcullis_attachment::{effective::EffectivePolicy, hostname};
use portcullis_engine::{
    document::Document,
    seal::{METADATA_NAMESPACE, SECRETS_KEY_PREFIX},
};
use prost::Message;

use crate::{
    Resource,
    resource::ROUTE_CONFIGURATION,
    route::{
        matches::{Match, Rank, regex},
        mirror::Withheld,
        rule::{Place, Rule, answer},
    },
    wire,
    xds::{any, inline, no},
};

/// What is left of an authority once the port and a trailing dot are stripped: labels, or an IPv6 address.
///
/// Anything else never equals a host of the table but may end in one, so it would fall through to a wider virtual host.
const AUTHORITY: &str = r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*|\[[0-9A-Fa-f:.]+\]";

/// One route table in the making.
pub(crate) struct Table {
    name: String,
    none: Arc<EffectivePolicy>,
    hosts: BTreeMap<String, Host>,
}

struct Host {
    entries: Vec<Entry>,
    /// The status where nothing matches.
    fallback: u32,
}

/// One route with its place in the order.
struct Entry {
    rank: Rank,
    /// A preflight comes after the routes that its author wrote.
    preflight: bool,
    order: (usize, usize, i64),
    route: Route,
    policy: Arc<EffectivePolicy>,
}

/// A rule as it is served on one listener.
pub(crate) struct Served<'a> {
    /// The route's name with its kind: `httproute/namespace/name`.
    pub(crate) route: &'a str,
    /// The route's position among all routes, oldest first.
    pub(crate) age: usize,
    pub(crate) index: usize,
    pub(crate) rule: &'a Rule,
    pub(crate) policy: Option<&'a Arc<EffectivePolicy>>,
    /// Whether it may get requests that were meant for a rule under another policy.
    pub(crate) shut: bool,
    pub(crate) place: Place,
}

/// What the table needs to know about policies beyond their names, by hash.
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
            withheld: Withheld::of(document.as_ref()),
        });
        self.known.insert(policy.hash.clone(), Arc::clone(&known));
        known
    }
}

impl Table {
    /// Starts a table; `none` is the policy of what no route serves.
    pub(crate) fn new(name: String, none: Arc<EffectivePolicy>) -> Self {
        let mut table = Self {
            name,
            none,
            hosts: BTreeMap::new(),
        };
        table.reserve(hostname::ANY, 404);
        table
    }

    /// Gives a host a virtual host of its own that answers `status` where no route matches.
    pub(crate) fn reserve(&mut self, host: &str, status: u32) {
        self.hosts
            .entry(host.to_owned())
            .or_insert_with(|| Host {
                entries: Vec::new(),
                fallback: status,
            })
            .fallback = status;
    }

    /// Adds every match of a rule under a host.
    pub(crate) fn add(&mut self, host: &str, served: &Served<'_>, policies: &mut Policies) {
        let entries = &mut self
            .hosts
            .entry(host.to_owned())
            .or_insert_with(|| Host {
                entries: Vec::new(),
                fallback: 404,
            })
            .entries;
        // A place without a policy is a fault of ours: it stays shut.
        let (policy, shut) = match served.policy {
            // So does one whose CORS filter nobody would answer for.
            Some(policy) => {
                let unanswered = served.rule.cors && !policies.know(policy).cors;
                (policy, policy.refuses || served.shut || unanswered)
            }
            None => (&self.none, true),
        };
        let known = policies.know(policy);
        if served.rule.copies() && known.withheld.everything() {
            policies.uncopied.insert((served.age, served.index));
        }
        for matched in &served.rule.matches {
            let name = route_name(served, matched, host);
            let order = (served.age, served.index, matched.index);
            let mut route = if shut {
                Route {
                    action: Some(answer(500)),
                    ..Route::default()
                }
            } else {
                served.rule.route(matched, served.place, &known.withheld)
            };
            route.r#match = Some(matched.condition());
            route.metadata = Some(route_metadata(policy));
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
                    policy: Arc::clone(policy),
                });
            }
            route.name = name;
            entries.push(Entry {
                rank: matched.rank,
                preflight: false,
                order,
                route,
                policy: Arc::clone(policy),
            });
        }
    }

    /// Finishes the table: routes in order, then the answer where none matches; each policy's body once per virtual host.
    pub(crate) fn finish(self) -> Resource {
        let none = &self.none;
        let virtual_hosts = self.hosts.into_iter().map(|(host, content)| content.finish(host, none));
        let table = wire::RouteTable {
            name: self.name,
            virtual_hosts: virtual_hosts.collect(),
            // A backend that is not there is answered for by the route.
            validate_clusters: no(),
        };
        Resource {
            type_url: ROUTE_CONFIGURATION,
            body: table.encode_to_vec(),
            name: table.name,
        }
    }
}

impl Host {
    fn finish(mut self, host: String, none: &Arc<EffectivePolicy>) -> wire::VirtualHost {
        self.entries
            .sort_by_key(|entry| (entry.rank, entry.preflight, entry.order));
        let mut policies: BTreeMap<&str, &EffectivePolicy> = BTreeMap::from([(none.hash.as_str(), none.as_ref())]);
        let mut routes = Vec::with_capacity(self.entries.len() + 2);
        if host.starts_with('*') {
            routes.push(refuse_authority(none).encode_to_vec());
        }
        for entry in &self.entries {
            policies.insert(&entry.policy.hash, &entry.policy);
            routes.push(entry.route.encode_to_vec());
        }
        routes.push(fallback(none, self.fallback).encode_to_vec());
        wire::VirtualHost {
            name: host.clone(),
            domains: vec![host],
            routes,
            metadata: Some(host_metadata(policies.values().copied())),
        }
    }
}

fn route_name(served: &Served<'_>, matched: &Match, host: &str) -> String {
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

/// Only virtual hosts of wildcards need it: the others are reached by equality alone.
fn refuse_authority(none: &EffectivePolicy) -> Route {
    let mut route = fallback(none, 400);
    let other = HeaderMatcher {
        name: ":authority".to_owned(),
        invert_match: true,
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(regex(AUTHORITY))),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    };
    route.r#match = Some(RouteMatch {
        headers: vec![other],
        ..everything()
    });
    route
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

fn host_metadata<'a>(policies: impl Iterator<Item = &'a EffectivePolicy>) -> wire::Metadata {
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
    wire::Metadata {
        filter_metadata: BTreeMap::from([(METADATA_NAMESPACE.to_owned(), wire::Struct::of(documents))]),
        typed_filter_metadata: secrets,
    }
}
