//! Policies in any combination, against a model that goes through all of them for every place.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use portcullis_attachment::effective::{EffectivePolicy, Place};
use proptest::prelude::*;

use crate::world::{self, World};

/// Two Gateways, three routes, named and unnamed rules.
const OBJECTS: &str = r#"
kind: Gateway
metadata: {namespace: team, name: public}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: alt, port: 81, protocol: HTTP}]
---
kind: Gateway
metadata: {namespace: team, name: internal}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
kind: HTTPRoute
metadata: {namespace: team, name: both}
spec:
  parentRefs: [{name: public}, {name: internal}]
  rules: [{name: one}, {name: two}, {}]
---
kind: HTTPRoute
metadata: {namespace: team, name: alt}
spec:
  parentRefs: [{name: public, sectionName: alt}]
  rules: [{name: one}, {name: one}]
---
kind: HTTPRoute
metadata: {namespace: team, name: plain}
spec:
  parentRefs: [{name: public}]
"#;

const ROUTES: [(&str, &[&str]); 3] = [
    ("both", &["one", "two", ""]),
    ("alt", &["one", "one"]),
    ("plain", &[""]),
];

/// Kind, name and section of everything that can be aimed at, hit or miss.
const TARGETS: [(&str, &str, &str); 16] = [
    ("Gateway", "public", ""),
    ("Gateway", "internal", ""),
    ("Gateway", "missing", ""),
    ("Gateway", "public", "http"),
    ("Gateway", "public", "alt"),
    ("Gateway", "public", "missing"),
    ("Gateway", "internal", "alt"),
    ("HTTPRoute", "both", ""),
    ("HTTPRoute", "alt", ""),
    ("HTTPRoute", "plain", ""),
    ("HTTPRoute", "missing", ""),
    ("HTTPRoute", "both", "one"),
    ("HTTPRoute", "both", "two"),
    ("HTTPRoute", "both", "missing"),
    ("HTTPRoute", "alt", "one"),
    ("HTTPRoute", "plain", "one"),
];

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    day: u8,
    targets: Vec<usize>,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Empty,
    Whole,
    BadCidr,
    Unsupported,
    Broken,
}

impl Policy {
    fn write(&self, text: &mut String) {
        let kind = if self.body == Body::Broken {
            "Broken"
        } else {
            "SecurityPolicy"
        };
        let created = format!("2026-01-{:02}T00:00:00Z", self.day);
        write!(
            text,
            "---\nkind: {kind}\nmetadata: {{namespace: team, name: {}, creationTimestamp: \"{created}\"}}\n",
            self.name
        )
        .unwrap();
        let targets: Vec<String> = self
            .targets
            .iter()
            .map(|target| {
                let (kind, name, section) = TARGETS[*target];
                let section = if section.is_empty() {
                    String::new()
                } else {
                    format!(", sectionName: {section}")
                };
                format!("{{group: gateway.networking.k8s.io, kind: {kind}, name: {name}{section}}}")
            })
            .collect();
        let targets = targets.join(", ");
        let rule = |cidr: &str| format!("{{rules: [{{action: Allow, principal: {{clientCIDRs: [{cidr}]}}}}]}}");
        let body = match self.body {
            Body::Empty => String::new(),
            Body::Whole => format!(", authorization: {}", rule("10.0.0.0/8")),
            Body::BadCidr => format!(", authorization: {}", rule("10.0.0/8")),
            Body::Unsupported => ", jwt: {providers: []}".to_owned(),
            Body::Broken => {
                writeln!(text, "message: wrong\ntargets: [{targets}]").unwrap();
                return;
            }
        };
        writeln!(text, "spec: {{targetRefs: [{targets}]{body}}}").unwrap();
    }

    fn is_whole(&self) -> bool {
        matches!(self.body, Body::Empty | Body::Whole)
    }

