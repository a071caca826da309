//! `portcullis explain` as a test asks it, and what must be the same in Envoy's access log.

use std::{net::IpAddr, process::Output};

use serde_json::Value;

use super::Exchange;
use crate::{access_log::Entry, certificate};

/// How the access log names the seal's refusal.
const SEALED: &str = "rbac_access_denied_matched_policy[none]";
/// The reason of a refusal that depends on what else a worker has to do.
const BUSY: &str = "basic_busy";

/// A request as `explain request` is asked about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Header lines, `NAME: VALUE`.
    pub headers: Vec<String>,
    /// The address of the peer.
    pub from: IpAddr,
    /// The Gateway, `namespace/name`, where one is meant.
    pub gateway: Option<String>,
    /// Options that say which certificate the client shows.
    pub certificate: Vec<String>,
}

impl Question {
    /// Asks what became of a request that was sent to the Gateway's `port`.
    #[must_use]
    pub fn of(exchange: &Exchange, port: u16, from: IpAddr, gateway: Option<String>) -> Self {
        let (scheme, host) = match &exchange.server_name {
            Some(name) => ("https", name.clone()),
            None => ("http", exchange.to.ip().to_string()),
        };
        // A target with a host of its own replaces the Host line (RFC 9112, 3.2.2); who a user is does not count there.
        let (whole, target) = match exchange.target.split_once("://") {
            Some((_, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority.rsplit('@').next().unwrap_or_default()), path)
            }
            None => (None, exchange.target.as_str()),
        };
        // How a message is framed is no matter of policies, and an answer must not depend on it.
        let framing = ["connection", "te", "transfer-encoding"];
        let lines = exchange.headers.iter().filter(|(name, _)| {
            let name = name.to_ascii_lowercase();
            !framing.contains(&name.as_str()) && (whole.is_none() || name != "host")
        });
        let lines = lines.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
        let named = exchange
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"));
        // The URL of a question always has a host: an empty line says that the request had none.
        let whole = whole.or_else(|| (!named).then_some(""));
        Self {
            method: exchange.method.clone(),
            url: format!("{scheme}://{host}:{port}{target}"),
            headers: whole
                .map(|host| format!("host: {host}"))
                .into_iter()
                .chain(lines)
                .collect(),
            from,
            gateway,
            certificate: match (&exchange.server_name, &exchange.certificate) {
                (None, _) => Vec::new(),
                (_, None) => vec!["--no-client-cert".to_owned()],
                (_, Some(file)) => certificate::options(file),
            },
        }
    }

    /// The arguments of the command; `more` says where the manifests are.
    #[must_use]
    pub fn arguments(&self, more: impl IntoIterator<Item = String>) -> Vec<String> {
        let from = self.from.to_string();
        let mut arguments: Vec<String> = ["explain", "request", "-o", "json", "--from", &from]
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        for (option, values) in [
            ("-H", &self.headers),
            ("--gateway", &self.gateway.iter().cloned().collect()),
        ] {
            arguments.extend(values.iter().flat_map(|value| [option.to_owned(), value.clone()]));
        }
        arguments.extend(self.certificate.iter().cloned());
        arguments.extend(more);
        arguments.extend(["--".to_owned(), self.method.clone(), self.url.clone()]);
        arguments
    }
}

/// What `explain request` says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The answer.
    Answer(Value),
    /// That it cannot tell, and why.
    Unclear(String),
}

impl Told {
    /// Reads what the command printed.
    ///
    /// # Panics
    /// If it is no answer.
    #[must_use]
    pub fn read(output: &Output) -> Self {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        match output.status.code() {
            Some(0 | 1) => {
                Self::Answer(serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
            }
            Some(2) if out.is_empty() && err.lines().any(|line| line.starts_with("portcullis: ")) => {
                Self::Unclear(err.trim().to_owned())
            }
            code => panic!("explain ended with {code:?}: {out}{err}"),
        }
    }
}

/// The code under which `explain reason` knows why a request ended as it did: the policy's reason, or Envoy's own details.
pub(super) fn code(entry: &Entry) -> String {
    let details = entry.get("details").unwrap_or_default();
    match entry.reason() {
        Some(reason) if details != SEALED && reason != "allowed" => reason,
        // Behind some codes Envoy says more.
        _ => details
            .split_once('{')
            .map_or_else(|| details.clone(), |(code, _)| code.to_owned()),
    }
}

/// Where what was told of an answer of the gateway itself is not what the access log has.
#[must_use]
pub fn differences(entry: &Entry, told: &Told) -> Vec<String> {
    let told = match told {
        Told::Answer(told) => told,
        // What Envoy refused before any policy was asked may be a request that nobody can write down.
        Told::Unclear(_) if entry.reason().is_none() && entry.get("policy").is_none() => return Vec::new(),
        Told::Unclear(why) => return vec![why.clone()],
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().map(|number| number.to_string()).unwrap_or_default();
    let mut wrong = Vec::new();
    let mut equal = |what: &str, told: String, got: Option<String>| {
        let got = got.unwrap_or_default();
        if told != got {
            wrong.push(format!("{what}: explain {told:?}, Envoy {got:?}"));
        }
    };
    let sealed = entry.get("details").as_deref() == Some(SEALED);
    let reason = if sealed {
        Some("seal".to_owned())
    } else {
        entry.reason()
    };
    equal("policy", text(&told["policy"]), entry.get("policy"));
    if reason.as_deref() == Some(BUSY) {
        let busy = &told["busy"];
        equal(
            "status while the worker is busy",
            number(&busy["status"]),
            entry.get("status"),
        );
        equal("reason while the worker is busy", text(&busy["reason"]), reason);
        equal(
            "stage while the worker is busy",
            text(&busy["stage"]),
            Some("authentication".to_owned()),
        );
        return wrong;
    }
    equal("status", number(&told["status"]), entry.get("status"));
    equal("reason", text(&told["reason"]), reason.clone());
    equal("rule", text(&told["rule"]), entry.get("rule"));
    let by_policy = reason.is_some_and(|reason| reason != "allowed");
    if by_policy && text(&told["stage"]).is_empty() {
        wrong.push("explain names no stage".to_owned());
    }
    if text(&told["why"]).is_empty() {
        wrong.push("explain does not say why".to_owned());
    }
    wrong
}
