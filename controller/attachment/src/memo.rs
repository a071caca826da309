//! What was computed for the last snapshot, so that the next one costs what changed.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    mem,
    ops::Deref,
    sync::Arc,
};

/// Results of the last round and of the one that goes on, by what they are results for.
///
/// A round keeps what it asks for and nothing else, so a memo is never larger than two rounds are. A new memo gives the
/// same results, later.
#[derive(Clone, Debug)]
pub struct Memo<K, V> {
    last: HashMap<K, V>,
    now: HashMap<K, V>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self {
            last: HashMap::new(),
            now: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// The result for `key`: the one that is known if it `holds` still, or else the one that is made.
    pub fn get_or_make(&mut self, key: K, holds: impl FnOnce(&V) -> bool, make: impl FnOnce() -> V) -> V {
        let value = self.recall(&key).filter(holds).unwrap_or_else(make);
        self.keep(key, value.clone());
        value
    }

    /// The result that is known for `key`; to be kept if it is still wanted.
    pub fn recall(&mut self, key: &K) -> Option<V> {
        self.last.remove(key).or_else(|| self.now.get(key).cloned())
    }

    /// Keeps a result of this round.
    pub fn keep(&mut self, key: K, value: V) {
        self.now.insert(key, value);
    }

    /// Begins the next round: what the one that ends did not ask for is forgotten.
    pub fn turn(&mut self) {
        self.last = mem::take(&mut self.now);
    }
}

/// A shared value as a key: equal only to itself, which costs nothing to find out. Its address is not another's as long
/// as the key is there.
#[derive(Clone, Debug)]
pub struct ByAddress<T>(pub Arc<T>);

impl<T> PartialEq for ByAddress<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for ByAddress<T> {}

impl<T> Hash for ByAddress<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl<T> Deref for ByAddress<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Whether two shared values are equal; that one is the other is seen without a look inside.
#[must_use]
pub fn same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_keeps_what_it_asks_for() {
        let mut memo = Memo::default();
        let mut made = Vec::new();
        let mut get = |memo: &mut Memo<&'static str, usize>, key, input| {
            memo.get_or_make(
                key,
                |known| *known == input,
                || {
                    made.push(key);
                    input
                },
            )
        };
        assert_eq!(get(&mut memo, "a", 1), 1);
        assert_eq!(get(&mut memo, "b", 1), 1);
        memo.turn();
        assert_eq!(get(&mut memo, "a", 1), 1);
        assert_eq!(get(&mut memo, "a", 1), 1);
        memo.turn();
        assert_eq!(get(&mut memo, "a", 2), 2);
        assert_eq!(get(&mut memo, "b", 1), 1);
        assert_eq!(made, ["a", "b", "a", "b"]);
    }

    #[test]
    fn a_shared_value_is_equal_only_to_itself() {
        let (one, other) = (Arc::new(1), Arc::new(1));
        assert_eq!(ByAddress(Arc::clone(&one)), ByAddress(Arc::clone(&one)));
        assert_ne!(ByAddress(Arc::clone(&one)), ByAddress(Arc::clone(&other)));
        assert!(same(&one, &other));
    }
}
