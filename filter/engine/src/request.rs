//! One request as the checks see it: what the proxy is asked for, and what is worked out of the head, once for all of them.

use std::cell::{Cell, OnceCell};

use crate::{
    address::ClientAddress,
    host::{Attribute, Fact, Fault, Host},
    http::{RequestHead, path::Readings},
};

/// What the proxy told of an attribute, once it was asked.
type Told = OnceCell<Result<Option<Fact>, Fault>>;

/// One request while it is decided.
pub(crate) struct Request<'a, H> {
    pub(crate) head: &'a RequestHead,
    pub(crate) host: &'a H,
    address: OnceCell<Result<Vec<u8>, Fault>>,
    client: OnceCell<Option<ClientAddress>>,
    /// By the attribute's place in [`Attribute::ALL`].
    facts: OnceCell<[Told; Attribute::ALL.len()]>,
    verifies: OnceCell<Result<bool, Fault>>,
    readings: OnceCell<Readings<'a>>,
    /// What is left of [`MATCHING`].
    matching: Cell<usize>,
    /// What is left of [`WORK`].
    work: Cell<usize>,
}

/// How much matching of regular expressions one request may cause, in bytes of text times bytes of compiled expression.
const MATCHING: usize = 1 << 25;

/// How much evaluating of expressions one request may cause, in steps: one for each node and for each
/// [`WORK_BYTES`] bytes that a node looks at. Natively, all of it takes a few milliseconds.
const WORK: usize = 1 << 17;
const WORK_BYTES: usize = 32;

impl<'a, H: Host> Request<'a, H> {
    pub(crate) const fn new(head: &'a RequestHead, host: &'a H) -> Self {
        Self {
            head,
            host,
            address: OnceCell::new(),
            client: OnceCell::new(),
            facts: OnceCell::new(),
            verifies: OnceCell::new(),
            readings: OnceCell::new(),
            matching: Cell::new(MATCHING),
            work: Cell::new(WORK),
        }
    }

    /// The client's address as the proxy tells it.
    pub(crate) fn address(&self) -> Result<&[u8], Fault> {
        let told = self.address.get_or_init(|| self.host.client_address());
        told.as_deref().map_err(|fault| *fault)
    }

    /// The client's address; `None` when there is none or it cannot be read.
    pub(crate) fn client(&self) -> Result<Option<ClientAddress>, Fault> {
        let told = self.address()?;
        Ok(*self.client.get_or_init(|| ClientAddress::read(told)))
    }

    /// What the proxy knows of the request; `None` where there is no such thing. A certificate that may not be verified was
    /// never shown.
    pub(crate) fn fact(&self, attribute: Attribute) -> Result<Option<&Fact>, Fault> {
        if attribute.is_of_peer_certificate()
            && self.told(Attribute::Mtls)? == Some(&Fact::Flag(true))
            && !self.verifies_certificates()?
        {
            return Ok((attribute == Attribute::Mtls).then_some(&Fact::Flag(false)));
        }
        self.told(attribute)
    }

    /// Whether the client has shown a certificate that the proxy verified.
    pub(crate) fn has_certificate(&self) -> Result<bool, Fault> {
        match self.fact(Attribute::Mtls)? {
            None => Ok(false),
            Some(Fact::Flag(shown)) => Ok(*shown),
            Some(_) => Err(Fault),
        }
    }

    fn verifies_certificates(&self) -> Result<bool, Fault> {
        *self.verifies.get_or_init(|| self.host.verifies_certificates())
    }

    fn told(&self, attribute: Attribute) -> Result<Option<&Fact>, Fault> {
        let facts = self.facts.get_or_init(Default::default);
        let place = Attribute::ALL.iter().position(|other| *other == attribute);
        let told = place.and_then(|place| facts.get(place)).ok_or(Fault)?;
        match told.get_or_init(|| self.host.attribute(attribute)) {
            Ok(fact) => Ok(fact.as_ref()),
            Err(fault) => Err(*fault),
        }
    }

    /// Every path that may be read in the request; one empty path when it has none.
    pub(crate) fn readings(&self) -> &Readings<'a> {
        self.readings
            .get_or_init(|| Readings::of(self.head.path().unwrap_or_default()))
    }

    /// Takes the cost of matching a text from what the request may cost; `None` when that is more than is left.
    pub(crate) fn spend(&self, text: usize, expression: usize) -> Option<()> {
        let left = self.matching.get().checked_sub(text.saturating_mul(expression))?;
        self.matching.set(left);
        Some(())
    }

    /// Takes a step of an expression that looks at so many bytes from what the request may cost; `None` when that is more
    /// than is left.
    pub(crate) fn step(&self, bytes: usize) -> Option<()> {
        let left = self.work.get().checked_sub(1 + bytes / WORK_BYTES)?;
        self.work.set(left);
        Some(())
    }
}
