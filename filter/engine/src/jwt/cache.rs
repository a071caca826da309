//! Tokens that were verified lately: what a worker need not verify again.

use std::{collections::VecDeque, sync::Arc};

use super::verify::Token;
use crate::credential::digest::{Digest256, DigestMap};

/// The most that the tokens of one worker may take, in bytes.
const LIMIT: usize = 8 * 1024 * 1024;
/// About what an entry takes beside its token, in bytes.
const ENTRY: usize = 256;

/// Verified tokens by the digest of everything that their verification rested on.
///
/// What is dropped is chosen by second chance: the oldest goes unless it was used since it was last looked at.
#[derive(Default)]
pub(crate) struct Tokens {
    entries: DigestMap<Entry>,
    queue: VecDeque<Digest256>,
    weight: usize,
}

struct Entry {
    token: Arc<Token>,
    weight: usize,
    used: bool,
}

impl Tokens {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&mut self, key: &Digest256) -> Option<Arc<Token>> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        Some(Arc::clone(&entry.token))
    }

    pub(crate) fn insert(&mut self, key: Digest256, token: Arc<Token>) {
        let weight = token.weight().saturating_add(ENTRY);
        if weight > LIMIT || self.entries.contains_key(&key) {
            return;
        }
        while self.weight.saturating_add(weight) > LIMIT {
            let Some(oldest) = self.queue.pop_front() else {
                return;
            };
            match self.entries.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.queue.push_back(oldest);
                }
                _ => {
                    if let Some(entry) = self.entries.remove(&oldest) {
                        self.weight = self.weight.saturating_sub(entry.weight);
                    }
                }
            }
        }
        self.weight = self.weight.saturating_add(weight);
        self.queue.push_back(key);
        let used = false;
        self.entries.insert(key, Entry { token, weight, used });
    }
}
