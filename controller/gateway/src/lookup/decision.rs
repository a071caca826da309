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
    refusal,
    step::{Facts, LocalReply, Outcome, RequestEdits, Step, apply},
    transaction::{ResponseHead, Stage, Transaction},
    worker::Worker,
};

use super::{
    callouts::Callouts, certificate::ClientCertificate, forward::Lines, matching::is_opaque, table::Selected,
    unclear::Unclear,
};

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

impl Decided {
    /// Writes the policy's headers into an answer.
    pub(crate) fn respond(&self, status: u16, lines: &mut Lines) {
        if let Some((_, transaction)) = &self.by {
            apply(&transaction.on_response(&ResponseHead { status }).headers, lines);
        }
    }
}

/// What is known of a request beside its head.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) client: IpAddr,
    /// Of these any may be the client's port.
    pub(crate) client_ports: &'a [u16],
    /// The port of the Gateway.
    pub(crate) port: u16,
    /// The verified certificate, if there is one; nothing where that is not known.
    pub(crate) certificate: Option<Option<&'a ClientCertificate>>,
    pub(crate) callouts: &'a Callouts,
    /// Whether it is said what databases tell of the client's place.
    pub(crate) placed: bool,
    /// In nanoseconds since 1970.
    pub(crate) now: u64,
}

/// The proxy of one request.
struct Proxy<'a> {
    around: Surroundings<'a>,
    client_port: u16,
}

impl Host for Proxy<'_> {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Ok(SocketAddr::new(self.around.client, self.client_port)
            .to_string()
            .into_bytes())
    }

    fn attribute(&self, attribute: Attribute) -> Result<Option<Fact>, Fault> {
        let certificate = self.around.certificate.flatten();
        let name = |name: fn(&ClientCertificate) -> &Option<String>| {
            let name = certificate.and_then(|certificate| name(certificate).clone());
            name.map(|name| Fact::Text(name.into_bytes()))
        };
        Ok(match attribute {
            Attribute::RequestTime => self.around.now.try_into().ok().map(Fact::Number),
            Attribute::Mtls => Some(Fact::Flag(certificate.is_some())),
            Attribute::UriSanPeerCertificate => name(|certificate| &certificate.uri_san),
            Attribute::DnsSanPeerCertificate => name(|certificate| &certificate.dns_san),
            Attribute::SubjectPeerCertificate => name(|certificate| &certificate.subject),
            // What else there is only Envoy knows, and is refused before.
            _ => None,
        })
    }

    fn verifies_certificates(&self) -> Result<bool, Fault> {
        // One that is not verified is none here.
        Ok(true)
    }

    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(Some(self.around.port))
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(self.around.now)
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
    pub(crate) fn again(
        &self,
        selected: Selected<'_>,
        head: &RequestHead,
        around: Surroundings<'_>,
    ) -> Result<Self, Unclear> {
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
pub(crate) fn decide(selected: Selected<'_>, head: &RequestHead, around: Surroundings<'_>) -> Result<Decided, Unclear> {
    start(selected, around, |policy| (Transaction::new(policy), head.clone()))
}

fn start(
    selected: Selected<'_>,
    around: Surroundings<'_>,
    begin: impl Fn(Arc<Policy>) -> (Transaction, RequestHead),
) -> Result<Decided, Unclear> {
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
        known(document, &around)?;
        places(document, around.placed)?;
    }
    let decided = around.client_ports.iter().map(|client_port| {
        let proxy = Proxy {
            around,
            client_port: *client_port,
        };
        let (mut transaction, head) = begin(Arc::clone(&policy));
        let mut worker = Worker::default();
        let mut step = transaction.on_request(&head, &proxy, &mut worker);
        while let Step::Await(wait) = &step
            && read
                .as_ref()
                .is_some_and(|read| around.callouts.fails(read, wait.source.id()))
        {
            worker.fail_keys(&wait.source);
            step = transaction.on_keys(&head, &proxy, &mut worker);
        }
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
        reply: Some(refusal::refuse(reason)),
        by: None,
    }
}

/// Refuses a policy whose answer is a matter of chance, of headers that Envoy makes up, or of what is not said of the
/// connection.
fn known(document: &Document, around: &Surroundings<'_>) -> Result<(), Unclear> {
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
        expression(document, rule, around)?;
        if rule.certificate.is_some() && around.certificate.is_none() {
            return Err(Unclear::new(format!(
                "{} has rules on certificates, and the request does not say which one the client shows",
                document.policy
            )));
        }
    }
    let mut headers = rules.flat_map(|rule| &rule.headers);
    if let Some(header) = headers.find(|header| is_opaque(&header.name.to_ascii_lowercase())) {
        return Err(Unclear::new(format!(
            "{} has a rule on the header {:?}, which Envoy itself writes",
            document.policy, header.name
        )));
    }
    let nested = [document.baseline.as_deref(), document.shadow.as_deref()];
    nested
        .into_iter()
        .flatten()
        .try_for_each(|nested| known(nested, around))
}

/// Refuses a policy whose answer is a matter of a place that nobody told.
fn places(document: &Document, placed: bool) -> Result<(), Unclear> {
    let mut rules = document.authorization.iter().flat_map(|part| &part.rules);
    if let Some(rule) = rules.find(|rule| !placed && !rule.geo_locations.is_empty()) {
        return Err(Unclear::new(format!(
            "{} has a rule, {:?}, on the client's place, which the proxy's databases tell; say it: --geo country=US, or geo in a test",
            document.policy, rule.name
        )));
    }
    let nested = [document.baseline.as_deref(), document.shadow.as_deref()];
    let mut nested = nested.into_iter().flatten();
    nested.try_for_each(|document| places(document, placed))
}

/// Refuses an expression that reads what only Envoy knows.
fn expression(document: &Document, rule: &Rule, around: &Surroundings<'_>) -> Result<(), Unclear> {
    // One that cannot be compiled refuses every request.
    let Some(Ok(reads)) = rule.cel.as_ref().map(cel::reads) else {
        return Ok(());
    };
    let said = |name: fn(&ClientCertificate) -> &Option<String>| {
        let certificate = around.certificate;
        certificate.is_some_and(|certificate| certificate.is_none_or(|certificate| name(certificate).is_some()))
    };
    let told = |attribute: &&Attribute| {
        !match attribute {
            Attribute::RequestTime => true,
            Attribute::Mtls => around.certificate.is_some(),
            Attribute::UriSanPeerCertificate => said(|certificate| &certificate.uri_san),
            Attribute::DnsSanPeerCertificate => said(|certificate| &certificate.dns_san),
            // Without a certificate Envoy has an empty one in TLS, and else none.
            Attribute::SubjectPeerCertificate => {
                around.certificate.flatten().is_some() && said(|certificate| &certificate.subject)
            }
            _ => false,
        }
    };
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
