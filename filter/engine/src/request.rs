//! One request as the checks see it: what the proxy is asked for, and what is worked out of the head, once for all of them.

use std::cell::OnceCell;

use crate::{
    address::ClientAddress,
    host::{Fault, Host},
    http::RequestHead,
};

/// One request while it is decided.
pub(crate) struct Request<'a, H> {
    pub(crate) head: &'a RequestHead,
    pub(crate) host: &'a H,
    client: OnceCell<Result<Option<ClientAddress>, Fault>>,
}

impl<'a, H: Host> Request<'a, H> {
    pub(crate) const fn new(head: &'a RequestHead, host: &'a H) -> Self {
        Self {
            head,
            host,
            client: OnceCell::new(),
        }
    }

    /// The client's address; `None` when there is none or it cannot be read.
    pub(crate) fn client(&self) -> Result<Option<ClientAddress>, Fault> {
        *self.client.get_or_init(|| ClientAddress::ask(self.host))
    }
}
