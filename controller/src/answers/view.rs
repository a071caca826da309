//! An answer for people and programs.

use std::{collections::BTreeMap, net::IpAddr};

use portcullis_engine::{denial::Reason, document::Document, refusal, step::Outcome, transaction::Stage};
use portcullis_gateway::lookup::{Answer, Decision, End, Sent, Upstream};
use serde::Serialize;

use super::{Asked, NOBODY, RouteName, serves};

/// The name of the route that takes everything in a virtual host that Envoy did not take.
const QUARANTINE: &str = "quarantine";

/// An answer, for programs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct View {
    /// The Gateway.
    pub gateway: String,
    /// The port of its listener.
    pub port: u16,
    /// The filter chain: of HTTPS the listener's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    /// The client's address, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// How it ends, in one word.
    pub end: &'static str,
    /// Whether the request gets what its route does.
    pub allow: bool,
    /// The status; absent if it is the backend's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The stage that refused or answered; `policy` if the policy refuses every request, `seal` if the seal did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The verified identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Headers of the proxy's answer, or that it adds to the backend's.
    pub headers: BTreeMap<String, Vec<String>>,
    /// What the backend gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamView>,
    /// What the policy in shadow would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowView>,
    /// What it gets instead while the worker is checking too many other passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyView>,
    /// What else is to be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a backend gets that the client did not send, and the other way round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UpstreamView {
    /// The clusters, of which chance chooses one.
    pub clusters: Vec<String>,
    /// The path with its query.
    pub path: String,
    /// Headers that were set.
    pub set: BTreeMap<String, String>,
    /// Headers that were removed.
    pub removed: Vec<String>,
}

/// An answer that depends on what else a worker has to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BusyView {
    /// The status.
    pub status: u16,
    /// The reason.
    pub reason: &'static str,
    /// The stage.
    pub stage: String,
}

/// What a policy in shadow would have done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShadowView {
    /// The policy.
    pub policy: String,
    /// Whether the request would have gone on.
    pub allow: bool,
    /// Why.
    pub reason: &'static str,
    /// The rule that would have decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl View {
    pub(crate) fn new(gateway: &str, asked: &Asked, answer: &Answer) -> Self {
        let decision = answer.decision.as_ref();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &answer.response.headers {
            headers.entry(name.clone()).or_default().push(value.clone());
        }
        let mut notes = Vec::new();
        if let (Some(first), Some(route)) = (&answer.first, &answer.rerouted) {
            notes.push(format!("the claims that {} verified lead to {route}", first.policy));
        }
        let mut upstream = None;
        match &answer.end {
            End::Early(why) => notes.push((*why).to_owned()),
            End::Closed => notes.push("no listener has the server name: the connection is closed".to_owned()),
            End::Uncertified => {
                notes.push("the listener asks for a certificate and the client shows none: the connection is closed".to_owned());
            }
            End::Sealed => notes.push(format!(
                "without the identity headers that were removed another route takes the request, {}, under another policy",
                answer.rerouted.as_deref().unwrap_or_default()
            )),
            End::Status if answer.route.as_deref() == Some(QUARANTINE) => {
                notes.push("Envoy did not take this virtual host: it answers 500 until its content changes".to_owned());
            }
            End::Status if decision.is_some_and(|decision| decision.policy == "none") && !serves(answer) => {
                notes.push("no route takes the request".to_owned());
            }
            End::Status => notes.push("the rule itself answers: its filters or backends are at fault".to_owned()),
            End::Forward { upstream: found, lossy } => {
                match found {
                    Ok(found) => upstream = Some(UpstreamView::new(asked.sent(), found)),
                    Err(why) => notes.push(format!("what the backend gets cannot be told: {why}")),
                }
                if *lossy {
                    notes.push("a share of the rule's backends does not exist: chance may answer 500".to_owned());
                }
            }
            End::Denied | End::Preflight | End::Redirect => {}
        }
        Self {
            gateway: gateway.to_owned(),
            port: answer.port,
            chain: answer.chain.clone(),
            host: answer.host.clone(),
            route: answer.route.as_deref().and_then(RouteName::parse),
            client: Some(answer.client).filter(|client| *client != NOBODY || asked.from.is_some()),
            end: match answer.end {
                End::Closed | End::Uncertified => "closed",
                End::Early(_) | End::Status => "answered",
                End::Denied | End::Sealed => "denied",
                End::Preflight => "preflight",
                End::Redirect => "redirected",
                End::Forward { .. } => "forwarded",
            },
            allow: answer.allowed(),
            status: answer.response.status,
            reason: answer.reason(),
            policy: decision.map(|decision| decision.policy.clone()),
            rule: decision.and_then(|decision| decision.rule.clone()),
            stage: stage(answer),
            // Whoever the first policy verified is known where the second asks nobody.
            principal: [decision, answer.first.as_ref()]
                .into_iter()
                .flatten()
                .find_map(|decision| decision.principal.clone()),
            headers,
            upstream,
            shadow: decision
                .and_then(|decision| decision.shadow.as_ref())
                .map(|shadow| ShadowView {
                    policy: shadow.policy.clone(),
                    allow: shadow.outcome == Outcome::Allow,
                    reason: shadow.reason.as_str(),
                    rule: shadow.rule.clone(),
                }),
            busy: decision
                .filter(|decision| may_be_busy(decision, asked))
                .map(|_| BusyView::new()),
            notes,
        }
    }
}

