//! The decision of a route's policy, by the engine that the filter runs.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use portcullis_engine::{
    cel,
    denial::Reason,
    document::{Document, Rule},
    host::{Attribute, Fact, Fault, Host, Signed},
    http::RequestHead,
    jwt::software,
    policy::{self, Policy},
    step::{Facts, LocalReply, Outcome, RequestEdits, Step, apply},
    transaction::{self, ResponseHead, Stage, Transaction},
    worker::Worker,
};

use super::{forward::Lines, matching::is_opaque, table::Selected, unclear::Unclear};

/// What a policy decided, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The policy's identity, `namespace/name`, or `none`; of a baseline and the route's own policy the one that decided.
    pub policy: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The authorization rule that decided, if one did.
    pub rule: Option<String>,
    /// The verified identity, if there is one.
    pub principal: Option<String>,
    /// The stage that refused or answered the request; [`Stage::Allowed`] if none did.
    pub stage: Stage,
    /// What is enforced on the route; nothing if it could not be read.
    pub document: Option<Document>,
    /// What the policy in shadow would have done, if there is one.
    pub shadow: Option<Shadow>,
    /// The header changes on the way to the backend, of the policy alone.
    pub edits: RequestEdits,
}

/// What a policy in shadow would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Its identity.
    pub policy: String,
    /// How the request would have ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The rule that would have decided, if one had.
    pub rule: Option<String>,
}

impl Decision {
    /// Whether the policy refuses every request, because it is wrong or cannot be read: it came to no stage.
    #[must_use]
    pub fn refuses_everything(&self) -> bool {
        self.document.as_ref().is_none_or(|document| document.refuse.is_some())
            || matches!(
                self.reason,
                Reason::FilterTooOld | Reason::PolicyMismatch | Reason::PolicyUndecodable
            )
    }
}

/// A decision with what is needed to finish the answer.
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    /// The answer, unless the request goes on.
    pub(crate) reply: Option<LocalReply>,
    by: Option<(Arc<Policy>, Transaction)>,
}

/// What the proxy knows of a request beside its head.
#[derive(Clone, Copy)]
pub(crate) struct Around {
    /// The client's address.
    pub(crate) client: IpAddr,
    /// Of these any may be the client's port.
    pub(crate) client_ports: &'static [u16],
    /// The port on which the request came.
    pub(crate) port: u16,
    /// In nanoseconds since 1970.
    pub(crate) now: u64,
}

impl Decided {
    /// Writes the policy's headers into an answer.
    pub(crate) fn respond(&self, status: u16, lines: &mut Lines) {
        if let Some((_, transaction)) = &self.by {
            apply(&transaction.on_response(&ResponseHead { status }).headers, lines);
        }
    }
}

/// The proxy of one request.
struct Proxy {
    client: IpAddr,
    client_port: u16,
    port: u16,
    now: u64,
}

impl Host for Proxy {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Ok(SocketAddr::new(self.client, self.client_port).to_string().into_bytes())
    }

    fn attribute(&self, attribute: Attribute) -> Result<Option<Fact>, Fault> {
        // What else there is only Envoy knows, and is refused before.
        Ok((attribute == Attribute::RequestTime)
            .then(|| self.now.try_into().ok().map(Fact::Number))
            .flatten())
    }

    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(Some(self.port))
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(self.now)
    }

    fn random(&self) -> Result<u64, Fault> {
        // What depends on chance is refused before.
        Ok(0)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        Ok(software::verify(signed))
    }
}

impl Decided {
    /// What the filter notes of the headers that it made, if claims select the route.
    pub(crate) fn claims(&self) -> Option<String> {
        let (policy, _) = self.by.as_ref().filter(|_| self.decision.edits.recompute)?;
        let names = policy.verified_headers();
        Some(names.fold(",".to_owned(), |claims, name| {
            format!("{claims}{},", String::from_utf8_lossy(&name))
        }))
    }

    /// Decides the request, with the head that this decision was of, by the policy of the route that its claims selected.
    ///
    /// # Errors
    ///
    /// The policy depends on what only Envoy knows.
    pub(crate) fn again(&self, selected: Selected<'_>, head: &RequestHead, around: Around) -> Result<Self, Unclear> {
        match &self.by {
            None => Ok(refused(Reason::HostFault, None)),
            Some((_, first)) => start(selected, around, |policy| {
                first.reroute(head.clone(), &self.decision.edits).under(policy)
            }),
        }
    }
}

/// Decides a request by the policy of its route.
///
/// # Errors
///
/// The policy depends on what only Envoy knows.
pub(crate) fn decide(selected: Selected<'_>, head: &RequestHead, around: Around) -> Result<Decided, Unclear> {
    start(selected, around, |policy| (Transaction::new(policy), head.clone()))
}

