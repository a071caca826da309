//! Tokens that were verified lately: what a worker need not verify again.

use std::sync::Arc;

use super::verify::Token;
use crate::credential::{digest::Digest256, second_chance::SecondChance};

/// The most that the tokens of one worker may take, in bytes.
const LIMIT: usize = 8 * 1024 * 1024;
/// About what an entry takes beside its token, in bytes.
const ENTRY: usize = 256;

/// Verified tokens by the digest of everything that their verification rested on.
pub(crate) struct Tokens(SecondChance<Arc<Token>>);

impl Default for Tokens {
    fn default() -> Self {
        Self(SecondChance::new(LIMIT))
    }
}

impl Tokens {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&mut self, key: &Digest256) -> Option<Arc<Token>> {
        self.0.get(key, |_| true).map(Arc::clone)
    }

    pub(crate) fn insert(&mut self, key: Digest256, token: Arc<Token>) {
        let weight = token.weight().saturating_add(ENTRY);
        self.0.insert(key, token, weight, |_| true);
    }
}
