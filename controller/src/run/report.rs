//! One line for each listener and each policy: what it is and whether it holds. Pure, but for the last function.

mod reporter;

use std::collections::{BTreeMap, BTreeSet};

use portcullis_attachment::{
    effective::Attachment,
    object::ObjectRef,
    status::{ConditionStatus, ObjectStatus, Scope},
};
use portcullis_gateway::BoundPort;
use serde::{Deserialize, Serialize};

pub(crate) use self::reporter::Reporter;
use crate::{
    cli::Output,
    failure::Failure,
    load::Evaluation,
    print::{self, Style, Tone},
};

/// How far a Gateway's listeners and route tables have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Delivery {
    /// No proxy is connected, and none is being started.
    NoProxies,
    /// On its way.
    Pending,
    /// Every connected proxy holds it.
    Acknowledged,
    /// A proxy keeps what it had, for this reason.
    Rejected(String),
    /// A proxy runs a filter that cannot decode it.
    FilterTooOld,
}

impl Delivery {
    /// The worst first.
    pub(crate) const fn badness(&self) -> u8 {
        match self {
            Self::Rejected(_) => 0,
            Self::FilterTooOld => 1,
            Self::Pending => 2,
            Self::Acknowledged => 3,
            Self::NoProxies => 4,
        }
    }
}

/// What is known beside the manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deliveries {
    /// By Gateway.
    pub(crate) gateways: BTreeMap<String, Delivery>,
    /// Policies whose virtual hosts a proxy rejected and that therefore answer 500, with the reason.
    pub(crate) quarantined: BTreeMap<String, String>,
    /// Policies that are in force with keys that cannot be fetched anew, with the reason.
    pub(crate) degraded: BTreeMap<ObjectRef, String>,
}

impl Deliveries {
    /// The worst of some Gateways' deliveries.
    pub(crate) fn of<'a>(&self, gateways: impl Iterator<Item = &'a str>) -> Delivery {
        let mut all = gateways
            .filter_map(|gateway| self.gateways.get(gateway))
            .collect::<Vec<_>>();
        // Whatever another Gateway's proxies hold, one without proxies enforces nothing.
        all.sort_by_key(|delivery| match delivery {
            Delivery::NoProxies => 3,
            Delivery::Acknowledged => 4,
            worse => worse.badness(),
        });
        all.first().map_or(Delivery::NoProxies, |delivery| (*delivery).clone())
    }
}

/// What a line is about; also its place among the lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Subject {
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Listener,
    Policy,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Policy => "policy",
        }
    }
}

/// The state that a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Every proxy has the listener.
    Serving,
    /// Every proxy has the policy.
    Enforced,
    /// Every proxy has the policy and evaluates it, and it changes nothing (`spec.shadow`).
    Shadow,
    /// Every proxy has the policy, and something that it needs is not to be had.
    Degraded,
    /// On its way to the proxies.
    Pending,
    /// No proxy is connected.
    NoProxies,
    /// The manifests do not hold together.
    Refused,
    /// A proxy refused it.
    Rejected,
    /// More specific policies cover everything that it targets.
    Overridden,
    /// It covers no route.
    Unused,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Enforced => "enforced",
            Self::Shadow => "shadow",
            Self::Degraded => "degraded",
            Self::Pending => "pending",
            Self::NoProxies => "no-proxies",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Overridden => "overridden",
            Self::Unused => "unused",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Serving | Self::Enforced | Self::Shadow => Tone::Good,
            Self::Degraded | Self::Pending | Self::NoProxies | Self::Overridden | Self::Unused => Tone::Warning,
            Self::Refused | Self::Rejected => Tone::Bad,
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) state: State,
    pub(crate) detail: String,
    /// What Envoy holds for it: a line is worth printing again when only this has changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hashes: Vec<String>,
}

/// The lines for everything that is served.
pub(crate) fn rows(evaluation: &Evaluation, deliveries: &Deliveries) -> Vec<Row> {
    let mut rows = listeners(evaluation, deliveries);
    rows.extend(policies(evaluation, deliveries));
    rows.sort_by(|a, b| a.subject.cmp(&b.subject));
    rows
}

