//! What one policy makes of one request, check by check; the [`crate::transaction`] has their order.

use crate::{
    authorization::{Identity, Verdict, Verified},
    denial::Reason,
    document::{Action, Refuse},
    host::Host,
    identity::{Forwarded, IdentityHeaders, Principal},
    jwt::{Jwt, KnownToken},
    policy::Policy,
    refusal::refuse,
    request::Request,
    step::{HeaderEdit, LocalReply},
    worker::{Hashing, Worker},
};

/// The state of one policy's checks of one request.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    principal: Option<Principal>,
    token: Option<KnownToken>,
    forwarded: Forwarded,
    verdict: Option<Verdict>,
    counted: Option<Reason>,
}

impl Checks {
    pub(crate) const fn new() -> Self {
        Self {
            principal: None,
            token: None,
            forwarded: Forwarded::new(),
            verdict: None,
            counted: None,
        }
    }

    /// The verified identity, if there is one.
    pub(crate) const fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The headers that tell a backend the verified identity.
    pub(crate) const fn forwarded(&self) -> &Forwarded {
        &self.forwarded
    }

    /// Tells whether the claims of the verified token select the route.
    pub(crate) fn recomputes(&self, policy: &Policy) -> bool {
        let verified = policy.authentication.jwt().zip(self.token.as_ref());
        verified.is_some_and(|(jwt, token)| jwt.recomputes(token))
    }

    /// What the authorization rules decided, once they did.
    pub(crate) const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The reason to refuse the request, if it was only counted.
    pub(crate) const fn counted(&self) -> Option<Reason> {
        self.counted
    }

    /// The headers that tell a backend the verified identity, as edits.
    pub(crate) fn take_edits(&mut self) -> impl Iterator<Item = HeaderEdit> {
        self.forwarded.take_edits()
    }

    /// Refuses every request under a policy that could not be enforced whole.
    pub(crate) fn refusal(&mut self, policy: &Policy) -> Result<(), LocalReply> {
        match policy.refuse {
            None => Ok(()),
            Some(Refuse::PolicyInvalid) => Err(refuse(Reason::PolicyInvalid)),
            Some(Refuse::FilterTooOld) => Err(refuse(Reason::FilterTooOld)),
        }
    }

    /// Denies by the rules that need no identity.
    pub(crate) fn early_authorization(
        &mut self,
        policy: &Policy,
        request: &Request<'_, impl Host>,
        names: &IdentityHeaders,
    ) -> Result<(), LocalReply> {
        let Some(authorization) = &policy.authorization else {
            return Ok(());
        };
        let verdict = authorization
            .decide(request, identity(policy, names, None))
            .map_err(|_| refuse(Reason::HostFault))?;
        self.verdict = verdict;
        match &self.verdict {
            Some(verdict) if verdict.action == Action::Deny => Err(refuse(Reason::AuthorizationDenied)),
            _ => Ok(()),
        }
    }

    /// Refuses a request that another site may have made its user's browser send.
    pub(crate) fn csrf(&mut self, policy: &Policy, request: &Request<'_, impl Host>) -> Result<(), LocalReply> {
        let Some(csrf) = &policy.csrf else {
            return Ok(());
        };
        let Err(reason) = csrf.decide(request) else {
            return Ok(());
        };
        if reason != Reason::HostFault && csrf.only_counts(request).map_err(|_| refuse(Reason::HostFault))? {
            self.counted = Some(reason);
            return Ok(());
        }
        Err(refuse(reason))
    }

    /// Verifies the credentials.
    pub(crate) fn authentication(
        &mut self,
        policy: &Policy,
        request: &Request<'_, impl Host>,
        worker: &mut Worker,
        hashing: Hashing,
    ) -> Result<(), LocalReply> {
        let authentication = &policy.authentication;
        let identity = authentication.authenticate(&policy.id, request, worker, hashing)?;
        // It may be the second time, after a wait.
        self.forwarded = Forwarded::new();
        for (name, value) in authentication.forwarded(&identity) {
            self.forwarded.insert(name, value);
        }
        (self.principal, self.token) = identity.into_parts();
        Ok(())
    }

    /// Decides by the rules, those about identity included. `names` are the identity headers of all policies of the request,
    /// `others` those that another one set.
    pub(crate) fn authorization(
        &mut self,
        policy: &Policy,
        request: &Request<'_, impl Host>,
        names: &IdentityHeaders,
        others: &Forwarded,
    ) -> Result<(), LocalReply> {
        let Some(authorization) = &policy.authorization else {
            return Ok(());
        };
        if self.verdict.is_none() {
            let verified = Verified {
                headers: [&self.forwarded, others],
                token: self.token.as_ref(),
            };
            self.verdict = authorization
                .decide(request, identity(policy, names, Some(verified)))
                .map_err(|_| refuse(Reason::HostFault))?;
        }
        match &self.verdict {
            Some(verdict) if verdict.action == Action::Allow => Ok(()),
            verdict => {
                let mut reply = refuse(Reason::AuthorizationDenied);
                if verdict.as_ref().is_some_and(|verdict| verdict.lacks_scope) {
                    let challenge = Jwt::INSUFFICIENT_SCOPE.to_vec();
                    reply.headers.push((b"www-authenticate".to_vec(), challenge));
                }
                Err(reply)
            }
        }
    }
}

const fn identity<'a>(policy: &'a Policy, names: &'a IdentityHeaders, verified: Option<Verified<'a>>) -> Identity<'a> {
    Identity {
        names,
        policy: &policy.authentication,
        verified,
    }
}
