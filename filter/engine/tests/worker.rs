//! What a worker remembers of passwords, and how long it may hash.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{cell::Cell, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_engine::{
    document::{Document, Secrets},
    host::{Fault, Host, Signed},
    jwt::software,
    policy::Policy,
    step::Step,
    transaction::{RequestHead, Transaction},
    worker::Worker,
};
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_790_000_000 * SECOND;
/// How long a hash takes by the clock of these tests.
const HASH: u64 = SECOND / 10;

/// `alice`'s password is `x`, as `apr1`; `bob`'s is `x` too, as SHA-1.
fn policy(salt: &str) -> Value {
    json!({
        "salt": salt,
        "users": [
            {"name": "alice", "hash": "$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS."},
            {"name": "bob", "hash": "{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI="},
            {"name": "carol", "hash": "$apr1$s$bHQMM1UunWFj8XWEuTGlW."},
        ],
    })
}

fn compile(document: Value, secrets: Value) -> Arc<Policy> {
    let document: Document = serde_json::from_value(document).unwrap();
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    Arc::new(Policy::compile(&document, &secrets).unwrap())
}

fn basic(salt: &str) -> Arc<Policy> {
    compile(json!({"version": 1, "policy": "a/b", "basicAuth": {}}), policy(salt))
}

/// A clock that stands still but while a password is hashed.
struct Clock {
    now: Cell<u64>,
    hash: Cell<u64>,
    calls: Cell<u32>,
    fails_after: Cell<u32>,
}

impl Host for Clock {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Ok(b"10.0.0.1:1".to_vec())
    }

    fn now(&self) -> Result<u64, Fault> {
        let now = self.now.get();
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == 2 {
            self.now.set(now.wrapping_add(self.hash.get()));
        }
        if self.calls.get() > self.fails_after.get() {
            return Err(Fault);
        }
        Ok(self.now.get())
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(4)
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        Ok(software::verify(signed))
    }
}

struct Place {
    worker: Worker,
    clock: Clock,
}

