use std::{collections::BTreeMap, sync::Arc};

use portcullis_engine::{
    denial::Reason,
    host::{Attribute, Fact, Fault, Host, Signed},
    http::RequestHead,
    jwt::{
        remote::{Wait, Why},
        software,
    },
    policy::Policy,
    step::{LocalReply, Outcome, RequestEdits, Step, apply},
    transaction::{ResponseHead, Transaction},
    worker::Worker,
};

use super::{Answer, Case, Expect, ExpectedError, From, Group, KeyServer, Request, Response, Told, Upstream};

/// A decided request.
#[derive(Debug)]
pub struct Decided {
    /// What the adapter must do.
    pub step: Step,
    /// The transaction, for its facts and the response.
    pub transaction: Transaction,
    /// The transaction on the route before, with its edits, where a claim led to another one.
    pub first: Option<(Transaction, RequestEdits)>,
}

struct CaseHost<'a>(&'a Request);

impl CaseHost<'_> {
    const fn answer(answer: Answer) -> Result<u64, Fault> {
        match answer {
            Answer::Number(number) => Ok(number),
            Answer::Fault { .. } => Err(Fault),
        }
    }
}

impl Host for CaseHost<'_> {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        match &self.0.from {
            From::Address(text) => Ok(text.bytes()),
            From::Fault { .. } => Err(Fault),
        }
    }

    fn now(&self) -> Result<u64, Fault> {
        Self::answer(self.0.now)
    }

    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(self.0.port)
    }

    fn random(&self) -> Result<u64, Fault> {
        Self::answer(self.0.random)
    }

    fn attribute(&self, attribute: Attribute) -> Result<Option<Fact>, Fault> {
        if attribute == Attribute::RequestTime {
            return self.now().map(|now| now.try_into().ok().map(Fact::Number));
        }
        match self.0.attributes.get(attribute.name()) {
            None => Ok(None),
            Some(Told::Flag(flag)) => Ok(Some(Fact::Flag(*flag))),
            Some(Told::Number(number)) => Ok(Some(Fact::Number(*number))),
            Some(Told::Text(text)) => Ok(Some(Fact::Text(text.clone().into_bytes()))),
            Some(Told::Fault { .. }) => Err(Fault),
        }
    }

    fn verifies_certificates(&self) -> Result<bool, Fault> {
        Ok(self.0.verifies_certificates)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        if self.0.verifies == Some(false) {
            return Err(Fault);
        }
        Ok(software::verify(signed))
    }
}

/// Decides a request under a policy whose keys, if it fetches any, are not to be had.
#[must_use]
pub fn decide(policy: &Arc<Policy>, request: &Request) -> Decided {
    decide_with(policy, request, &BTreeMap::new())
}

fn decide_with(policy: &Arc<Policy>, request: &Request, servers: &BTreeMap<String, KeyServer>) -> Decided {
    let mut transaction = Transaction::new(Arc::clone(policy));
    let step = finish(
        &mut transaction,
        &request.head(),
        request,
        servers,
        &mut Worker::default(),
    );
    Decided {
        step,
        transaction,
        first: None,
    }
}

/// Decides a request of a group, under its policy and, where a claim leads to the other route, under the policy of that.
///
/// # Errors
/// Why the request is refused before a policy is asked.
pub fn decide_in(group: &Group, request: &Request) -> Result<Decided, String> {
    let refused = |reason: Reason| format!("the policy is refused: {}", reason.as_str());
    let policy = Arc::new(group.delivered()?.decode().map_err(refused)?);
    let mut decided = decide_with(&policy, request, &group.key_servers);
    let Step::Continue(edits) = &decided.step else {
        return Ok(decided);
    };
    let Some((next, delivered)) = group.next_delivered()?.filter(|_| edits.recompute) else {
        return Ok(decided);
    };
    let mut routed = request.head();
    apply(&edits.headers, &mut routed.headers);
    if !routed.values(next.header.as_bytes()).eq([next.value.as_bytes()]) {
        return Ok(decided);
    }
    let policy = Arc::new(delivered.decode().map_err(refused)?);
    let (mut transaction, head) = decided.transaction.reroute(request.head(), edits).under(policy);
    let step = finish(
        &mut transaction,
        &head,
        request,
        &group.key_servers,
        &mut Worker::default(),
    );
    let first = std::mem::replace(&mut decided.transaction, transaction);
    if let Step::Continue(edits) = std::mem::replace(&mut decided.step, step) {
        decided.first = Some((first, edits));
    }
    Ok(decided)
}