/// Where a request was refused or answered; nothing if no policy did.
fn stage(answer: &Answer) -> Option<String> {
    let decision = answer.decision.as_ref()?;
    match decision.stage {
        _ if answer.end == End::Sealed => Some("seal".to_owned()),
        _ if decision.refuses_everything() => Some("policy".to_owned()),
        Stage::Allowed => None,
        stage => Some(stage.to_string()),
    }
}

/// Whether a password has to be checked for the request, which a worker may have no time for.
fn may_be_busy(decision: &Decision, asked: &Asked) -> bool {
    fn has(document: &Document) -> bool {
        document.basic_auth.is_some() || document.baseline.as_deref().is_some_and(has)
    }
    let sent = |(name, value): &(String, String)| {
        let scheme = value.split(' ').next().unwrap_or_default();
        name == "authorization" && scheme.eq_ignore_ascii_case("basic")
    };
    let unread = matches!(decision.reason, Reason::BasicMalformed | Reason::BasicMissing);
    decision.stage >= Stage::Authentication
        && !unread
        && decision.document.as_ref().is_some_and(has)
        && asked.sent.headers.iter().any(sent)
}

impl BusyView {
    fn new() -> Self {
        Self {
            status: refusal::refuse(Reason::BasicBusy).status,
            reason: Reason::BasicBusy.as_str(),
            stage: Stage::Authentication.to_string(),
        }
    }
}

impl View {
    /// Why it ends as it does, in a sentence without a full stop.
    pub(crate) fn why(&self) -> String {
        let policy = match self.policy.as_deref() {
            None => "Envoy",
            Some("none") => "no policy covers it",
            Some(policy) => policy,
        };
        let reason = self.reason.unwrap_or_default();
        let stage = self
            .stage
            .as_deref()
            .filter(|stage| !matches!(*stage, "policy" | "seal"))
            .map(|stage| format!(" in {stage}"))
            .unwrap_or_default();
        let rule = self
            .rule
            .as_deref()
            .map(|rule| format!(", rule {rule:?}"))
            .unwrap_or_default();
        let mut parts = match (self.end, policy) {
            ("denied", policy) if reason == "seal" => vec![format!("{policy} admits it, the seal does not")],
            ("denied", policy) => vec![format!("{policy} refuses it{stage}: {reason}{rule}")],
            ("preflight", policy) => vec![format!("{policy} answers the preflight")],
            (_, "Envoy") => Vec::new(),
            (_, "no policy covers it") => vec![policy.to_owned()],
            (_, policy) => vec![format!("{policy} admits it{rule}")],
        };
        if let Some(upstream) = &self.upstream {
            parts.push(format!("it goes to {}", upstream.clusters.join(" or ")));
        }
        parts.extend(self.notes.iter().cloned());
        parts.join("; ")
    }

    /// The answer in a few words.
    pub(crate) fn brief(&self) -> String {
        match (self.end, self.status) {
            ("forwarded", _) => "allowed".to_owned(),
            ("closed", _) => "connection closed".to_owned(),
            (_, Some(status)) => match self.reason.filter(|reason| *reason != "allowed") {
                Some(reason) => format!("{status} {reason}"),
                None => status.to_string(),
            },
            (end, None) => end.to_owned(),
        }
    }
}

/// Headers that every proxy writes.
pub(crate) const OF_PROXY: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-request-id"];

impl UpstreamView {
    fn new(sent: &Sent, upstream: &Upstream) -> Self {
        let mut set: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &upstream.headers {
            let same = |(other, sent): &(String, String)| other.eq_ignore_ascii_case(name) && sent == value;
            if name.starts_with(':') || OF_PROXY.contains(&name.as_str()) || sent.headers.iter().any(same) {
                continue;
            }
            let joined = set.entry(name.clone()).or_default();
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(value);
        }
        let mut removed: Vec<String> = sent
            .headers
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| name != "host" && !OF_PROXY.contains(&name.as_str()))
            .filter(|name| upstream.values(name).next().is_none())
            .collect();
        removed.sort_unstable();
        removed.dedup();
        Self {
            clusters: upstream.clusters.iter().map(|(name, _)| name.clone()).collect(),
            path: upstream.values(":path").next().unwrap_or_default().to_owned(),
            set,
            removed,
        }
    }
}