fn listeners(evaluation: &Evaluation, deliveries: &Deliveries) -> Vec<Row> {
    let mut rows = Vec::new();
    for status in &evaluation.translation.statuses {
        let of_set = status.object.kind == "ListenerSet";
        if status.object.kind != "Gateway" && !of_set {
            continue;
        }
        let object = format!("{}/{}", status.object.namespace, status.object.name);
        for scope in &status.scopes {
            let Scope::Listener(listener) = &scope.scope else {
                continue;
            };
            let name = format!("{object}/{listener}");
            let bad = scope.conditions.iter().find(|condition| {
                matches!(condition.r#type, "Accepted" | "Programmed" | "ResolvedRefs")
                    && condition.status == ConditionStatus::False
            });
            let bound = bound(
                evaluation,
                (!of_set).then_some(object.as_str()),
                if of_set { &name } else { listener },
            );
            let (state, detail) = match (bad, bound) {
                (Some(bad), _) => (State::Refused, format!("{}: {}", bad.reason, bad.message)),
                (None, None) => (State::Refused, "it has no port".to_owned()),
                (None, Some((gateway, port))) => match delivered(&deliveries.of(std::iter::once(gateway))) {
                    Some((state, why)) => (state, why),
                    None => (State::Serving, described(port, scope.attached_routes)),
                },
            };
            rows.push(Row {
                subject: Subject {
                    kind: Kind::Listener,
                    name,
                },
                state,
                detail,
                hashes: Vec::new(),
            });
        }
    }
    rows
}

/// What a delivery that is not acknowledged says.
fn delivered(delivery: &Delivery) -> Option<(State, String)> {
    match delivery {
        Delivery::Acknowledged => None,
        Delivery::Pending => Some((State::Pending, "on its way to Envoy".to_owned())),
        Delivery::NoProxies => Some((State::NoProxies, "no Envoy is connected".to_owned())),
        Delivery::Rejected(why) => Some((State::Rejected, format!("Envoy keeps what it had: {why}"))),
        Delivery::FilterTooOld => Some((
            State::Rejected,
            "a connected Envoy runs a filter that is too old; upgrade it first".to_owned(),
        )),
    }
}

/// The Gateway and the port of a listener; that of a ListenerSet is looked for in all of them.
fn bound<'a>(evaluation: &'a Evaluation, gateway: Option<&str>, label: &str) -> Option<(&'a str, &'a BoundPort)> {
    let configurations = evaluation.translation.configurations.iter();
    configurations
        .filter(|configuration| gateway.is_none_or(|gateway| configuration.gateway == gateway))
        .find_map(|configuration| {
            let mut ports = configuration.listeners.iter();
            let port = ports.find(|port| port.listeners.iter().any(|name| name == label))?;
            Some((configuration.gateway.as_str(), port))
        })
}

fn described(port: &BoundPort, routes: Option<i32>) -> String {
    let mut detail = format!("{} on port {}", port.protocol, port.bound);
    if port.bound != port.port {
        detail = format!("{detail} (for {}, which needs root)", port.port);
    }
    match routes {
        Some(1) => format!("{detail}, 1 route"),
        Some(routes) => format!("{detail}, {routes} routes"),
        None => detail,
    }
}

/// Where a policy is in force.
#[derive(Default)]
pub(crate) struct Reach<'a> {
    routes: BTreeSet<String>,
    /// Of the places where it has an effect, or is evaluated without one.
    pub(crate) gateways: BTreeSet<String>,
    hashes: BTreeSet<&'a str>,
    refuses: bool,
    /// Whether it refuses connections.
    closes: bool,
    /// Whether it is evaluated there without effect.
    pub(crate) shadow: bool,
}

