//! Policies and a request made of bytes: what the engine makes of them is what the oracle does.

mod aim;
mod bytes;
mod decision;
mod laws;
mod policy;
mod request;
mod token;
mod upstream;

use std::sync::Arc;

use portcullis_engine::{
    denial::Reason,
    document::{Action, PathMatchType, Secrets},
    policy::{Policy, decode},
    seal,
    step::{Facts, Outcome, Step},
    transaction::{Stage, Transaction},
    worker::Worker,
};

use super::{condition::Condition, expression::Expression, rules};
use bytes::Bytes;
use decision::End;
use policy::{Party, Side};
use request::Sent;

/// The time of requests, in seconds since 1970.
const NOW: u64 = 1_790_000_000;

/// A request, the policy of its route, and what stands beside that.
#[derive(Debug)]
pub(crate) struct Scenario {
    own: Side,
    baseline: Option<Side>,
    shadow: Option<Side>,
    sent: Sent,
}

impl Scenario {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let mut sent = Sent::read(bytes);
        let own = Side::read(bytes, Party::Own);
        let baseline = bytes.odds(1, 4).then(|| {
            let baseline = Side::read(bytes, Party::Baseline);
            if bytes.flip() {
                baseline.asking_as(&own)
            } else {
                baseline
            }
        });
        let shadow = bytes.odds(1, 4).then(|| Side::read(bytes, Party::Shadow));
        for side in [Some(&own), baseline.as_ref(), shadow.as_ref()].into_iter().flatten() {
            if bytes.flip() {
                aim::aim(&mut sent, side, bytes);
            }
        }
        Self {
            own,
            baseline,
            shadow,
            sent,
        }
    }

    /// Checks one decision, and what must hold between this and others; tells what came of it.
    pub(crate) fn check(data: &[u8]) -> Vec<String> {
        let mut bytes = Bytes::new(data);
        let scenario = Self::read(&mut bytes);
        scenario.decide();
        laws::shadow_changes_nothing(&scenario);
        laws::both_must_admit(&scenario);
        laws::other_rules_do_not_matter(&scenario);
        if bytes.odds(1, 4) {
            // Another request, and perhaps another policy.
            let mut other = Self::read(&mut bytes);
            if bytes.flip() {
                other.own = scenario.own.clone();
            } else if bytes.flip() {
                other.sent = scenario.sent.clone();
            }
            laws::a_worker_keeps_policies_apart(&scenario, &other);
        }
        scenario.came_of_it()
    }

    fn compile(&self) -> Arc<Policy> {
        Arc::new(compile(&self.own, self.baseline.as_ref(), self.shadow.as_ref()))
    }

    fn sides(&self) -> Vec<&Side> {
        self.baseline.iter().chain([&self.own]).collect()
    }

    fn expected(&self) -> End {
        decision::decide(&self.own, self.baseline.as_ref(), &self.sent, true)
    }

    fn decide(&self) {
        let mut worker = Worker::default();
        let mut transaction = Transaction::new(self.compile());
        let step = transaction.on_request(&self.sent.head, &self.sent, &mut worker);
        self.check_facts(&transaction);
        match &step {
            Step::Continue(edits) => {
                assert_eq!(transaction.facts().reason, Reason::Allowed);
                assert_eq!(transaction.stage(), Stage::Allowed);
                upstream::check_request(&self.sides(), &self.sent, &self.expected(), edits);
            }
            Step::Reply(reply) => {
                assert_eq!(reply.reason, transaction.facts().reason);
                assert_eq!(transaction.stage(), Stage::Replied);
            }
            Step::Await(wait) => panic!("no scenario has remote keys: {wait:?}"),
        }
        upstream::check_response(&self.own, &self.sent, &transaction);
        upstream::check_trailers(&self.sides(), &self.sent, &transaction);
        let again = transaction.on_request(&self.sent.head, &self.sent, &mut worker);
        assert!(
            matches!(again, Step::Reply(reply) if reply.reason == Reason::HostFault),
            "a second head is refused"
        );
    }

    /// Holds what is told of a decided request against the oracle.
    fn check_facts(&self, transaction: &Transaction) {
        let expected = self.expected();
        let facts = transaction.facts();
        assert!(
            is_told(&facts, &expected, &self.sides()),
            "{facts:?} instead of {expected:?}: {self:?}"
        );
        let counted: Vec<_> = transaction
            .counted()
            .map(|facts| (facts.policy.to_owned(), facts.reason))
            .collect();
        assert_eq!(counted, expected.counted, "{self:?}");
        assert_eq!(transaction.shadow().is_some(), self.shadow.is_some());
        if let (Some(shadow), Some(facts)) = (&self.shadow, transaction.shadow()) {
            let expected = decision::decide(shadow, None, &self.sent, true);
            // A password of which nothing hangs may be known, but is not hashed.
            let busy = (transaction.facts().outcome != Outcome::Allow)
                .then(|| decision::decide(shadow, None, &self.sent, false));
            let ends = [Some(expected), busy];
            assert!(
                ends.iter().flatten().any(|end| is_told(&facts, end, &[shadow])),
                "{facts:?} instead of {ends:?}: {self:?}"
            );
        }
    }

    /// Names what was shown by this scenario.
    fn came_of_it(&self) -> Vec<String> {
        let end = self.expected();
        let mut seen = vec![end.reason.as_str().to_owned()];
        if let Some(baseline) = &self.baseline {
            let alone = |side| decision::decide(side, None, &self.sent, true).reason == Reason::Allowed;
            match (alone(&self.own), alone(baseline)) {
                (true, false) => seen.push("only the baseline refuses".to_owned()),
                (false, true) => seen.push("only the baseline admits".to_owned()),
                (true, true) => seen.push("both admit".to_owned()),
                (false, false) => {}
            }
        }
        if let Some(shadow) = &self.shadow {
            let shadow = decision::decide(shadow, None, &self.sent, true);
            match (end.reason == Reason::Allowed, shadow.reason == Reason::Allowed) {
                (true, false) => seen.push("only the shadow refuses".to_owned()),
                (false, true) => seen.push("only the shadow admits".to_owned()),
                _ => {}
            }
        }
        let Some(rule) = end
            .rule
            .filter(|_| self.baseline.is_none())
            .map(|place| &self.own.rules[place])
        else {
            return seen;
        };
        let denies = rule.written.action == Action::Deny;
        if let Some(path) = &rule.written.path {
            let kind = match path.r#type {
                PathMatchType::Exact => "Exact",
                PathMatchType::PathPrefix => "PathPrefix",
                PathMatchType::RegularExpression => "RegularExpression",
            };
            let invert = if path.invert { " inverted" } else { "" };
            seen.push(format!("{:?} by {kind}{invert}", rule.written.action));
            let targets = self.sent.lines(":path");
            if denies
                && targets
                    .first()
                    .is_some_and(|target| rule.is_literally(path, target) == path.invert)
            {
                seen.push(format!("Deny by a variant, {kind}{invert}"));
            }
        }
        if rule.condition.is_some() {
            seen.push(format!("{:?} by expression", rule.written.action));
        }
        if rule.written.jwt.is_some() {
            seen.push(format!("{:?} by claim", rule.written.action));
        }
        if !rule.written.methods.is_empty() {
            seen.push(format!("{:?} by method", rule.written.action));
        }
        if !rule.written.headers.is_empty() {
            seen.push(format!("{:?} by header", rule.written.action));
            let names = self.own.forwards();
            let is_identity = |name: &str| names.contains(&Some(rules::fold(name.as_bytes())));
            if rule.written.headers.iter().any(|header| is_identity(&header.name)) {
                seen.push(format!("{:?} by identity", rule.written.action));
            }
        }
        seen
    }
}

