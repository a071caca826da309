//! Answers to requests without an Envoy: which Gateway is asked, and the answer for people and programs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use portcullis_engine::{
    cel,
    document::{Document, Rule},
    step::Outcome,
    transaction::Stage,
};
use portcullis_gateway::lookup::{Answer, Decision, End, Proxy, Sent, Unclear, Upstream};
use serde::Serialize;

use crate::{failure::Failure, load::Evaluation};

/// Stands for a peer whose address nobody named (RFC 5737); an answer that depends on it is refused.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The proxies of every Gateway.
pub(crate) struct Proxies {
    all: Vec<(String, Result<Proxy, Unclear>)>,
}

/// A request and where it comes from, if that is known.
pub(crate) struct Asked {
    sent: Sent,
    from: Option<IpAddr>,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn new(
        method: &str,
        url: &str,
        headers: Vec<(String, String)>,
        from: Option<IpAddr>,
    ) -> Result<Self, String> {
        let sent = Sent::parse(method, url, headers, from.unwrap_or(NOBODY))?;
        Ok(Self { sent, from })
    }

    /// The request.
    pub(crate) const fn sent(&self) -> &Sent {
        &self.sent
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

impl Proxies {
    /// Reads what every Gateway's proxies would be given.
    pub(crate) fn new(evaluation: &Evaluation) -> Self {
        let configurations = evaluation.translation.configurations.iter();
        Self {
            all: configurations
                .map(|configuration| (configuration.gateway.clone(), Proxy::read(configuration)))
                .collect(),
        }
    }

    /// Answers a request at the named Gateway, or at the only one that serves its host.
    ///
    /// # Errors
    ///
    /// Which Gateway is meant, or what it answers, cannot be told.
    pub(crate) fn answer(&self, asked: &Asked, gateway: Option<&str>, now: u64) -> Result<(&str, Answer), Failure> {
        let names = || {
            let names: Vec<&str> = self.all.iter().map(|(name, _)| name.as_str()).collect();
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        };
        if let Some(wanted) = gateway {
            let (name, proxy) = self.all.iter().find(|(name, _)| name == wanted).ok_or_else(|| {
                Failure::new(
                    format!("no Gateway {wanted} of this controller is served"),
                    format!("served are: {}", names()),
                )
            })?;
            return Ok((name, ask(proxy, asked, now).map_err(|why| cannot_tell(&why))?));
        }
        match self.all.as_slice() {
            [] => Err(Failure::new(
                "no Gateway of this controller is served",
                "add a Gateway whose GatewayClass names it, or give --controller-name",
            )),
            [(name, proxy)] => Ok((name, ask(proxy, asked, now).map_err(|why| cannot_tell(&why))?)),
            all => {
                let mut serving = Vec::new();
                let mut unclear = None;
                for (name, proxy) in all {
                    match ask(proxy, asked, now) {
                        Ok(answer) if serves(&answer) => serving.push((name.as_str(), answer)),
                        Ok(_) => {}
                        Err(why) => unclear = unclear.or(Some(why)),
                    }
                }
                let host = &asked.sent.host;
                let found: Vec<&str> = serving.iter().map(|(name, _)| *name).collect();
                let found = found.join(", ");
                match (serving.pop(), serving.is_empty(), unclear) {
                    (Some(only), true, None) => Ok(only),
                    (None, _, None) => Err(Failure::new(
                        format!("no Gateway has a route for {host}"),
                        format!("name one: {}", names()),
                    )),
                    (_, _, Some(why)) => Err(cannot_tell(&why)),
                    (Some(_), false, None) => Err(Failure::new(
                        format!("several Gateways serve {host}: {found}"),
                        "name one",
                    )),
                }
            }
        }
    }
}

fn cannot_tell(why: &Unclear) -> Failure {
    Failure::new(format!("cannot tell: {why}"), "")
}

/// Whether a route of somebody's takes the request.
fn serves(answer: &Answer) -> bool {
    answer
        .route
        .as_deref()
        .is_some_and(|route| RouteName::parse(route).is_some())
}

fn ask(proxy: &Result<Proxy, Unclear>, asked: &Asked, now: u64) -> Result<Answer, Unclear> {
    let proxy = proxy.as_ref().map_err(Clone::clone)?;
    let answer = proxy.answer(&asked.sent, now)?;
    let judged = answer
        .decision
        .as_ref()
        .filter(|decision| asked.from.is_none() && by_address(decision));
    match judged {
        None => Ok(answer),
        Some(decision) => Err(Unclear::because(format!(
            "{} has rules on addresses, and the request does not say where it comes from",
            decision.policy
        ))),
    }
}

fn by_address(decision: &Decision) -> bool {
    fn has(document: &Document) -> bool {
        let mut rules = document
            .authorization
            .iter()
            .flat_map(|authorization| &authorization.rules);
        let by_address = |rule: &Rule| {
            let cel = rule.cel.as_ref().map(cel::reads);
            !rule.client_cidrs.is_empty() || matches!(cel, Some(Ok(reads)) if reads.address)
        };
        document.refuse.is_none() && rules.any(by_address)
            || document.baseline.as_deref().is_some_and(has)
            || document.shadow.as_deref().is_some_and(has)
    }
    decision.stage >= Stage::EarlyAuthorization && decision.document.as_ref().is_some_and(has)
}

/// A route's name in Envoy, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RouteName {
    /// The kind.
    pub kind: &'static str,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The index of the rule.
    pub rule: usize,
    /// The index of the match; absent for a rule that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#match: Option<usize>,
}

impl RouteName {
    /// Reads `httproute/NAMESPACE/NAME/rule/INDEX/match/INDEX/HOST`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let kind = match parts.next()? {
            "grpcroute" => "GRPCRoute",
            "httproute" => "HTTPRoute",
            _ => return None,
        };
        let (namespace, name) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let rule = parts.nth(1)?.parse().ok()?;
        let matched = parts.nth(1)?.parse().ok();
        Some(Self {
            kind,
            namespace,
            name,
            rule,
            r#match: matched,
        })
    }
}

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
    /// The stage that refused or answered.
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
        let mut upstream = None;
        match &answer.end {
            End::Early(why) => notes.push((*why).to_owned()),
            End::Closed => notes.push("no listener has the server name: the connection is closed".to_owned()),
            End::Sealed => notes.push(format!(
                "without the identity headers that were removed another route takes the request, {}, under another policy",
                answer.rerouted.as_deref().unwrap_or_default()
            )),
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
        // A policy that refuses everything came to no stage.
        let staged = |decision: &&Decision| {
            let document = decision.document.as_ref();
            decision.stage != Stage::Allowed && document.is_some_and(|document| document.refuse.is_none())
        };
        let stage = decision.filter(staged).map(|decision| decision.stage);
        Self {
            gateway: gateway.to_owned(),
            port: answer.port,
            chain: answer.chain.clone(),
            host: answer.host.clone(),
            route: answer.route.as_deref().and_then(RouteName::parse),
            client: Some(answer.client).filter(|client| *client != NOBODY || asked.from.is_some()),
            end: match answer.end {
                End::Closed => "closed",
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
            stage: stage.map(|stage| stage.to_string()),
            principal: decision.and_then(|decision| decision.principal.clone()),
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
            notes,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_known_by_its_name_in_envoy() {
        let name = RouteName::parse("httproute/shop/orders/rule/2/match/-1/*").unwrap();
        assert_eq!((name.name.as_str(), name.rule, name.r#match), ("orders", 2, None));
        let name = RouteName::parse("grpcroute/shop/orders/rule/0/match/1/a_b/preflight").unwrap();
        assert_eq!((name.kind, name.r#match), ("GRPCRoute", Some(1)));
        assert_eq!(RouteName::parse("status/404"), None);
    }
}
