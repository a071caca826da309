//! Policies in any combination, against a model that goes through all of them for every place.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use portcullis_attachment::{
    effective::{EffectivePolicy, Place},
    object::ObjectRef,
};
use proptest::prelude::*;

use crate::world::{self, World};

/// Two Gateways, a ListenerSet, four routes of both kinds, named and unnamed rules.
const OBJECTS: &str = r#"
kind: Gateway
metadata: {namespace: team, name: public}
spec:
  gatewayClassName: portcullis
  allowedListeners: {namespaces: {from: Same}}
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
---
kind: ListenerSet
metadata: {namespace: team, name: extra}
spec:
  parentRef: {name: public}
  listeners: [{name: http, port: 90, protocol: HTTP}, {name: alt, port: 91, protocol: HTTP}]
---
kind: GRPCRoute
metadata: {namespace: team, name: calls}
spec:
  parentRefs: [{kind: ListenerSet, name: extra}]
  rules: [{name: one}, {}]
"#;

const ROUTES: [(&str, &[&str]); 4] = [
    ("both", &["one", "two", ""]),
    ("alt", &["one", "one"]),
    ("plain", &[""]),
    ("calls", &["one", ""]),
];

/// Kind, name and section of everything that can be aimed at, hit or miss.
const TARGETS: [(&str, &str, &str); 22] = [
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
    ("ListenerSet", "extra", ""),
    ("ListenerSet", "extra", "http"),
    ("ListenerSet", "extra", "missing"),
    ("GRPCRoute", "calls", ""),
    ("GRPCRoute", "calls", "one"),
    ("GRPCRoute", "calls", "missing"),
];

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    day: u8,
    targets: Vec<usize>,
    body: Body,
    role: Role,
}

/// How a policy bears on the requests of its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Enforced,
    Baseline,
    Shadow,
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
        } else if self.role == Role::Enforced {
            "SecurityPolicy"
        } else {
            "AccessPolicy"
        };
        let role = match self.role {
            Role::Enforced => "",
            Role::Baseline => "baseline: true",
            Role::Shadow => "shadow: true",
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
            Body::Unsupported => ", extAuth: {http: {backendRefs: [{name: auth, port: 80}]}}".to_owned(),
            Body::Broken => {
                let of = if role.is_empty() { "" } else { "of: AccessPolicy" };
                writeln!(text, "message: wrong\ntargets: [{targets}]\n{of}\n{role}").unwrap();
                return;
            }
        };
        let role = if role.is_empty() {
            String::new()
        } else {
            format!(", {role}")
        };
        writeln!(text, "spec: {{targetRefs: [{targets}]{body}{role}}}").unwrap();
    }

    /// A baseline can only be one of a whole Gateway.
    fn is_whole(&self) -> bool {
        let elsewhere = self.targets.iter().any(|target| !is_gateway(&TARGETS[*target]));
        matches!(self.body, Body::Empty | Body::Whole) && !(self.role == Role::Baseline && elsewhere)
    }

    fn aims_at(&self, role: Role, aims: impl Fn(&(&str, &str, &str)) -> bool) -> bool {
        self.targets.iter().map(|target| &TARGETS[*target]).any(|target| {
            let astray = self.role == Role::Baseline && !is_gateway(target);
            let acts_as = if astray { Role::Enforced } else { self.role };
            acts_as == role && aims(target)
        })
    }
}