fn start(
    selected: Selected<'_>,
    around: Around,
    begin: impl Fn(Arc<Policy>) -> (Transaction, RequestHead),
) -> Result<Decided, Unclear> {
    let Around {
        client,
        client_ports,
        port,
        now,
    } = around;
    let Some(hash) = selected.hash() else {
        return Ok(refused(Reason::PolicyMissing, None));
    };
    let Some((document, secrets)) = selected.policy(hash) else {
        return Ok(refused(Reason::PolicyUnknown, None));
    };
    let read = serde_json::from_str::<Document>(&document).ok();
    let policy = match policy::decode(hash, document.as_bytes(), &secrets) {
        Ok(policy) => Arc::new(policy),
        Err(reason) => return Ok(refused(reason, read)),
    };
    if let Some(document) = &read {
        known(document)?;
    }
    let decided = client_ports.iter().map(|client_port| {
        let proxy = Proxy {
            client,
            client_port: *client_port,
            port,
            now,
        };
        let (mut transaction, head) = begin(Arc::clone(&policy));
        let step = transaction.on_request(&head, &proxy, &mut Worker::default());
        (transaction, step)
    });
    let mut decided: Vec<(Transaction, Step)> = decided.collect();
    let same = |(one, _): &(Transaction, Step), (other, _): &(Transaction, Step)| {
        one.facts() == other.facts() && one.shadow() == other.shadow()
    };
    if decided
        .windows(2)
        .any(|pair| matches!(pair, [one, other] if !same(one, other)))
    {
        return Err(Unclear::new("the answer depends on the client's port"));
    }
    let Some((transaction, step)) = decided.pop() else {
        return Err(Unclear::new("the client has no port"));
    };
    let Facts {
        policy: name,
        outcome,
        reason,
        rule,
        principal,
        ..
    } = transaction.facts();
    let mut decision = Decision {
        policy: name.to_owned(),
        outcome,
        reason,
        rule: rule.map(ToOwned::to_owned),
        principal: principal.map(ToOwned::to_owned),
        stage: transaction.ended(),
        document: read,
        shadow: transaction.shadow().map(|facts| Shadow {
            policy: facts.policy.to_owned(),
            outcome: facts.outcome,
            reason: facts.reason,
            rule: facts.rule.map(ToOwned::to_owned),
        }),
        edits: RequestEdits::default(),
    };
    let reply = match step {
        Step::Continue(edits) => {
            decision.edits = edits;
            None
        }
        Step::Reply(reply) => Some(reply),
        // Its keys are where the proxy is.
        Step::Await(_) => return Err(Unclear::new("the token is verified by keys that the proxy fetches")),
    };
    Ok(Decided {
        decision,
        reply,
        by: Some((policy, transaction)),
    })
}

fn refused(reason: Reason, document: Option<Document>) -> Decided {
    Decided {
        decision: Decision {
            policy: "unknown".to_owned(),
            outcome: Outcome::Deny,
            reason,
            rule: None,
            principal: None,
            stage: Stage::StripIdentity,
            document,
            shadow: None,
            edits: RequestEdits::default(),
        },
        reply: Some(transaction::refuse(reason)),
        by: None,
    }
}

/// Refuses a policy whose answer is a matter of chance, or of headers that Envoy makes up.
fn known(document: &Document) -> Result<(), Unclear> {
    let fraction = document.csrf.as_ref().and_then(|csrf| csrf.shadow_fraction.as_ref());
    if fraction.is_some_and(|fraction| fraction.numerator > 0 && fraction.numerator < fraction.denominator) {
        return Err(Unclear::new(format!(
            "{} lets a share of the requests through: csrf.shadowFraction",
            document.policy
        )));
    }
    let rules = document
        .authorization
        .iter()
        .flat_map(|authorization| &authorization.rules);
    for rule in rules.clone() {
        expression(document, rule)?;
    }
    let mut headers = rules.flat_map(|rule| &rule.headers);
    if let Some(header) = headers.find(|header| is_opaque(&header.name.to_ascii_lowercase())) {
        return Err(Unclear::new(format!(
            "{} has a rule on the header {:?}, which Envoy itself writes",
            document.policy, header.name
        )));
    }
    let nested = [document.baseline.as_deref(), document.shadow.as_deref()];
    nested.into_iter().flatten().try_for_each(known)
}

/// Refuses an expression that reads what only Envoy knows.
fn expression(document: &Document, rule: &Rule) -> Result<(), Unclear> {
    // One that cannot be compiled refuses every request.
    let Some(Ok(reads)) = rule.cel.as_ref().map(cel::reads) else {
        return Ok(());
    };
    let told = |attribute: &&Attribute| **attribute != Attribute::RequestTime;
    let unknown = match (
        reads.headers.iter().find(|name| is_opaque(name)),
        reads.attributes.iter().find(told),
    ) {
        (Some(header), _) => format!("the header {header:?}, which Envoy itself writes"),
        (None, Some(attribute)) => format!("{}, which only Envoy knows", attribute.name()),
        (None, None) if reads.any_header => "headers that only the request names".to_owned(),
        (None, None) => return Ok(()),
    };
    Err(Unclear::new(format!(
        "{} has a rule, {:?}, whose expression reads {unknown}",
        document.policy, rule.name
    )))
}
