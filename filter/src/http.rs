//! One request: Envoy's callbacks to a [`Transaction`], and its steps back to Envoy.

use crate::counters::{self, Counters};
use crate::host::{self, HostError, Map};
use crate::keys;
use crate::parked;
use crate::policies::{self, Ready};
use crate::rerouted;
use crate::root::{Place, state};
use portcullis_engine::denial::Reason;
use portcullis_engine::geography::{Field, Geography};
use portcullis_engine::host::{Attribute, CERTIFICATES_STATE, CERTIFICATES_VERIFIED, Fact, Fault, Host, Signed};
use portcullis_engine::jwt::remote::Wait;
use portcullis_engine::policy::Policy;
use portcullis_engine::refusal;
use portcullis_engine::step::{Facts, HeaderEdit, LocalReply, Outcome, RequestEdits, Step};
use portcullis_engine::transaction::{RequestHead, ResponseHead, Transaction};
use portcullis_engine::worker::Worker;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// What counters call the policy of a request whose policy is not known.
const UNKNOWN_POLICY: &str = "unknown";

/// The HTTP context of one request.
#[derive(Debug)]
pub(crate) struct Http {
    id: u32,
    place: Place,
    /// What the proxy has databases for; `None` where it looks up nobody.
    served: Option<Vec<Field>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No policy was found yet, or none that could decide.
    Open,
    Decided(Decided),
    /// It is, or was, to wait: what is known of it is [`parked`] under its id.
    Parked,
}

/// A request with the policy that decides it.
#[derive(Debug)]
pub(crate) struct Decided {
    policy: Arc<Policy>,
    transaction: Transaction,
}

/// What a request needs to be decided.
#[derive(Debug)]
pub(crate) struct Pending {
    id: u32,
    place: Place,
    pub(crate) decided: Decided,
    head: RequestHead,
    hash: String,
    counters: Rc<Counters>,
}

/// Where a request stands after a step.
enum Progress {
    /// It is sealed and goes on.
    Admitted,
    /// It is answered.
    Answered,
    /// It must wait.
    Waits(Wait),
}

thread_local! {
    /// One per VM, and Envoy has a VM per worker.
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// Envoy as the engine sees it during one request.
struct Envoy;

impl Host for Envoy {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        host::property(b"source\0address").ok().flatten().ok_or(Fault)
    }

    fn port(&self) -> Result<Option<u16>, Fault> {
        let port = host::property(b"destination\0port").map_err(|_| Fault)?;
        let bytes: Option<[u8; 8]> = port.and_then(|port| port.try_into().ok());
        Ok(bytes.and_then(|bytes| i64::from_le_bytes(bytes).try_into().ok()))
    }

    fn now(&self) -> Result<u64, Fault> {
        host::now().map_err(|_| Fault)
    }

    fn random(&self) -> Result<u64, Fault> {
        host::random().map_err(|_| Fault)
    }

    fn attribute(&self, attribute: Attribute) -> Result<Option<Fact>, Fault> {
        let path = attribute.name().replacen('.', "\0", 1);
        let told = host::property(path.as_bytes()).map_err(|_| Fault)?;
        told.map(|bytes| attribute.read(bytes).ok_or(Fault)).transpose()
    }

    fn verifies_certificates(&self) -> Result<bool, Fault> {
        let path = format!("filter_state\0{CERTIFICATES_STATE}");
        let told = host::property(path.as_bytes()).map_err(|_| Fault)?;
        Ok(told.is_some_and(|told| told == CERTIFICATES_VERIFIED.as_bytes()))
    }

    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault> {
        host::verify_signature(signed).map_err(|_| Fault)
    }
}

impl Context for Http {}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        #[cfg(feature = "faults")]
        if crate::faults::at_start() {
            return Action::Continue;
        }
        let decided = match self.place {
            Place::First => self.decide(),
            Place::Recheck => self.decide_again(),
        };
        match decided {
            Ok(action) => action,
            Err(reason) => {
                refuse(reason);
                Action::Pause
            }
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let stripped = self.with(|decided| {
            if decided.policy.guards_trailers() {
                decided.strip_trailers()
            } else {
                Ok(())
            }
        });
        match stripped {
            Some(Err(HostError)) => {
                refuse(Reason::HostFault);
                Action::Pause
            }
            Some(Ok(())) | None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // Also runs for this filter's own answers. Request headers must not be read here: Envoy may have dropped them.
        self.with(|decided| {
            if !decided.policy.edits_responses() || rerouted::is_taken(self.id) {
                return;
            }
            for edit in &decided.transaction.on_response(&NO_HEAD).headers {
                // A header that Envoy does not take only makes the answer stricter: the browser hides the response.
                let _ = edit_header(Map::ResponseHeaders, edit);
            }
        });
        Action::Continue
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        if matches!(self.state, State::Parked) {
            parked::remove(self.id);
            keys::forget(self.id);
        }
        rerouted::remove(self.id);
    }
}

