//! One request from its head to its response: the order of the checks.
//!
//! ```text
//! let mut transaction = Transaction::new(policy);
//! match transaction.on_request(&head, &host, &mut worker) {
//!     Step::Continue(edits) => ...   // apply the edits, seal the request, let it go on
//!     Step::Reply(reply) => ...      // answer; the request goes nowhere
//!     Step::Await(wait) => ...       // hold it until the worker has newer keys, then transaction.on_keys(...)
//! }
//! let facts = transaction.facts();                // for the access log and metrics
//! let edits = transaction.on_response(&response); // on every response, our own replies included
//! ```
//!
//! Edits that say `recompute` send the request to a route that its verified claims select. The policy of that route decides
//! anew, before the request goes on:
//!
//! ```text
//! let rerouted = transaction.reroute(head, &edits);
//! let (transaction, head) = rerouted.under(policy);
//! match transaction.on_request(&head, &host, &mut worker) { ... }
//! ```

use std::{fmt, ops::Range, sync::Arc};

use crate::{
    checks::Checks,
    cors::Exchange,
    credential::{digest::Digest256, source::sanitize},
    denial::Reason,
    host::Host,
    http::{
        header::{is_envoy, is_written_by_envoy},
        path::hides_step,
    },
    identity::Principal,
    jwt::remote::Why,
    policy::Policy,
    refusal::refuse,
    request::Request,
    rerouted::Rerouted,
    step::{Facts, HeaderEdit, LocalReply, Outcome, RequestEdits, ResponseEdits, Step},
    worker::{Hashing, Worker},
};

pub use crate::http::{RequestHead, ResponseHead};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Refuses a path that can be read in two ways, and removes the headers that a client must not send.
    StripIdentity,
    /// Answers a preflight.
    Preflight,
    /// Denies by the rules that need no identity, before any credential is looked at.
    EarlyAuthorization,
    /// Refuses what another site may have made a browser send.
    Csrf,
    /// Verifies credentials.
    Authentication,
    /// Decides by the rules.
    Authorization,
    /// Writes the request that goes upstream.
    Edits,
    /// Ended: the request went on.
    Allowed,
    /// Ended: the request was answered or refused.
    Replied,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StripIdentity => "strip-identity",
            Self::Preflight => "preflight",
            Self::EarlyAuthorization => "early-authorization",
            Self::Csrf => "csrf",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Edits => "edits",
            Self::Allowed => "allowed",
            Self::Replied => "replied",
        })
    }
}

/// The state of one request.
#[derive(Debug)]
pub struct Transaction {
    policy: Arc<Policy>,
    stage: Stage,
    ended: Stage,
    edits: RequestEdits,
    cors: Option<Exchange>,
    own: Checks,
    baseline: Checks,
    at: Party,
    outcome: Outcome,
    reason: Reason,
    shadow: Option<Box<Self>>,
    /// What the request has waited for.
    waited: Vec<(Digest256, Why)>,
    /// The edits that removed credentials.
    sanitizing: Range<usize>,
    /// The policy of the route that the request was selected for first, if this is not the first.
    first: Option<Arc<Policy>>,
}

/// Whose checks a transaction is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Own,
    Baseline,
}

