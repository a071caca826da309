//! One request from its head to its response: the order of the checks.
//!
//! ```text
//! let mut transaction = Transaction::new(policy);
//! match transaction.on_request(&head, &host, &mut worker) {
//!     Step::Continue(edits) => ...   // apply the edits, seal the request, let it go on
//!     Step::Reply(reply) => ...      // answer; the request goes nowhere
//! }
//! let facts = transaction.facts();                // for the access log and metrics
//! let edits = transaction.on_response(&response); // on every response, our own replies included
//! ```

use std::{fmt, sync::Arc};

use crate::{
    address::ClientAddress,
    cors::Exchange,
    denial::Reason,
    document::{Action, Refuse},
    host::Host,
    http::{
        header::{is_envoy, is_written_by_envoy},
        path::hides_step,
    },
    identity::Principal,
    policy::Policy,
    step::{Facts, HeaderEdit, LocalReply, Outcome, RequestEdits, ResponseEdits, Step},
    worker::Worker,
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
    edits: RequestEdits,
    cors: Option<Exchange>,
    principal: Option<Principal>,
    verdict: Option<crate::authorization::Verdict>,
    outcome: Outcome,
    reason: Reason,
}

impl Transaction {
    /// Starts a transaction. Until it is decided, it counts as refused.
    #[must_use]
    pub const fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            stage: Stage::StripIdentity,
            edits: RequestEdits {
                headers: Vec::new(),
                clear_route_cache: false,
            },
            cors: None,
            principal: None,
            verdict: None,
            outcome: Outcome::Deny,
            reason: Reason::HostFault,
        }
    }

    /// Returns where the transaction stands.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Decides the request. A second head is refused with [`Reason::HostFault`]: no proxy sends one.
    pub fn on_request(&mut self, head: &RequestHead, host: &impl Host, _worker: &mut Worker) -> Step {
        if self.stage != Stage::StripIdentity {
            return self.reply(refuse(Reason::HostFault));
        }
        self.cors = self.policy.cors.as_ref().map(|cors| cors.on_request(head));
        if let Some(refused) = self.policy.refuse {
            return self.reply(refuse(match refused {
                Refuse::PolicyInvalid => Reason::PolicyInvalid,
                Refuse::FilterTooOld => Reason::FilterTooOld,
            }));
        }
        loop {
            let next = match self.stage {
                Stage::StripIdentity => self.strip_identity(head),
                Stage::Preflight => self.preflight(),
                Stage::EarlyAuthorization => self.early_authorization(host),
                Stage::Authentication => self.authentication(head),
                Stage::Authorization => self.authorization(),
                Stage::Edits => self.write_edits(head),
                Stage::Allowed => return Step::Continue(std::mem::take(&mut self.edits)),
                Stage::Replied => Err(refuse(Reason::HostFault)),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(reply) => return self.reply(reply),
            }
        }
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
    pub const fn shadow(&self) -> Option<Facts<'_>> {
        None
    }

    /// Returns what is known about the request.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let by_rule = matches!(self.reason, Reason::Allowed | Reason::AuthorizationDenied);
        Facts {
            policy: self.policy.name(),
            outcome: self.outcome,
            reason: self.reason,
            rule: self
                .verdict
                .as_ref()
                .filter(|_| by_rule)
                .and_then(|verdict| verdict.rule.as_deref()),
            principal: self.principal.as_ref().map(Principal::name),
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

    fn early_authorization(&mut self, host: &impl Host) -> Result<Stage, LocalReply> {
        let Some(authorization) = &self.policy.authorization else {
            return Ok(Stage::Authentication);
        };
        let client = if authorization.needs_address() {
            ClientAddress::ask(host).map_err(|_| refuse(Reason::HostFault))?
        } else {
            None
        };
        let verdict = self.verdict.insert(authorization.decide(client));
        match verdict.action {
            Action::Allow => Ok(Stage::Authentication),
            Action::Deny => Err(refuse(Reason::AuthorizationDenied)),
        }
    }

    fn authentication(&mut self, head: &RequestHead) -> Result<Stage, LocalReply> {
        if let Some(api_keys) = &self.policy.api_keys {
            let client = api_keys.authenticate(head).map_err(|reason| LocalReply {
                headers: vec![(b"www-authenticate".to_vec(), api_keys.challenge().to_vec())],
                ..refuse(reason)
            })?;
            self.principal = Some(Principal::of_api_client(client));
        }
        Ok(Stage::Authorization)
    }

    fn authorization(&self) -> Result<Stage, LocalReply> {
        match (&self.policy.authorization, &self.verdict) {
            (None, _) => Ok(Stage::Edits),
            (Some(_), Some(verdict)) if verdict.action == Action::Allow => Ok(Stage::Edits),
            (Some(_), _) => Err(refuse(Reason::AuthorizationDenied)),
        }
    }

    fn write_edits(&mut self, head: &RequestHead) -> Result<Stage, LocalReply> {
        if let Some(api_keys) = &self.policy.api_keys {
            api_keys.sanitize(head, &mut self.edits.headers);
            // Last: a source may have the name of the header that carries the id.
            if let (Some(name), Some(principal)) = (api_keys.forward(), &self.principal) {
                self.edits
                    .headers
                    .push(HeaderEdit::set(name.to_vec(), principal.name().as_bytes().to_vec()));
            }
        }
        self.outcome = Outcome::Allow;
        self.reason = Reason::Allowed;
        Ok(Stage::Allowed)
    }

    fn reply(&mut self, reply: LocalReply) -> Step {
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

/// Makes the answer that a reason calls for, as an adapter gives it when there is no policy to decide by.
#[must_use]
pub const fn refuse(reason: Reason) -> LocalReply {
    let (status, body): (u16, &'static [u8]) = match reason {
        Reason::CorsPreflight => (200, b""),
        Reason::ApiKeyExpired | Reason::ApiKeyMissing | Reason::ApiKeyUnknown | Reason::CredentialMissing => {
            (401, b"Client authentication failed.")
        }
        Reason::BasicMalformed | Reason::BasicMissing | Reason::BasicWrong => (401, b"User authentication failed."),
        Reason::CsrfOriginDenied | Reason::CsrfOriginMissing => (403, b"Invalid origin"),
        Reason::BasicBusy => (503, b""),
        Reason::AuthorizationDenied => (403, b"RBAC: access denied"),
        Reason::CorsOriginDenied => (403, b""),
        Reason::PathAmbiguous => (400, b""),
        Reason::HostFault => (503, b""),
        // `Allowed` is no reason to answer: whoever does so has a fault.
        Reason::Allowed
        | Reason::FilterTooOld
        | Reason::PolicyInvalid
        | Reason::PolicyMismatch
        | Reason::PolicyMissing
        | Reason::PolicyUndecodable
        | Reason::PolicyUnknown => (500, b""),
    };
    LocalReply {
        status,
        headers: Vec::new(),
        body,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answered_preflight_is_no_refusal() {
        for reason in Reason::ALL {
            let reply = refuse(*reason);
            assert_eq!(reply.reason, *reason);
            let expected: (u16, &[u8]) = match reason.as_str() {
                "cors_preflight" => (200, b""),
                "api_key_expired" | "api_key_missing" | "api_key_unknown" | "credential_missing" => {
                    (401, b"Client authentication failed.")
                }
                "basic_malformed" | "basic_missing" | "basic_wrong" => (401, b"User authentication failed."),
                "csrf_origin_denied" | "csrf_origin_missing" => (403, b"Invalid origin"),
                "authorization_denied" => (403, b"RBAC: access denied"),
                "cors_origin_denied" => (403, b""),
                "path_ambiguous" => (400, b""),
                "basic_busy" | "host_fault" => (503, b""),
                _ => (500, b""),
            };
            assert_eq!((reply.status, reply.body), expected, "{reason:?}");
        }
    }
}
