//! What must hold between decisions, whatever each of them is.

use std::sync::Arc;

use portcullis_engine::{
    denial::Reason,
    step::{Outcome, Step},
    transaction::{ResponseHead, Transaction},
    worker::Worker,
};

use super::{Scenario, policy::Side, request::Sent, rules::fold};

/// A decided request.
struct Decided {
    step: Step,
    transaction: Transaction,
}

impl Decided {
    fn of(own: &Side, baseline: Option<&Side>, shadow: Option<&Side>, sent: &Sent) -> Self {
        let mut transaction = Transaction::new(Arc::new(super::compile(own, baseline, shadow)));
        let step = transaction.on_request(&sent.head, sent, &mut Worker::default());
        Self { step, transaction }
    }

    fn is_let_in(&self) -> bool {
        matches!(self.step, Step::Continue(_))
    }
}

/// A shadow changes neither the answer nor an edit nor what is told of the request.
pub(super) fn shadow_changes_nothing(scenario: &Scenario) {
    if scenario.shadow.is_none() {
        return;
    }
    let Scenario {
        own,
        baseline,
        shadow,
        sent,
    } = scenario;
    let with = Decided::of(own, baseline.as_ref(), shadow.as_ref(), sent);
    let without = Decided::of(own, baseline.as_ref(), None, sent);
    assert_eq!(with.step, without.step);
    assert_eq!(with.transaction.facts(), without.transaction.facts());
    assert!(with.transaction.counted().eq(without.transaction.counted()));
    assert_eq!(with.transaction.ended(), without.transaction.ended());
    let response = ResponseHead { status: 200 };
    assert_eq!(
        with.transaction.on_response(&response),
        without.transaction.on_response(&response)
    );
    let headers = &sent.head.headers;
    assert_eq!(
        with.transaction.on_request_trailers(headers),
        without.transaction.on_request_trailers(headers)
    );
    assert!(with.transaction.shadow().is_some() && without.transaction.shadow().is_none());
}

/// A request is let in by a policy with a baseline if and only if each of them alone lets it in.
pub(super) fn both_must_admit(scenario: &Scenario) {
    let Scenario {
        own,
        baseline: Some(baseline),
        sent,
        ..
    } = scenario
    else {
        return;
    };
    // A rule about what the other one verifies means something else without it.
    let asks = |rules: &Side, verified: &Side| {
        let headers = rules.rules.iter().flat_map(|rule| &rule.written.headers);
        let mut names = headers.map(|header| Some(fold(header.name.as_bytes())));
        // Expressions ask for the subject.
        let [.., subject] = verified.forwards();
        names.any(|name| verified.forwards().contains(&name))
            || (subject.is_some() && rules.rules.iter().any(|rule| rule.condition.is_some()))
    };
    if asks(own, baseline) || asks(baseline, own) {
        return;
    }
    let both = Decided::of(own, Some(baseline), None, sent);
    let alone = [own, baseline].map(|side| Decided::of(side, None, None, sent));
    let is_preflight = alone[0].transaction.facts().outcome == Outcome::Answer;
    if !is_preflight {
        assert_eq!(both.is_let_in(), alone.iter().all(Decided::is_let_in), "{scenario:?}");
    }
}

/// A rule that did not decide may be left out.
pub(super) fn other_rules_do_not_matter(scenario: &Scenario) {
    let Scenario {
        own, baseline, sent, ..
    } = scenario;
    let before = Decided::of(own, baseline.as_ref(), None, sent);
    let facts = before.transaction.facts();
    let is_settled = match facts.reason {
        Reason::Allowed => true,
        Reason::AuthorizationDenied => baseline.is_none(),
        _ => false,
    };
    if !is_settled {
        return;
    }
    for (place, rule) in own.rules.iter().enumerate() {
        // The answer to whom nothing but a scope keeps out says so.
        let is_about_scopes = rule.written.jwt.as_ref().is_some_and(|jwt| !jwt.scopes.is_empty());
        if facts.rule != Some(&rule.written.name) && !is_about_scopes {
            let after = Decided::of(&own.without_rule(place), baseline.as_ref(), None, sent);
            assert_eq!(after.step, before.step, "without {}: {scenario:?}", rule.written.name);
            // Without a rule about who calls, it may be plain sooner that the request is refused whoever does.
            if after.transaction.ended() == before.transaction.ended() {
                assert_eq!(after.transaction.facts().rule, facts.rule, "{scenario:?}");
            }
        }
    }
}

/// What a worker remembers of some requests is nothing to others: two scenarios by turns in one worker end as each alone.
pub(super) fn a_worker_keeps_policies_apart(one: &Scenario, other: &Scenario) {
    let mut worker = Worker::default();
    for turn in 0..4 {
        let scenario = if turn % 2 == 0 { one } else { other };
        let policy = scenario.compile();
        // The share of hashing is over.
        let sent = scenario.sent.after(turn * 10);
        let mut transaction = Transaction::new(policy);
        let _ = transaction.on_request(&sent.head, &sent, &mut worker);
        scenario.check_facts(&transaction);
    }
}