/// No check needs the response's status, and to ask for it would cost a host call.
const NO_HEAD: ResponseHead = ResponseHead { status: 0 };

impl Decided {
    fn strip_trailers(&self) -> Result<(), HostError> {
        let trailers = host::headers(Map::RequestTrailers)?;
        let edits = self.transaction.on_request_trailers(&trailers);
        edits
            .iter()
            .try_for_each(|edit| edit_header(Map::RequestTrailers, edit))
    }
}

impl Http {
    pub(crate) const fn new(id: u32, place: Place, served: Option<Vec<Field>>) -> Self {
        Self {
            id,
            place,
            served,
            state: State::Open,
        }
    }

    /// Looks at the request's policy and decision, once there are any.
    fn with<T>(&self, look: impl FnOnce(&Decided) -> T) -> Option<T> {
        match &self.state {
            State::Open => None,
            State::Decided(decided) => Some(look(decided)),
            State::Parked => parked::with(self.id, look),
        }
    }

    /// Decides the request.
    ///
    /// # Errors
    /// Why no policy could decide it, or [`Reason::HostFault`] if Envoy did not take what was decided: in either case
    /// the request is still unanswered and has no seal.
    fn decide(&mut self) -> Result<Action, Reason> {
        let hash = policies::route_hash()?;
        let ready = policies::get(&hash)?;
        let mut headers = host::headers(Map::RequestHeaders).map_err(fault)?;
        #[cfg(feature = "faults")]
        crate::faults::on_request(&headers);
        let transaction = Transaction::new(Arc::clone(&ready.policy));
        let geography = self.served.take().map(|served| {
            let mut geography = Geography::new(served);
            geography.take(&mut headers);
            geography
        });
        let head = RequestHead { headers, geography };
        self.start(ready, hash, transaction, head.without_port())
    }

    /// Decides a request that came to another route by its claims, by the policy of that route. Any other request passes: what
    /// has no seal of its route's policy is refused behind this filter.
    fn decide_again(&mut self) -> Result<Action, Reason> {
        let hash = policies::route_hash()?;
        let Some(rerouted) = rerouted::take(&hash).map_err(fault)? else {
            return Ok(Action::Continue);
        };
        // What the first decision left must not stand beside the second one.
        for name in [
            state::RULE,
            state::SHADOW_POLICY,
            state::SHADOW_REASON,
            state::SHADOW_RULE,
        ] {
            let _ = host::set_property(name, b"");
        }
        let ready = policies::get(&hash)?;
        let (transaction, head) = rerouted.under(Arc::clone(&ready.policy));
        self.start(ready, hash, transaction, head)
    }

    fn start(
        &mut self,
        ready: Ready,
        hash: String,
        transaction: Transaction,
        head: RequestHead,
    ) -> Result<Action, Reason> {
        let Ready { policy, counters } = ready;
        let mut pending = Pending {
            id: self.id,
            place: self.place,
            decided: Decided { policy, transaction },
            head,
            hash,
            counters,
        };
        let step = pending.step(Transaction::on_request);
        let progress = step.and_then(|step| pending.advance(step));
        let wait = match progress {
            Ok(Progress::Waits(wait)) => wait,
            other => {
                self.state = State::Decided(pending.decided);
                return other.map(|progress| match progress {
                    Progress::Admitted => Action::Continue,
                    Progress::Answered | Progress::Waits(_) => Action::Pause,
                });
            }
        };
        self.state = State::Parked;
        park(self.id, pending, &wait)?;
        Ok(Action::Pause)
    }
}

/// Has a request wait.
fn park(id: u32, pending: Pending, wait: &Wait) -> Result<(), Reason> {
    keys::wait(wait, id).map_err(fault)?;
    parked::insert(id, pending).map_err(fault)
}

/// Goes on with a request that has waited.
pub(crate) fn resume(id: u32) {
    // A context that Envoy does not know any more has ended.
    let Some(mut pending) = parked::take(id).filter(|_| host::set_effective_context(id).is_ok()) else {
        return;
    };
    let step = pending.step(Transaction::on_keys);
    let outcome = match step.and_then(|step| pending.advance(step)) {
        Ok(Progress::Admitted) => keep(id, pending).and_then(|()| host::continue_request()).map_err(fault),
        Ok(Progress::Answered) => keep(id, pending).map_err(fault),
        Ok(Progress::Waits(wait)) => park(id, pending, &wait),
        Err(reason) => Err(reason),
    };
    if let Err(reason) = outcome {
        refuse(reason);
    }
}

/// Keeps what is known of a request that is decided; its head is not asked for any more, and a stream may live for hours.
fn keep(id: u32, mut pending: Pending) -> Result<(), HostError> {
    pending.head = RequestHead::default();
    parked::insert(id, pending)
}

/// Lends the memory of this worker.
pub(crate) fn with_worker<T>(lend: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    WORKER.with(|worker| worker.try_borrow_mut().ok().map(|mut worker| lend(&mut worker)))
}