fn is_told(facts: &Facts<'_>, end: &End, sides: &[&Side]) -> bool {
    let outcome = match end.reason {
        Reason::Allowed => Outcome::Allow,
        Reason::CorsPreflight => Outcome::Answer,
        _ => Outcome::Deny,
    };
    let by_rule = [Reason::Allowed, Reason::AuthorizationDenied].contains(&end.reason);
    let rule = end.rule.filter(|_| by_rule).map(|place| format!("rule-{place}"));
    let policy = sides.iter().any(|side| side.document.policy == facts.policy);
    policy
        && (facts.outcome, facts.reason, facts.policy) == (outcome, end.reason, end.policy.as_str())
        && (facts.principal, facts.rule) == (end.principal.as_deref(), rule.as_deref())
}

fn compile(own: &Side, baseline: Option<&Side>, shadow: Option<&Side>) -> Policy {
    let mut document = own.document();
    document.baseline = baseline.map(|side| Box::new(side.document()));
    document.shadow = shadow.map(|side| Box::new(side.document()));
    let secrets = Secrets {
        baseline: baseline.map(|side| Box::new(side.secrets())),
        shadow: shadow.map(|side| Box::new(side.secrets())),
        ..own.secrets()
    };
    Policy::compile(&document, &secrets).unwrap()
}

/// Decides a request to `https://api.example.com` on port 8443.
pub(crate) fn decide(
    document: &[u8],
    secrets: &[u8],
    method: &str,
    headers: impl Iterator<Item = (&'static str, Vec<u8>)>,
) -> Reason {
    let pseudo = [
        (":method", method),
        (":path", "/"),
        (":authority", "api.example.com"),
        (":scheme", "https"),
    ];
    let lines = pseudo
        .into_iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.into()))
        .chain(headers.map(|(name, value)| (name.as_bytes().to_vec(), value)));
    let sent = Sent::with(lines.collect());
    let policy = decode(&seal::hash(document, secrets), document, secrets).unwrap();
    let mut transaction = Transaction::new(Arc::new(policy));
    let _ = transaction.on_request(&sent.head, &sent, &mut Worker::default());
    transaction.facts().reason
}