/// How a request ended, and whether a password was hashed for it.
type End = (&'static str, bool);
const IN: End = ("allowed", false);
const HASHED_IN: End = ("allowed", true);
const WRONG: End = ("basic_wrong", false);
const HASHED_WRONG: End = ("basic_wrong", true);
const BUSY: End = ("basic_busy", false);

impl Place {
    fn new() -> Self {
        Self {
            worker: Worker::default(),
            clock: Clock {
                now: Cell::new(START),
                hash: Cell::new(HASH),
                calls: Cell::new(0),
                fails_after: Cell::new(u32::MAX),
            },
        }
    }

    fn wait(&self, time: u64) {
        self.clock.now.set(self.clock.now.get() + time);
    }

    fn decide(&mut self, policy: &Arc<Policy>, user: &str, password: &str) -> (Transaction, Step) {
        self.clock.calls.set(0);
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        let line = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let head = RequestHead {
            geography: None,
            headers: vec![
                line(":method", "GET"),
                line(":path", "/"),
                line(":authority", "api.example.com"),
                line(":scheme", "https"),
                line("authorization", &format!("Basic {credentials}")),
            ],
        };
        let mut transaction = Transaction::new(Arc::clone(policy));
        let step = transaction.on_request(&head, &self.clock, &mut self.worker);
        (transaction, step)
    }

    fn ask(&mut self, policy: &Arc<Policy>, user: &str, password: &str) -> End {
        let (transaction, _) = self.decide(policy, user, password);
        (transaction.facts().reason.as_str(), self.clock.calls.get() > 1)
    }
}

#[test]
fn a_right_password_is_hashed_once_in_five_minutes() {
    let (mut place, policy) = (Place::new(), basic(""));
    assert_eq!(place.ask(&policy, "alice", "x"), HASHED_IN);
    for _ in 0..3 {
        assert_eq!(place.ask(&policy, "alice", "x"), IN);
        place.wait(99 * SECOND);
    }
    place.wait(3 * SECOND);
    assert_eq!(place.ask(&policy, "alice", "x"), HASHED_IN, "use does not make it last");
}

#[test]
fn a_wrong_password_is_hashed_once_in_a_minute() {
    let (mut place, policy) = (Place::new(), basic(""));
    assert_eq!(place.ask(&policy, "alice", "y"), HASHED_WRONG);
    assert_eq!(place.ask(&policy, "alice", "y"), WRONG);
    place.wait(59 * SECOND);
    assert_eq!(place.ask(&policy, "alice", "y"), WRONG);
    place.wait(2 * SECOND);
    assert_eq!(place.ask(&policy, "alice", "y"), HASHED_WRONG);
}

#[test]
fn nothing_is_remembered_across_policies_users_and_passwords() {
    let mut place = Place::new();
    let (one, other) = (basic("00"), basic("01"));
    assert_eq!(place.ask(&one, "alice", "x"), HASHED_IN);
    for (policy, user, password, end) in [
        (&other, "alice", "x", HASHED_IN),
        (&one, "carol", "x", HASHED_IN),
        (&one, "alice", "xx", HASHED_WRONG),
        (&one, "alic", "ex", HASHED_WRONG),
        (&one, "alicex", "", HASHED_WRONG),
        (&one, "nobody", "x", HASHED_WRONG),
    ] {
        place.wait(SECOND);
        assert_eq!(place.ask(policy, user, password), end, "{user}:{password}");
    }
}

#[test]
fn hashing_takes_a_fifth_of_the_time() {
    let (mut place, policy) = (Place::new(), basic(""));
    assert_eq!(
        place.ask(&policy, "nobody", "a"),
        HASHED_WRONG,
        "an unknown user costs as much"
    );
    for _ in 0..4 {
        // The first of the five is the hash itself.
        assert_eq!(place.ask(&policy, "nobody", "b"), BUSY);
        assert_eq!(place.ask(&policy, "alice", "x"), BUSY);
        assert_eq!(
            place.ask(&policy, "nobody", "a"),
            WRONG,
            "what is remembered needs no time"
        );
        place.wait(HASH);
    }
    assert_eq!(place.ask(&policy, "alice", "x"), HASHED_IN);
    assert_eq!(place.ask(&policy, "alice", "x"), IN);
    assert_eq!(
        place.ask(&basic("01"), "alice", "x"),
        BUSY,
        "all policies share the time"
    );
}

#[test]
fn guesses_at_one_policy_leave_room_for_another() {
    let (mut place, guessed, other) = (Place::new(), basic("00"), basic("01"));
    assert_eq!(place.ask(&guessed, "nobody", "a"), HASHED_WRONG);
    assert_eq!(place.ask(&other, "alice", "x"), BUSY);
    place.wait(4 * HASH);
    for guess in ["b", "c", "d"] {
        assert_eq!(place.ask(&guessed, "nobody", guess), BUSY, "another is waiting");
        place.wait(HASH);
    }
    assert_eq!(place.ask(&other, "alice", "x"), HASHED_IN);
    place.wait(4 * HASH);
    assert_eq!(place.ask(&guessed, "nobody", "b"), HASHED_WRONG);
    assert_eq!(place.ask(&other, "carol", "x"), BUSY);
    place.wait(9 * HASH);
    assert_eq!(place.ask(&guessed, "nobody", "c"), HASHED_WRONG, "it did not come back");
}

#[test]
fn policies_take_turns() {
    let mut place = Place::new();
    let policies = ["00", "01", "02", "03"].map(basic);
    let [guessed, others @ ..] = &policies;
    assert_eq!(place.ask(guessed, "nobody", "a"), HASHED_WRONG);
    for other in others {
        assert_eq!(place.ask(other, "alice", "x"), BUSY);
    }
    for (turn, next) in others.iter().enumerate() {
        place.wait(4 * HASH);
        assert_eq!(place.ask(guessed, "nobody", &turn.to_string()), BUSY, "{turn}");
        for later in others.iter().skip(turn + 1) {
            assert_eq!(place.ask(later, "alice", "x"), BUSY, "{turn}");
        }
        assert_eq!(place.ask(next, "alice", "x"), HASHED_IN, "{turn}");
    }
    place.wait(4 * HASH);
    assert_eq!(place.ask(guessed, "nobody", "b"), HASHED_WRONG);
    for other in others {
        assert_eq!(place.ask(other, "carol", "x"), BUSY);
    }
    place.wait(SECOND * 60);
    assert_eq!(place.ask(guessed, "nobody", "c"), HASHED_WRONG);
    place.wait(4 * HASH);
    assert_eq!(
        place.ask(guessed, "nobody", "d"),
        HASHED_WRONG,
        "nobody is waited for who went away"
    );
}

#[test]
fn a_baseline_and_its_route_may_both_hash_for_one_request_and_wait_for_both() {
    let covered = |own: &str| {
        compile(
            json!({
                "version": 1, "policy": own, "basicAuth": {},
                "baseline": {"version": 1, "policy": "a/baseline", "basicAuth": {}},
            }),
            {
                let mut secrets = policy("");
                secrets
                    .as_object_mut()
                    .unwrap()
                    .insert("baseline".to_owned(), policy("ff"));
                secrets
            },
        )
    };
    let (mut place, one, other) = (Place::new(), covered("a/one"), covered("a/other"));
    assert_eq!(place.ask(&one, "alice", "x"), HASHED_IN);
    // The clock of these tests moves when a request asks for the time again: the second hash is believed to take 0.1 ms.
    let mut reason = |wait, policy| {
        place.wait(wait);
        place.ask(policy, "alice", "x").0
    };
    assert_eq!(reason(0, &one), "allowed");
    assert_eq!(reason(0, &other), "basic_busy");
    assert_eq!(reason(HASH, &other), "basic_busy", "both are paid for");
    assert_eq!(reason(HASH / 100, &other), "allowed", "the baseline is remembered");
}

#[test]
fn who_is_too_early_is_told_when_to_come_back() {
    let (mut place, policy) = (Place::new(), basic(""));
    place.ask(&policy, "alice", "x");
    let (_, step) = place.decide(&policy, "alice", "y");
    let Step::Reply(reply) = step else {
        panic!("let in");
    };
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers, [(b"retry-after".to_vec(), b"1".to_vec())]);
}