impl Pending {
    fn step(
        &mut self,
        go: impl FnOnce(&mut Transaction, &RequestHead, &Envoy, &mut Worker) -> Step,
    ) -> Result<Step, Reason> {
        let Self { decided, head, .. } = self;
        with_worker(|worker| go(&mut decided.transaction, head, &Envoy, worker)).ok_or(Reason::HostFault)
    }

    /// Does what the steps of the transaction say, until the request is decided or must wait.
    fn advance(&mut self, mut step: Step) -> Result<Progress, Reason> {
        loop {
            let wait = match step {
                Step::Await(wait) => wait,
                Step::Continue(edits) => {
                    apply(&edits).map_err(fault)?;
                    self.record();
                    // Once: a request that is sent on a second time has no seal for where it comes to.
                    if edits.recompute && self.place == Place::First {
                        self.send_on(&edits).map_err(fault)?;
                    }
                    if edits.clear_route_cache {
                        host::clear_route_cache().map_err(fault)?;
                    }
                    // Last: nothing that can fail may follow it.
                    host::set_property(state::SEAL, self.hash.as_bytes()).map_err(fault)?;
                    return Ok(Progress::Admitted);
                }
                Step::Reply(reply) => {
                    self.record();
                    send(&reply);
                    return Ok(Progress::Answered);
                }
            };
            let goes_on = with_worker(|worker| keys::settle(&wait, worker)).ok_or(Reason::HostFault)?;
            if !goes_on.map_err(fault)? {
                return Ok(Progress::Waits(wait));
            }
            step = self.step(Transaction::on_keys)?;
        }
    }

    /// Leaves the request to the policy of the route that its claims select.
    fn send_on(&mut self, edits: &RequestEdits) -> Result<(), HostError> {
        let Decided { policy, transaction } = &self.decided;
        let rerouted = transaction.reroute(std::mem::take(&mut self.head), edits);
        rerouted::insert(self.id, &self.hash, policy, rerouted)
    }

    /// Leaves what was decided for logs and counters.
    fn record(&self) {
        let Decided { policy, transaction } = &self.decided;
        let facts = transaction.facts();
        if let Some(shadow) = transaction.shadow() {
            record_shadow(facts.outcome, &shadow);
        }
        for refusal in transaction.counted() {
            counters::of(refusal.policy).count_shadow(facts.outcome, &refusal);
        }
        // A baseline that refuses has its own.
        if facts.policy == policy.name() {
            record(&facts, &self.counters);
        } else {
            record(&facts, &counters::of(facts.policy));
        }
    }
}

fn fault(_: HostError) -> Reason {
    Reason::HostFault
}

fn apply(edits: &RequestEdits) -> Result<(), HostError> {
    for edit in &edits.headers {
        edit_header(Map::RequestHeaders, edit)?;
    }
    Ok(())
}

fn edit_header(map: Map, edit: &HeaderEdit) -> Result<(), HostError> {
    match edit {
        HeaderEdit::Add(name, value) => host::add_header(map, name, value),
        HeaderEdit::Remove(name) => host::remove_header(map, name),
        HeaderEdit::Set(name, value) => host::set_header(map, name, value),
    }
}

/// Leaves the facts for access logs and counters; no decision depends on them.
fn record(facts: &Facts<'_>, counters: &Counters) {
    let states = [
        (state::REASON, Some(facts.reason.as_str())),
        (state::POLICY, Some(facts.policy)),
        (state::PRINCIPAL, facts.principal),
        (state::RULE, facts.rule),
    ];
    for (name, value) in states {
        if let Some(value) = value {
            let _ = host::set_property(name, value.as_bytes());
        }
    }
    counters.count(facts.outcome, facts.reason);
}

/// Leaves what the policy in shadow would have done.
fn record_shadow(enforced: Outcome, shadow: &Facts<'_>) {
    let states = [
        (state::SHADOW_REASON, Some(shadow.reason.as_str())),
        (state::SHADOW_POLICY, Some(shadow.policy)),
        (state::SHADOW_RULE, shadow.rule),
    ];
    for (name, value) in states {
        if let Some(value) = value {
            let _ = host::set_property(name, value.as_bytes());
        }
    }
    counters::of(shadow.policy).count_shadow(enforced, shadow);
}

/// Refuses a request that no policy decided.
fn refuse(reason: Reason) {
    let facts = Facts {
        policy: UNKNOWN_POLICY,
        outcome: Outcome::Deny,
        reason,
        rule: None,
        principal: None,
    };
    record(&facts, &counters::of(UNKNOWN_POLICY));
    send(&refusal::refuse(reason));
}

/// Answers the request. If Envoy does not take the answer the request stays where it is, without a seal, until its
/// stream times out.
fn send(reply: &LocalReply) {
    let details = format!("portcullis_{}", reply.reason.as_str());
    let _ = host::reply(reply.status, &details, &reply.headers, reply.body);
}