impl Transaction {
    /// Starts a transaction. Until it is decided, it counts as refused.
    #[must_use]
    pub const fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            stage: Stage::StripIdentity,
            ended: Stage::StripIdentity,
            edits: RequestEdits {
                headers: Vec::new(),
                clear_route_cache: false,
                recompute: false,
            },
            cors: None,
            own: Checks::new(),
            baseline: Checks::new(),
            at: Party::Own,
            outcome: Outcome::Deny,
            reason: Reason::HostFault,
            shadow: None,
            waited: Vec::new(),
            sanitizing: 0..0,
            first: None,
        }
    }

    /// Starts the transaction of a request that claims brought to the route of this policy; `first` is the policy that
    /// verified them.
    pub(crate) fn after(first: Arc<Policy>, policy: Arc<Policy>) -> Self {
        Self {
            first: Some(first),
            ..Self::new(policy)
        }
    }

    /// Sends an allowed request with these edits, the transaction's own, to the route that its claims select.
    #[must_use]
    pub fn reroute(&self, head: RequestHead, edits: &RequestEdits) -> Rerouted {
        Rerouted::new(Arc::clone(&self.policy), head, edits, &self.sanitizing)
    }

    /// Returns where the transaction stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns the stage that refused or answered the request; [`Stage::Allowed`] if it went on.
    #[must_use]
    pub const fn ended(&self) -> Stage {
        match self.stage {
            Stage::Replied => self.ended,
            stage => stage,
        }
    }

    /// Decides the request. A second head is refused with [`Reason::HostFault`]: no proxy sends one.
    pub fn on_request(&mut self, head: &RequestHead, host: &impl Host, worker: &mut Worker) -> Step {
        if self.stage != Stage::StripIdentity {
            return self.reply(refuse(Reason::HostFault));
        }
        self.go_on(head, host, worker)
    }

    /// Goes on with a request that was to wait ([`Step::Await`]): the worker holds newer keys, or there are none. The head is that
    /// of before. Where the request does not wait, it is refused with [`Reason::HostFault`].
    pub fn on_keys(&mut self, head: &RequestHead, host: &impl Host, worker: &mut Worker) -> Step {
        if self.stage != Stage::Authentication || self.waited.is_empty() {
            return self.reply(refuse(Reason::HostFault));
        }
        self.go_on(head, host, worker)
    }

    fn go_on(&mut self, head: &RequestHead, host: &impl Host, worker: &mut Worker) -> Step {
        let request = Request::new(head, host);
        worker.begin();
        worker.remote_keys().begin(&self.waited, true);
        let step = self.decide(&request, worker, Hashing::Enforced);
        if let Step::Await(_) = step {
            return step;
        }
        worker.remote_keys().end();
        // Afterwards, so that it takes nothing from what is enforced.
        if let Some(policy) = &self.policy.shadow {
            let mut shadow = Box::new(Self::new(Arc::clone(policy)));
            // What is refused anyway must not use up the time of what is not.
            let hashing = if self.outcome == Outcome::Allow {
                Hashing::Shadow
            } else {
                Hashing::Never
            };
            let _ = shadow.decide(&request, worker, hashing);
            self.shadow = Some(shadow);
        }
        step
    }

    fn decide(&mut self, request: &Request<'_, impl Host>, worker: &mut Worker, hashing: Hashing) -> Step {
        let head = request.head;
        let policy = Arc::clone(&self.policy);
        if self.waited.is_empty() {
            self.cors = self.policy.cors.as_ref().map(|cors| cors.on_request(head));
            if let Err(reply) = self.each(Checks::refusal) {
                return self.reply(reply);
            }
        }
        loop {
            let next = match self.stage {
                Stage::StripIdentity => self.strip_identity(head),
                Stage::Preflight => self.preflight(),
                Stage::EarlyAuthorization => self
                    .each(|checks, own| checks.early_authorization(own, request, &policy.identity_headers))
                    .map(|()| Stage::Csrf),
                Stage::Csrf => self
                    .each(|checks, policy| checks.csrf(policy, request))
                    .map(|()| Stage::Authentication),
                Stage::Authentication => self
                    .each(|checks, policy| checks.authentication(policy, request, worker, hashing))
                    .map(|()| Stage::Authorization),
                Stage::Authorization => self.authorization(request),
                Stage::Edits => self.write_edits(head),
                Stage::Allowed => return Step::Continue(std::mem::take(&mut self.edits)),
                Stage::Replied => Err(refuse(Reason::HostFault)),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(reply) => {
                    let wanted = worker.remote_keys().take_wanted();
                    // Keys that an alternative would have needed are not what a later check lacks.
                    let Some(wait) = wanted.filter(|_| self.stage == Stage::Authentication) else {
                        return self.reply(reply);
                    };
                    self.waited.push((*wait.source.digest(), wait.why));
                    return Step::Await(wait);
                }
            }
        }
    }

    /// Runs a check of the baseline, if there is one, and then of the own policy: both must pass.
    fn each(
        &mut self,
        mut check: impl FnMut(&mut Checks, &Policy) -> Result<(), LocalReply>,
    ) -> Result<(), LocalReply> {
        if let Some(baseline) = &self.policy.baseline {
            self.at = Party::Baseline;
            check(&mut self.baseline, baseline)?;
        }
        self.at = Party::Own;
        check(&mut self.own, &self.policy)
    }

    /// Removes identity headers from request trailers; ask [`Policy::guards_trailers`] first whether that can matter.
    #[must_use]
    pub fn on_request_trailers(&self, trailers: &[(Vec<u8>, Vec<u8>)]) -> Vec<HeaderEdit> {
        let mut edits = Vec::new();
        for (name, _) in trailers {
            if self.policy.identity_headers.contains(name) {
                remove_once(name, &mut edits);
            }
        }
        edits
    }

    /// Writes the response's headers; for the proxy's own replies too.
    pub fn on_response(&self, _head: &ResponseHead) -> ResponseEdits {
        let mut edits = ResponseEdits::default();
        if let (Some(cors), Some(exchange)) = (&self.policy.cors, &self.cors) {
            cors.on_response(exchange, &mut edits.headers);
        }
        edits
    }

    /// Returns what the policy in shadow would have done, if there is one and the request was decided.
    #[must_use]
    pub fn shadow(&self) -> Option<Facts<'_>> {
        self.shadow.as_deref().map(Self::facts)
    }

    /// Iterates over the refusals that were only counted, as `csrf.shadowFraction` asks for: one a policy at most.
    pub fn counted(&self) -> impl Iterator<Item = Facts<'_>> {
        let baseline = self.policy.baseline.as_deref().map(|policy| (policy, &self.baseline));
        let policies = baseline.into_iter().chain([(&*self.policy, &self.own)]);
        policies.filter_map(|(policy, checks)| {
            checks.counted().map(|reason| Facts {
                policy: policy.name(),
                outcome: Outcome::Deny,
                reason,
                rule: None,
                principal: None,
            })
        })
    }

    /// Returns what is known about the request: on a refusal by the policy that refused, else by the route's own.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let (policy, at, other) = match (self.at, &self.policy.baseline) {
            (Party::Baseline, Some(baseline)) => (&**baseline, &self.baseline, &self.own),
            _ => (&*self.policy, &self.own, &self.baseline),
        };
        let by_rule = matches!(self.reason, Reason::Allowed | Reason::AuthorizationDenied);
        Facts {
            policy: policy.name(),
            outcome: self.outcome,
            reason: self.reason,
            rule: at
                .verdict()
                .filter(|_| by_rule)
                .and_then(|verdict| verdict.rule.as_deref()),
            principal: at.principal().or_else(|| other.principal()).map(Principal::name),
        }
    }

    fn strip_identity(&mut self, head: &RequestHead) -> Result<Stage, LocalReply> {
        if head.path().is_some_and(hides_step) {
            return Err(refuse(Reason::PathAmbiguous));
        }
        let identity = &self.policy.identity_headers;
        for (name, _) in &head.headers {
            if identity.contains(name) {
                remove_once(name, &mut self.edits.headers);
                self.edits.clear_route_cache = true;
            } else if is_envoy(name) && !is_written_by_envoy(name) {
                remove_once(name, &mut self.edits.headers);
            }
        }
        identity.clean_connection(head, &mut self.edits.headers);
        Ok(Stage::Preflight)
    }

    fn preflight(&self) -> Result<Stage, LocalReply> {
        match &self.cors {
            Some(exchange) if exchange.is_preflight() && exchange.is_denied() => Err(refuse(Reason::CorsOriginDenied)),
            Some(exchange) if exchange.is_preflight() => Err(refuse(Reason::CorsPreflight)),
            _ => Ok(Stage::EarlyAuthorization),
        }
    }

    fn authorization(&mut self, request: &Request<'_, impl Host>) -> Result<Stage, LocalReply> {
        let names = &self.policy.identity_headers;
        if let Some(baseline) = &self.policy.baseline {
            self.at = Party::Baseline;
            self.baseline
                .authorization(baseline, request, names, self.own.forwarded())?;
        }
        self.at = Party::Own;
        self.own
            .authorization(&self.policy, request, names, self.baseline.forwarded())?;
        Ok(Stage::Edits)
    }

    fn write_edits(&mut self, head: &RequestHead) -> Result<Stage, LocalReply> {
        let policy = Arc::clone(&self.policy);
        // What the policy before removed must not come back by what this one makes of the same head.
        let first = self.first.as_deref();
        let policies = [
            first.and_then(|policy| policy.baseline.as_deref()),
            first,
            policy.baseline.as_deref(),
            Some(&*policy),
        ];
        let sources = policies
            .iter()
            .flatten()
            .flat_map(|policy| policy.authentication.sanitized(head));
        let before = self.edits.headers.len();
        sanitize(&sources, head, &mut self.edits.headers);
        self.sanitizing = before..self.edits.headers.len();
        let baseline = policy.baseline.as_deref().map(|policy| (policy, &self.baseline));
        if baseline
            .into_iter()
            .chain([(&*policy, &self.own)])
            .any(|(policy, checks)| checks.recomputes(policy))
        {
            self.edits.recompute = true;
            self.edits.clear_route_cache = true;
        }
        // Last: a source may have the name of the header that carries the id. The route's own policy has the last word.
        let own = &policy.authentication;
        let others = self.baseline.take_edits().filter(|edit| !own.sets(edit.name()));
        self.edits.headers.extend(others);
        self.edits.headers.extend(self.own.take_edits());
        self.outcome = Outcome::Allow;
        self.reason = Reason::Allowed;
        Ok(Stage::Allowed)
    }

    fn reply(&mut self, reply: LocalReply) -> Step {
        self.ended = self.stage;
        self.stage = Stage::Replied;
        self.outcome = if reply.reason == Reason::CorsPreflight {
            Outcome::Answer
        } else {
            Outcome::Deny
        };
        self.reason = reply.reason;
        Step::Reply(reply)
    }
}

/// Repeated lines are mostly neighbours; looking further back would make many names a quadratic cost.
fn remove_once(name: &[u8], edits: &mut Vec<HeaderEdit>) {
    let known = edits
        .iter()
        .rev()
        .take(8)
        .any(|edit| matches!(edit, HeaderEdit::Remove(other) if **other == *name));
    if !known {
        edits.push(HeaderEdit::remove(name.to_vec()));
    }
}
