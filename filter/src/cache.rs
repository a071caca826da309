//! A map bounded by bytes that drops what has not been used lately.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// A map from policy hashes to values, bounded by the sum of the values' weights.
///
/// What is dropped is chosen by second chance: the oldest entry goes unless it was used since it was last looked at, and
/// then it is looked at again after all the others. Unlike an exact order of use this costs a hit one store.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    entries: HashMap<u128, Entry<V>, BuildHasherDefault<Identity>>,
    queue: VecDeque<u128>,
    weight: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    used: bool,
}

impl<V> Cache<V> {
    /// An empty cache that holds at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::default(),
            queue: VecDeque::new(),
            weight: 0,
            limit,
        }
    }

    /// The value under a key, marked as used.
    pub(crate) fn get(&mut self, key: u128) -> Option<&V> {
        let entry = self.entries.get_mut(&key)?;
        entry.used = true;
        Some(&entry.value)
    }

    /// Inserts or replaces a value that takes about `weight` bytes, and drops others to make room.
    ///
    /// A value that exceeds the limit alone is not kept.
    pub(crate) fn insert(&mut self, key: u128, value: V, weight: usize) {
        if let Some(old) = self.entries.get_mut(&key) {
            self.weight = self.weight.saturating_sub(old.weight).saturating_add(weight);
            *old = Entry {
                value,
                weight,
                used: true,
            };
        } else {
            self.weight = self.weight.saturating_add(weight);
            let used = false;
            self.entries.insert(key, Entry { value, weight, used });
            self.queue.push_back(key);
        }
        while self.weight > self.limit {
            let Some(oldest) = self.queue.pop_front() else {
                return;
            };
            let alone = self.queue.is_empty();
            match self.entries.get_mut(&oldest) {
                Some(entry) if entry.used && !alone => {
                    entry.used = false;
                    self.queue.push_back(oldest);
                }
                Some(entry) => {
                    self.weight = self.weight.saturating_sub(entry.weight);
                    self.entries.remove(&oldest);
                }
                None => {}
            }
        }
    }
}

/// Keys are cut from SHA-256 by the controller, so they are spread already, and no client chooses them.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
        let low = key as u64;
        self.0 = low;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(cache: &Cache<&str>) -> Vec<u128> {
        let mut keys: Vec<_> = cache.entries.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_was_not_used_goes_first() {
        let mut cache = Cache::new(30);
        cache.insert(1, "a", 10);
        cache.insert(2, "b", 10);
        cache.insert(3, "c", 10);
        assert_eq!(cache.get(1), Some(&"a"));
        cache.insert(4, "d", 10);
        assert_eq!(keys(&cache), [1, 3, 4]);
        cache.insert(5, "e", 10);
        assert_eq!(keys(&cache), [1, 4, 5], "a use is one more round, not a pardon");
    }

    #[test]
    fn the_limit_holds_and_a_replaced_weight_is_given_back() {
        let mut cache = Cache::new(100);
        for key in 0..1_000 {
            cache.insert(key % 7, "v", 20 + (key as usize % 30));
            assert!(cache.weight <= 100);
            assert_eq!(
                cache.weight,
                cache.entries.values().map(|entry| entry.weight).sum::<usize>()
            );
            assert_eq!(cache.queue.len(), cache.entries.len());
        }
    }

    #[test]
    fn a_value_above_the_limit_is_not_kept() {
        let mut cache = Cache::new(10);
        cache.insert(1, "a", 5);
        cache.insert(2, "too large", 11);
        assert_eq!(cache.get(2), None);
        cache.insert(1, "a", 11);
        assert_eq!(cache.get(1), None);
        assert_eq!(cache.weight, 0);
    }
}