/// Decides, and fetches keys until nothing waits: as a proxy does that has not fetched any yet.
fn finish(
    transaction: &mut Transaction,
    head: &RequestHead,
    request: &Request,
    servers: &BTreeMap<String, KeyServer>,
    worker: &mut Worker,
) -> Step {
    let host = CaseHost(request);
    let now = host.now().unwrap_or_default() / 1_000_000_000;
    let mut step = transaction.on_request(head, &host, worker);
    while let Step::Await(Wait { source, why }) = &step {
        let server = servers.get(source.id());
        let shipped = server.and_then(|server| Some((server.shipped.as_ref()?, now.saturating_sub(server.age))));
        let served = server.and_then(|server| Some((server.serves.as_ref()?, now)));
        let found = shipped.filter(|_| *why == Why::Missing).or(served);
        let found = found.and_then(|(keys, fetched)| Some((keys.text().ok()?, fetched)));
        match found {
            // A set that cannot be used leaves things as they are.
            Some((jwks, fetched)) if worker.hold_keys(source, jwks.as_bytes(), fetched).is_ok() => {}
            _ => worker.fail_keys(source),
        }
        step = transaction.on_keys(head, &host, worker);
    }
    step
}

/// Runs one case of a group.
///
/// # Errors
/// Every expectation that does not hold, one a line.
pub fn run(group: &Group, case: &Case) -> Result<(), String> {
    let mut check = Check::default();
    let now = case.request.as_ref().map(|request| request.now);
    let now = match now {
        Some(Answer::Number(nanoseconds)) => nanoseconds / 1_000_000_000,
        _ => 0,
    };
    let case = &group.with_tokens(case, now)?;
    let delivered = group.delivered()?;
    if let Some(expected) = &case.expect.error {
        check_error(group, &delivered.secrets, expected, &mut check)?;
    }
    match (&case.expect.decode, &case.request, delivered.decode()) {
        (None, Some(request), _) => check_request(decide_in(group, request)?, request, &case.expect, &mut check),
        (Some(expected), None, decoded) => {
            check.equal("decode", &Some(expected.as_str()), &decoded.err().map(Reason::as_str));
        }
        (None, None, decoded) if case.expect.error.is_some() => {
            check.equal(
                "decode",
                &Some("policy_undecodable"),
                &decoded.err().map(Reason::as_str),
            );
        }
        (Some(_), Some(_), _) => return Err("a case that expects `decode` has no request".to_owned()),
        (None, None, _) => return Err("the case has neither a request nor an error to expect".to_owned()),
    }
    check.finish()
}

fn check_error(group: &Group, secrets: &[u8], expected: &ExpectedError, check: &mut Check) -> Result<(), String> {
    let secrets = serde_json::from_slice(secrets).map_err(|error| error.to_string())?;
    match Policy::compile(&group.document()?, &secrets) {
        Ok(_) => check.fail("the policy compiles".to_owned()),
        Err(error) => {
            check.equal("error.path", &expected.path, &error.path);
            check.equal("error.code", &expected.code.as_str(), &error.code);
            if expected.fix.is_some() {
                check.equal("error.fix", &expected.fix, &error.fix);
            }
        }
    }
    Ok(())
}

fn check_request(decided: Decided, request: &Request, expect: &Expect, check: &mut Check) {
    let Decided {
        step,
        transaction,
        first,
    } = decided;
    let facts = transaction.facts();
    let (edits, reply) = match &step {
        Step::Continue(edits) => (Some(edits), None),
        Step::Reply(reply) => (None, Some(reply)),
        Step::Await(_) => return check.fail("the request still waits".to_owned()),
    };
    check.equal(
        "allow",
        &expect.allow.unwrap_or_else(|| expect.status.is_none()),
        &edits.is_some(),
    );
    check.equal("outcome", &edits.is_some(), &(facts.outcome == Outcome::Allow));
    check.equal("status", &expect.status, &reply.map(|reply| reply.status));
    if let Some(reply) = reply {
        check.equal("reason of the reply", &facts.reason, &reply.reason);
    }
    check.named("reason", expect.reason.as_ref(), Some(facts.reason.as_str()));
    check.named("policy", expect.policy.as_ref(), Some(facts.policy));
    check.named("rule", expect.rule.as_ref(), facts.rule);
    check.named("principal", expect.principal.as_ref(), facts.principal);
    if let Some(expected) = &expect.shadow {
        let shadow = transaction.shadow();
        let shadow = shadow.as_ref();
        let reason = shadow.map(|facts| facts.reason.as_str());
        check.named("shadow reason", Some(&expected.reason), reason);
        check.named(
            "shadow policy",
            expected.policy.as_ref(),
            shadow.map(|facts| facts.policy),
        );
        check.named(
            "shadow rule",
            expected.rule.as_ref(),
            shadow.and_then(|facts| facts.rule),
        );
    }
    if let Some(body) = &expect.body {
        check.equal("body", &body.as_bytes(), &reply.map_or(&b""[..], |reply| reply.body));
    }
    if let Some(expected) = expect.clear_route_cache {
        check.equal(
            "clear_route_cache",
            &Some(expected),
            &edits.map(|edits| edits.clear_route_cache),
        );
    }
    if let Some(expected) = expect.untouched {
        let untouched = edits.map(|edits| *edits == RequestEdits::default());
        check.equal("untouched", &Some(expected), &untouched);
    }
    if let Some(upstream) = &expect.upstream {
        match edits {
            Some(edits) => {
                let before = first.iter().map(|(transaction, edits)| (transaction, edits));
                let decisions: Vec<_> = before.chain([(&transaction, edits)]).collect();
                check_upstream(&decisions, request, upstream, check);
            }
            None => check.fail("nothing goes upstream".to_owned()),
        }
    }
    if let Some(response) = &expect.response {
        check_response(&transaction, reply, response, check);
    }
}