/// Where each policy is in force: as the one enforced, as the one that is merged with, as a baseline, or in shadow.
pub(crate) fn reach(attachment: &Attachment) -> BTreeMap<&ObjectRef, Reach<'_>> {
    let mut all: BTreeMap<&ObjectRef, Reach<'_>> = BTreeMap::new();
    for (place, policy) in &attachment.policies {
        let enforced = [&policy.enforced, &policy.merged, &policy.baseline];
        let enforced = enforced.into_iter().flatten().map(|object| (object, false));
        let shadow = policy.shadow.iter().map(|object| (object, true));
        for (object, shadow) in enforced.chain(shadow) {
            let reach = all.entry(object).or_default();
            reach
                .routes
                .insert(format!("{}/{}", place.route.namespace, place.route.name));
            reach
                .gateways
                .insert(format!("{}/{}", place.listener.namespace, place.listener.gateway));
            reach.hashes.insert(&policy.hash);
            reach.refuses |= policy.refuses && !shadow;
            reach.shadow |= shadow;
        }
    }
    for (place, admission) in &attachment.connections {
        let policies = [&admission.enforced, &admission.merged, &admission.baseline];
        for object in policies.into_iter().flatten() {
            let reach = all.entry(object).or_default();
            reach
                .routes
                .insert(format!("{}/{}", place.route.namespace, place.route.name));
            reach
                .gateways
                .insert(format!("{}/{}", place.listener.namespace, place.listener.gateway));
            reach.hashes.insert(&admission.hash);
            reach.closes |= admission.refuses;
        }
    }
    all
}

fn policies(evaluation: &Evaluation, deliveries: &Deliveries) -> Vec<Row> {
    let reach = reach(&evaluation.attachment);
    let statuses = evaluation.attachment.statuses.iter();
    let policies: Vec<&ObjectStatus> = statuses
        .filter(|status| ["AccessPolicy", "SecurityPolicy"].contains(&status.object.kind))
        .collect();
    let mut names: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for ObjectStatus { object, .. } in &policies {
        *names.entry((&object.namespace, &object.name)).or_default() += 1;
    }
    let is_shared = |object: &ObjectRef| {
        let count = names.get(&(object.namespace.as_str(), object.name.as_str()));
        count.is_some_and(|count| *count > 1)
    };
    policies
        .iter()
        .map(|status| {
            let name = format!("{}/{}", status.object.namespace, status.object.name);
            let nowhere = Reach::default();
            let reach = reach.get(&status.object).unwrap_or(&nowhere);
            let (state, detail) = policy(status, &name, reach, deliveries);
            Row {
                subject: Subject {
                    kind: Kind::Policy,
                    // Two kinds of policies may have one name.
                    name: if is_shared(&status.object) {
                        format!("{}/{name}", status.object.kind)
                    } else {
                        name
                    },
                },
                state,
                detail,
                hashes: reach.hashes.iter().map(ToString::to_string).collect(),
            }
        })
        .collect()
}