#[test]
fn a_fast_hash_needs_no_time_and_its_failure_takes_as_long_as_any() {
    let (mut place, policy) = (Place::new(), basic(""));
    assert_eq!(place.ask(&policy, "nobody", "a"), HASHED_WRONG);
    assert_eq!(place.ask(&policy, "bob", "x"), IN);
    assert_eq!(place.ask(&policy, "bob", "y"), BUSY);
    place.wait(SECOND);
    assert_eq!(place.ask(&policy, "bob", "y"), HASHED_WRONG);
    let fast = compile(
        json!({"version": 1, "policy": "a/b", "basicAuth": {}}),
        json!({"salt": "", "users": [{"name": "bob", "hash": "{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI="}]}),
    );
    assert_eq!(place.ask(&fast, "bob", "y"), WRONG);
    assert_eq!(place.ask(&fast, "nobody", "y"), WRONG);
    assert_eq!(place.clock.calls.get(), 0, "nor does it ask for the time");
}

#[test]
fn a_clock_that_is_set_back_neither_opens_nor_locks() {
    let (mut place, policy) = (Place::new(), basic(""));
    assert_eq!(place.ask(&policy, "alice", "x"), HASHED_IN);
    place.clock.now.set(START - 3600 * SECOND);
    assert_eq!(place.ask(&policy, "nobody", "a"), BUSY);
    place.wait(4 * HASH);
    assert_eq!(place.ask(&policy, "nobody", "a"), BUSY);
    place.wait(HASH);
    assert_eq!(place.ask(&policy, "nobody", "a"), HASHED_WRONG);
    place.wait(SECOND);
    assert_eq!(
        place.ask(&policy, "alice", "x"),
        HASHED_IN,
        "nobody knows how old that is"
    );
}