fn check_upstream(
    decisions: &[(&Transaction, &RequestEdits)],
    request: &Request,
    expected: &Upstream,
    check: &mut Check,
) {
    let mut headers = request.head().headers;
    for (_, edits) in decisions {
        apply(&edits.headers, &mut headers);
    }
    check.lines("upstream", &expected.headers, &headers);
    if let Some(path) = &expected.path {
        check.equal(
            "upstream.path",
            &Shown(&[path.bytes()]),
            &Shown(&lines(&headers, b":path")),
        );
    }
    for name in &expected.removed {
        check.equal(
            &format!("upstream {name}"),
            &Shown(&[]),
            &Shown(&lines(&headers, name.as_bytes())),
        );
    }
    let mut trailers: Vec<_> = request
        .trailers
        .iter()
        .map(|(name, value)| (name.bytes(), value.bytes()))
        .collect();
    for (transaction, _) in decisions {
        apply(&transaction.on_request_trailers(&trailers), &mut trailers);
    }
    for name in &expected.removed_trailers {
        check.equal(
            &format!("trailer {name}"),
            &Shown(&[]),
            &Shown(&lines(&trailers, name.as_bytes())),
        );
    }
}

fn check_response(transaction: &Transaction, reply: Option<&LocalReply>, expected: &Response, check: &mut Check) {
    let mut headers = match reply {
        Some(reply) => reply.headers.clone(),
        None => expected
            .given
            .iter()
            .map(|(name, value)| (name.bytes(), value.bytes()))
            .collect(),
    };
    let status = reply.map_or(200, |reply| reply.status);
    apply(&transaction.on_response(&ResponseHead { status }).headers, &mut headers);
    check.lines("response", &expected.headers, &headers);
    for name in &expected.removed {
        check.equal(
            &format!("response {name}"),
            &Shown(&[]),
            &Shown(&lines(&headers, name.as_bytes())),
        );
    }
}

fn lines(headers: &[(Vec<u8>, Vec<u8>)], name: &[u8]) -> Vec<Vec<u8>> {
    headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.clone())
        .collect()
}

/// Bytes that print as text.
#[derive(PartialEq)]
struct Shown<'a>(&'a [Vec<u8>]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|line| line.escape_ascii().to_string()))
            .finish()
    }
}

#[derive(Default)]
struct Check(Vec<String>);

impl Check {
    fn fail(&mut self, message: String) {
        self.0.push(message);
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, expected: &T, got: &T) {
        if expected != got {
            self.fail(format!("{what}: expected {expected:?}, got {got:?}"));
        }
    }

    fn named(&mut self, what: &str, expected: Option<&String>, got: Option<&str>) {
        if let Some(expected) = expected {
            self.equal(what, &expected.as_str(), &got.unwrap_or_default());
        }
    }

    fn lines(
        &mut self,
        what: &str,
        expected: &std::collections::BTreeMap<String, super::Lines>,
        headers: &[(Vec<u8>, Vec<u8>)],
    ) {
        for (name, values) in expected {
            let got = lines(headers, name.as_bytes());
            self.equal(&format!("{what} {name}"), &Shown(&values.bytes()), &Shown(&got));
        }
    }

    fn finish(self) -> Result<(), String> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0.join("\n"))
        }
    }
}