fn policy(status: &ObjectStatus, name: &str, reach: &Reach<'_>, deliveries: &Deliveries) -> (State, String) {
    let condition = |kind: &str, wanted: ConditionStatus| {
        status
            .scopes
            .iter()
            .flat_map(|scope| &scope.conditions)
            .find(|condition| condition.r#type == kind && condition.status == wanted)
    };
    let routes = named(&reach.routes);
    if let Some(bad) = condition("Accepted", ConditionStatus::False) {
        let consequence = if reach.refuses {
            format!("; 500 on {routes}")
        } else if reach.closes {
            format!("; no connection on {routes}")
        } else {
            String::new()
        };
        let message = on_a_line(&bad.message);
        return (State::Refused, format!("{}: {message}{consequence}", bad.reason));
    }
    if let Some(why) = deliveries.quarantined.get(name) {
        return (
            State::Rejected,
            format!("Envoy refused its routes, they answer 500: {why}"),
        );
    }
    if reach.routes.is_empty() {
        return match condition("Overridden", ConditionStatus::True) {
            Some(overridden) => (State::Overridden, overridden.message.clone()),
            None => (State::Unused, "no route of a served Gateway is under it".to_owned()),
        };
    }
    delivered(&deliveries.of(reach.gateways.iter().map(String::as_str))).unwrap_or_else(|| {
        let on = format!("on {routes}");
        match deliveries.degraded.get(&status.object) {
            Some(why) => (State::Degraded, format!("{on}; {why}")),
            None if reach.shadow => (State::Shadow, on),
            None => (State::Enforced, on),
        }
    })
}

/// A condition's message, which has a line for each fault, as part of a line.
fn on_a_line(message: &str) -> String {
    let faults: Vec<_> = message.lines().map(|line| line.trim_end_matches('.')).collect();
    faults.join("; ")
}

/// At most four names.
fn named(routes: &BTreeSet<String>) -> String {
    let shown: Vec<_> = routes.iter().take(4).map(String::as_str).collect();
    let more = routes.len().saturating_sub(shown.len());
    let routes = shown.join(", ");
    if more > 0 {
        format!("{routes} and {more} more")
    } else {
        routes
    }
}

/// Prints lines: aligned for people, one JSON object a line, or YAML documents.
pub(crate) fn print(rows: &[Row], style: &Style) -> Result<(), Failure> {
    let width = rows
        .iter()
        .map(|row| row.subject.name.chars().count())
        .max()
        .unwrap_or_default();
    for row in rows {
        let Row {
            subject, state, detail, ..
        } = row;
        let text = match style.output {
            Output::Text => format!(
                "{:<8}  {:<width$}  {}{}  {detail}",
                subject.kind.word(),
                subject.name,
                style.paint(state.tone(), state.word()),
                " ".repeat(10_usize.saturating_sub(state.word().len())),
            ),
            Output::Json => serde_json::to_string(row).map_err(|error| Failure::new(error.to_string(), ""))?,
            Output::Yaml => format!(
                "---\n{}",
                print::yaml(row).map_err(|error| Failure::new(error, ""))?.trim_end()
            ),
        };
        print::line(text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use portcullis_attachment::{
        effective::{EffectivePolicy, Options, Place, none},
        object::ListenerRef,
    };

    use super::*;

    #[test]
    fn the_worst_delivery_decides() {
        let deliveries = Deliveries {
            gateways: BTreeMap::from([
                ("a".to_owned(), Delivery::Acknowledged),
                ("b".to_owned(), Delivery::Rejected("why".to_owned())),
                ("c".to_owned(), Delivery::Pending),
            ]),
            ..Deliveries::default()
        };
        assert_eq!(
            deliveries.of(["a", "b", "c"].into_iter()),
            Delivery::Rejected("why".to_owned())
        );
        assert_eq!(deliveries.of(["a", "c"].into_iter()), Delivery::Pending);
        assert_eq!(deliveries.of(["a"].into_iter()), Delivery::Acknowledged);
        assert_eq!(deliveries.of(std::iter::empty()), Delivery::NoProxies);
    }

    #[test]
    fn two_faults_of_a_policy_stand_on_one_line() {
        assert_eq!(
            on_a_line("CORS: one is wrong\nCSRF: two is wrong."),
            "CORS: one is wrong; CSRF: two is wrong"
        );
    }

    #[test]
    fn a_baseline_is_in_force_and_a_shadow_is_seen() {
        let named = |name: &str| Some(ObjectRef::new("AccessPolicy", "edge", name));
        let mut policy = EffectivePolicy::clone(&none(&Options {
            controller_name: String::new(),
            salt_key: [0; 32],
        }));
        policy.baseline = named("floor");
        policy.shadow = named("trial");
        policy.refuses = true;
        let place = Place {
            listener: ListenerRef {
                namespace: "edge".to_owned(),
                gateway: "public".to_owned(),
                set: None,
                listener: "http".to_owned(),
            },
            route: ObjectRef::new("HTTPRoute", "shop", "orders"),
            rule: 0,
        };
        let attachment = Attachment {
            policies: BTreeMap::from([(place, std::sync::Arc::new(policy))]),
            ..Attachment::default()
        };
        let found = reach(&attachment);
        let told: Vec<_> = found
            .iter()
            .map(|(object, reach)| (object.name.as_str(), reach.routes.len(), reach.refuses, reach.shadow))
            .collect();
        assert_eq!(told, [("floor", 1, true, false), ("trial", 1, false, true)]);
    }

    #[test]
    fn many_routes_are_counted() {
        let routes = (0..6).map(|number| format!("shop/{number}")).collect();
        assert_eq!(named(&routes), "shop/0, shop/1, shop/2, shop/3 and 2 more");
    }
}
