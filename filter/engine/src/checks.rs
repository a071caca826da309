//! What one policy makes of one request, check by check; the [`crate::transaction`] has their order.

use crate::{
    authorization::Verdict,
    denial::Reason,
    document::{Action, Refuse},
    host::Host,
    identity::{Forwarded, Principal},
    policy::Policy,
    request::Request,
    step::{HeaderEdit, LocalReply},
    transaction::refuse,
    worker::Worker,
};

/// The state of one policy's checks of one request.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    principal: Option<Principal>,
    forwarded: Forwarded,
    verdict: Option<Verdict>,
}

impl Checks {
    pub(crate) const fn new() -> Self {
        Self {
            principal: None,
            forwarded: Forwarded::new(),
            verdict: None,
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

    /// What the authorization rules decided, once they did.
    pub(crate) const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
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
    ) -> Result<(), LocalReply> {
        let Some(authorization) = &policy.authorization else {
            return Ok(());
        };
        let verdict = authorization
            .decide(request, None)
            .map_err(|_| refuse(Reason::HostFault))?;
        self.verdict = verdict;
        match &self.verdict {
            Some(verdict) if verdict.action == Action::Deny => Err(refuse(Reason::AuthorizationDenied)),
            _ => Ok(()),
        }
    }

    /// Verifies the credentials.
    pub(crate) fn authentication(
        &mut self,
        policy: &Policy,
        request: &Request<'_, impl Host>,
        _worker: &mut Worker,
    ) -> Result<(), LocalReply> {
        if let Some(api_keys) = &policy.api_keys {
            let client = api_keys.authenticate(request.head).map_err(|reason| LocalReply {
                headers: vec![(b"www-authenticate".to_vec(), api_keys.challenge().to_vec())],
                ..refuse(reason)
            })?;
            let principal = self.principal.insert(Principal::of_api_client(client));
            if let Some(name) = api_keys.forward() {
                self.forwarded.insert(name, principal.name().as_bytes());
            }
        }
        Ok(())
    }

    /// Decides by the rules, those about identity included. `others` are the identity headers that another policy of the
    /// same request sets.
    pub(crate) fn authorization(
        &mut self,
        policy: &Policy,
        request: &Request<'_, impl Host>,
        others: &Forwarded,
    ) -> Result<(), LocalReply> {
        let Some(authorization) = &policy.authorization else {
            return Ok(());
        };
        if self.verdict.is_none() {
            self.verdict = authorization
                .decide(request, Some([&self.forwarded, others]))
                .map_err(|_| refuse(Reason::HostFault))?;
        }
        match &self.verdict {
            Some(verdict) if verdict.action == Action::Allow => Ok(()),
            _ => Err(refuse(Reason::AuthorizationDenied)),
        }
    }
}