    fn aims_at(&self, aims: impl Fn(&(&str, &str, &str)) -> bool) -> bool {
        self.targets.iter().any(|target| aims(&TARGETS[*target]))
    }
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let body = prop_oneof![
        1 => Just(Body::Empty),
        4 => Just(Body::Whole),
        1 => Just(Body::BadCidr),
        1 => Just(Body::Unsupported),
        1 => Just(Body::Broken),
    ];
    let policy = (1..4u8, prop::collection::vec(0..TARGETS.len(), 1..4), body);
    prop::collection::vec(policy, 0..7).prop_map(|policies| {
        policies
            .into_iter()
            .enumerate()
            .map(|(index, (day, targets, body))| Policy {
                // Names run against the order of the list.
                name: format!("p{}", 9 - index),
                day,
                targets,
                body,
            })
            .collect()
    })
}

type Policies = BTreeMap<Place, Arc<EffectivePolicy>>;

fn attach(policies: &[Policy]) -> Policies {
    let mut text = OBJECTS.to_owned();
    for policy in policies {
        policy.write(&mut text);
    }
    World::parse(&text).attachment.policies
}

/// The name of a place's policy, and whether it refuses: by going through all policies.
fn model(policies: &[Policy], place: &Place) -> (String, bool) {
    let (gateway, listener) = (place.listener.gateway.as_str(), place.listener.listener.as_str());
    let route = place.route.name.as_str();
    let (_, rules) = ROUTES.iter().find(|(name, _)| *name == route).unwrap();
    let rule = rules[place.rule];
    let listeners: &[&str] = if gateway == "public" {
        &["http", "alt"]
    } else {
        &["http"]
    };
    let mut by_age: Vec<&Policy> = policies.iter().collect();
    by_age.sort_by_key(|policy| (policy.day, policy.name.clone()));
    let aiming = |aims: &dyn Fn(&(&str, &str, &str)) -> bool| -> Vec<&Policy> {
        by_age.iter().copied().filter(|policy| policy.aims_at(aims)).collect()
    };
    let levels = [
        (
            aiming(&|target| !rule.is_empty() && *target == ("HTTPRoute", route, rule)),
            false,
        ),
        (
            aiming(&|(kind, name, section)| {
                *kind == "HTTPRoute" && *name == route && !section.is_empty() && !rules.contains(section)
            }),
            true,
        ),
        (aiming(&|target| *target == ("HTTPRoute", route, "")), false),
        (aiming(&|target| *target == ("Gateway", gateway, listener)), false),
        (
            aiming(&|(kind, name, section)| {
                *kind == "Gateway" && *name == gateway && !section.is_empty() && !listeners.contains(section)
            }),
            true,
        ),
        (aiming(&|target| *target == ("Gateway", gateway, "")), false),
    ];
    for (aiming, lost) in levels {
        if let Some(oldest) = aiming.first() {
            let refuses = lost || aiming.len() > 1 || !oldest.is_whole();
            return (format!("team/{}", oldest.name), refuses);
        }
    }
    ("none".to_owned(), false)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn every_place_has_the_policy_of_the_model(policies in policies()) {
        let attached = attach(&policies);
        prop_assert_eq!(attached.len(), 3 * 3 + 2 + 2);
        for (place, policy) in attached {
            prop_assert_eq!((policy.policy.clone(), policy.refuses), model(&policies, &place), "{:?}", place);
        }
    }

    #[test]
    fn another_policy_opens_nothing(policies in policies()) {
        let Some((added, before)) = policies.split_last() else { return Ok(()) };
        let before = attach(before);
        let after = attach(&policies);
        for (place, policy) in &after {
            let had = &before[place];
            if policy == had {
                continue;
            }
            prop_assert_ne!(&policy.policy, "none", "{:?} was covered", place);
            let is_added = added.is_whole() && policy.policy == format!("team/{}", added.name);
            prop_assert!(policy.refuses || is_added, "{:?} went from {} to {}", place, had.policy, policy.policy);
        }
    }

    #[test]
    fn the_order_of_objects_has_no_meaning(policies in policies()) {
        let mut text = OBJECTS.to_owned();
        for policy in &policies {
            policy.write(&mut text);
        }
        let mut snapshot = world::parse(&text);
        let one = World::new(&snapshot).describe();
        snapshot.security_policies.reverse();
        snapshot.broken_policies.reverse();
        snapshot.http_routes.reverse();
        snapshot.gateways.reverse();
        prop_assert_eq!(one, World::new(&snapshot).describe());
    }
}
