//! What a worker remembers by digests, within bounds.

use std::collections::VecDeque;

use super::digest::{Digest256, DigestMap};

/// Values by digest, whose weights together have a limit.
///
/// What is dropped is chosen by second chance: the oldest goes unless it was used since it was last looked at.
pub(crate) struct SecondChance<V> {
    entries: DigestMap<Entry<V>>,
    queue: VecDeque<Digest256>,
    weight: usize,
    limit: usize,
}

struct Entry<V> {
    value: V,
    weight: usize,
    used: bool,
}

impl<V> SecondChance<V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: DigestMap::default(),
            queue: VecDeque::new(),
            weight: 0,
            limit,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Finds a value that `holds`, which uses it.
    pub(crate) fn get(&mut self, digest: &Digest256, holds: impl FnOnce(&V) -> bool) -> Option<&V> {
        let entry = self.entries.get_mut(digest)?;
        if !holds(&entry.value) {
            return None;
        }
        entry.used = true;
        Some(&entry.value)
    }

    /// Finds a value to change it, which uses it.
    pub(crate) fn get_mut(&mut self, digest: &Digest256) -> Option<&mut V> {
        let entry = self.entries.get_mut(digest)?;
        entry.used = true;
        Some(&mut entry.value)
    }

    /// Keeps a value. What does not `last` has no second chance.
    pub(crate) fn insert(&mut self, digest: Digest256, value: V, weight: usize, lasts: impl Fn(&V) -> bool) {
        if weight > self.limit {
            return;
        }
        let entry = Entry {
            value,
            weight,
            used: false,
        };
        match self.entries.insert(digest, entry) {
            Some(before) => self.weight = self.weight.saturating_sub(before.weight),
            None => self.queue.push_back(digest),
        }
        self.weight = self.weight.saturating_add(weight);
        while self.weight > self.limit {
            let Some(oldest) = self.queue.pop_front() else {
                return;
            };
            match self.entries.get_mut(&oldest) {
                Some(entry) if entry.used && lasts(&entry.value) => {
                    entry.used = false;
                    self.queue.push_back(oldest);
                }
                _ => {
                    let dropped = self.entries.remove(&oldest).map_or(0, |entry| entry.weight);
                    self.weight = self.weight.saturating_sub(dropped);
                }
            }
        }
    }
}
