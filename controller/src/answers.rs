//! Answers to requests without an Envoy: which Gateway is asked, and the answer for people and programs.

mod view;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use portcullis_engine::geography::{Field, Geography};
use portcullis_engine::{
    cel,
    document::{Document, Rule},
    transaction::Stage,
};
use portcullis_gateway::lookup::{Answer, Decision, Proxy, Sent, Shown, Unclear};
use serde::Serialize;

pub(crate) use self::view::{BusyView, OF_PROXY, View};
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
        certificate: Shown,
    ) -> Result<Self, String> {
        let mut sent = Sent::parse(method, url, headers, from.unwrap_or(NOBODY))?;
        if !sent.secure && matches!(certificate, Shown::Valid(_)) {
            return Err(format!(
                "{url:?} is not in TLS, where alone a client shows a certificate"
            ));
        }
        sent.certificate = certificate;
        Ok(Self { sent, from })
    }

    /// Says what databases tell of the client's place, by [`Field::name`].
    pub(crate) fn placed<'a>(mut self, told: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut geography = Geography::new(Field::ALL.to_vec());
        for (name, value) in told {
            if let Some(field) = Field::ALL.into_iter().find(|field| field.name() == name) {
                geography.set(field, value.as_bytes().to_vec());
            }
        }
        self.sent.geography = Some(geography);
        self
    }

    /// Has the servers of keys of these providers fail.
    pub(crate) fn fail_keys(&mut self, providers: BTreeSet<String>) {
        self.sent.callouts.failing_keys = providers;
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

/// Seconds since 1970.
pub(crate) fn seconds() -> u64 {
    now() / 1_000_000_000
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
