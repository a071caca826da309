//! One request as the checks see it: what the proxy is asked for, and what is worked out of the head, once for all of them.

use std::cell::{Cell, OnceCell};

use crate::{
    address::ClientAddress,
    host::{Fault, Host},
    http::{RequestHead, path::Readings},
};

/// One request while it is decided.
pub(crate) struct Request<'a, H> {
    pub(crate) head: &'a RequestHead,
    pub(crate) host: &'a H,
    client: OnceCell<Result<Option<ClientAddress>, Fault>>,
    readings: OnceCell<Readings<'a>>,
    /// What is left of [`MATCHING`].
    matching: Cell<usize>,
}

/// How much matching of regular expressions one request may cause, in bytes of text times bytes of compiled expression.
const MATCHING: usize = 1 << 25;

impl<'a, H: Host> Request<'a, H> {
    pub(crate) const fn new(head: &'a RequestHead, host: &'a H) -> Self {
        Self {
            head,
            host,
            client: OnceCell::new(),
            readings: OnceCell::new(),
            matching: Cell::new(MATCHING),
        }
    }

    /// The client's address; `None` when there is none or it cannot be read.
    pub(crate) fn client(&self) -> Result<Option<ClientAddress>, Fault> {
        *self.client.get_or_init(|| ClientAddress::ask(self.host))
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
}
