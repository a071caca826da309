//! A request that verified claims send to another route, on its way to the policy of that route.

use std::{ops::Range, sync::Arc};

use crate::{
    http::RequestHead,
    policy::Policy,
    step::{RequestEdits, apply},
    transaction::Transaction,
};

/// A request that one policy has allowed, and that the policy of its new route has to decide.
#[derive(Debug)]
pub struct Rerouted {
    first: Arc<Policy>,
    head: RequestHead,
}

impl Rerouted {
    /// The head is as the client sent it. Of the edits, all count but those that took credentials away (`sanitizing`): the
    /// next policy may ask for the same ones, and its rules see the identity that the first one verified.
    pub(crate) fn new(
        first: Arc<Policy>,
        mut head: RequestHead,
        edits: &RequestEdits,
        sanitizing: &Range<usize>,
    ) -> Self {
        let (before, after) = (
            edits.headers.get(..sanitizing.start),
            edits.headers.get(sanitizing.end..),
        );
        for edits in [before, after].into_iter().flatten() {
            apply(edits, &mut head.headers);
        }
        Self { first, head }
    }

    /// Starts the transaction under the policy of the new route, with the head that it decides. Its edits are made after those
    /// of before.
    #[must_use]
    pub fn under(self, policy: Arc<Policy>) -> (Transaction, RequestHead) {
        (Transaction::after(self.first, policy), self.head)
    }
}