#[test]
fn a_clock_that_is_set_during_a_hash_costs_five_seconds_at_most() {
    for step in [3600 * SECOND, 0_u64.wrapping_sub(3600 * SECOND)] {
        let (mut place, policy) = (Place::new(), basic(""));
        place.clock.hash.set(step);
        assert_eq!(place.ask(&policy, "nobody", "a"), HASHED_WRONG);
        place.clock.hash.set(HASH);
        place.clock.now.set(place.clock.now.get().min(START));
        assert_eq!(place.ask(&policy, "nobody", "b"), BUSY);
        place.wait(4 * SECOND);
        assert_eq!(place.ask(&policy, "nobody", "b"), BUSY);
        place.wait(SECOND);
        assert_eq!(place.ask(&policy, "nobody", "b"), HASHED_WRONG);
    }
}

#[test]
fn a_clock_that_fails_refuses_and_the_time_is_spent() {
    let (mut place, policy) = (Place::new(), basic(""));
    place.clock.fails_after.set(1);
    assert_eq!(place.ask(&policy, "alice", "x"), ("host_fault", true));
    place.clock.fails_after.set(u32::MAX);
    assert_eq!(place.ask(&policy, "alice", "x"), BUSY);
    place.clock.fails_after.set(0);
    assert_eq!(place.ask(&policy, "alice", "x"), ("host_fault", false));
}

#[test]
fn wrong_passwords_do_not_push_right_ones_out_and_are_bounded() {
    let (mut place, policy) = (Place::new(), basic(""));
    assert_eq!(place.ask(&policy, "alice", "x"), HASHED_IN);
    place.clock.hash.set(1000);
    place.wait(SECOND);
    for guess in 0..5000 {
        place.wait(SECOND / 1000);
        assert_eq!(place.ask(&policy, "alice", &guess.to_string()), HASHED_WRONG);
    }
    assert_eq!(place.ask(&policy, "alice", "x"), IN);
    assert_eq!(
        format!("{:?}", place.worker),
        "Worker { verified: 1, wrong: 4096, tokens: 0, .. }"
    );
    assert_eq!(place.ask(&policy, "alice", "4999"), WRONG);
    place.wait(SECOND);
    assert_eq!(place.ask(&policy, "alice", "0"), HASHED_WRONG, "the oldest went");
}

#[test]
fn a_shadow_takes_no_time_from_what_is_enforced() {
    let shadowed = |document: Value| {
        let mut document = document;
        let shadow = json!({"version": 1, "policy": "a/shadow", "basicAuth": {}});
        document.as_object_mut().unwrap().insert("shadow".to_owned(), shadow);
        compile(document, json!({"salt": "", "shadow": policy("")}))
    };
    let open = shadowed(json!({"version": 1, "policy": "a/b"}));
    let closed = shadowed(json!({
        "version": 1, "policy": "a/b", "authorization": {"defaultAction": "Deny"},
    }));
    let shadow = |place: &mut Place, policy: &Arc<Policy>, password: &str| {
        let (transaction, _) = place.decide(policy, "alice", password);
        transaction.shadow().unwrap().reason.as_str()
    };
    let mut place = Place::new();
    assert_eq!(
        shadow(&mut place, &closed, "x"),
        "basic_busy",
        "what is refused is not hashed for"
    );
    assert_eq!(shadow(&mut place, &open, "x"), "allowed");
    assert_eq!(
        shadow(&mut place, &closed, "x"),
        "allowed",
        "one policy is one policy, whatever it stands in"
    );
    assert_eq!(shadow(&mut place, &open, "x"), "allowed");
    assert_eq!(shadow(&mut place, &open, "y"), "basic_busy");
    assert_eq!(place.ask(&basic(""), "alice", "x"), HASHED_IN);
    place.wait(17 * HASH);
    assert_eq!(shadow(&mut place, &open, "y"), "basic_busy", "a twentieth of the time");
    place.wait(HASH);
    assert_eq!(shadow(&mut place, &open, "y"), "basic_wrong");
}