fn is_gateway((kind, _, section): &(&str, &str, &str)) -> bool {
    *kind == "Gateway" && section.is_empty()
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let body = prop_oneof![
        1 => Just(Body::Empty),
        4 => Just(Body::Whole),
        1 => Just(Body::BadCidr),
        1 => Just(Body::Unsupported),
        1 => Just(Body::Broken),
    ];
    let role = prop_oneof![4 => Just(Role::Enforced), 2 => Just(Role::Baseline), 2 => Just(Role::Shadow)];
    // Three kinds of baselines out of four are to be such as can be whole.
    let anywhere = prop::collection::vec(0..TARGETS.len(), 1..4);
    let policy = (1..4u8, anywhere, body, role, 0..4u8).prop_map(|(day, targets, body, role, astray)| {
        let on_gateways = role == Role::Baseline && astray > 0;
        let targets = if on_gateways {
            targets.into_iter().map(|target| target % 2).collect()
        } else {
            targets
        };
        (day, targets, body, role)
    });
    prop::collection::vec(policy, 0..7).prop_map(|policies| {
        policies
            .into_iter()
            .enumerate()
            .map(|(index, (day, targets, body, role))| Policy {
                // Names run against the order of the list.
                name: format!("p{}", 9 - index),
                day,
                targets,
                body,
                role,
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

/// What a place's policy is made of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    /// In whose name the place answers.
    policy: String,
    refuses: bool,
    /// Only where nothing is refused.
    baseline: Option<String>,
    shadow: Option<String>,
}

impl Made {
    fn of(policy: &EffectivePolicy) -> Self {
        let part = |part: &Option<ObjectRef>| {
            let part = part.as_ref().filter(|_| !policy.refuses);
            part.map(|part| format!("{}/{}", part.namespace, part.name))
        };
        Self {
            policy: policy.policy.clone(),
            refuses: policy.refuses,
            baseline: part(&policy.baseline),
            shadow: part(&policy.shadow),
        }
    }
}

/// The same by going through all policies.
fn model(policies: &[Policy], place: &Place) -> Made {
    let at = &place.listener;
    let listener = at.listener.as_str();
    let route = (place.route.kind, place.route.name.as_str());
    let (_, rules) = ROUTES.iter().find(|(name, _)| *name == route.1).unwrap();
    let rule = rules[place.rule];
    let gateway = ("Gateway", at.gateway.as_str());
    let parent = at
        .set
        .as_ref()
        .map_or(gateway, |set| ("ListenerSet", set.name.as_str()));
    let listeners: &[&str] = if parent.1 == "internal" {
        &["http"]
    } else {
        &["http", "alt"]
    };
    let mut by_age: Vec<&Policy> = policies.iter().collect();
    // A SecurityPolicy comes before an AccessPolicy only where all else is equal, which names never are.
    by_age.sort_by_key(|policy| (policy.day, policy.name.clone()));
    let aiming = |role: Role, aims: &dyn Fn(&(&str, &str, &str)) -> bool| -> Vec<&Policy> {
        by_age
            .iter()
            .copied()
            .filter(|policy| policy.aims_at(role, aims))
            .collect()
    };
    let levels = |role: Role| {
        let on = |(kind, name): (&str, &str), section: &str| aiming(role, &|target| *target == (kind, name, section));
        let lost = |(kind, name): (&str, &str), sections: &[&str]| {
            aiming(role, &|(of, named, section)| {
                *of == kind && *named == name && !section.is_empty() && !sections.contains(section)
            })
        };
        let of_rule = if rule.is_empty() { Vec::new() } else { on(route, rule) };
        [
            (of_rule, false),
            (lost(route, rules), true),
            (on(route, ""), false),
            (on(parent, listener), false),
            (lost(parent, listeners), true),
            (on(parent, ""), false),
            (on(gateway, ""), false),
        ]
    };
    let named = |policy: &Policy| format!("team/{}", policy.name);
    let mut made = Made {
        policy: "none".to_owned(),
        ..Made::default()
    };
    if let Some((aiming, lost)) = levels(Role::Enforced)
        .into_iter()
        .find(|(aiming, _)| !aiming.is_empty())
    {
        made.policy = named(aiming[0]);
        made.refuses = lost || aiming.len() > 1 || !aiming[0].is_whole();
    }
    let baselines = aiming(Role::Baseline, &|target| *target == (gateway.0, gateway.1, ""));
    if let Some(oldest) = baselines.first().filter(|_| !made.refuses) {
        if baselines.len() > 1 || !oldest.is_whole() {
            made.policy = named(oldest);
            made.refuses = true;
        } else {
            made.baseline = Some(named(oldest));
        }
    }
    let shadows = levels(Role::Shadow).into_iter().filter(|(_, lost)| !lost);
    if let Some((shadows, _)) = shadows.into_iter().find(|(aiming, _)| !aiming.is_empty())
        && !made.refuses
    {
        made.shadow = shadows
            .first()
            .filter(|shadow| shadow.is_whole())
            .map(|shadow| named(shadow));
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn every_place_has_the_policy_of_the_model(policies in policies()) {
        let attached = attach(&policies);
        prop_assert_eq!(attached.len(), 3 * 3 + 2 + 2 + 2 * 2);
        for (place, policy) in attached {
            prop_assert_eq!(Made::of(&policy), model(&policies, &place), "{:?}", place);
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
            let (is, was) = (Made::of(policy), Made::of(had));
            match added.role {
                // It only adds what is evaluated beside.
                Role::Shadow => {
                    prop_assert_eq!(Made { shadow: None, ..is }, Made { shadow: None, ..was }, "{:?}", place);
                }
                _ if is.refuses => {}
                Role::Baseline => {
                    prop_assert_eq!(is.policy, was.policy, "{:?}", place);
                    prop_assert!(!was.refuses && is.baseline.is_some(), "{:?}", place);
                }
                Role::Enforced => {
                    prop_assert!(added.is_whole() && is.policy == format!("team/{}", added.name), "{:?}", place);
                    prop_assert!(was.refuses || is.baseline == was.baseline, "{:?}", place);
                }
            }
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
        snapshot.access_policies.reverse();
        snapshot.grpc_routes.reverse();
        snapshot.listener_sets.reverse();
        snapshot.broken_policies.reverse();
        snapshot.http_routes.reverse();
        snapshot.gateways.reverse();
        prop_assert_eq!(one, World::new(&snapshot).describe());
    }
}
