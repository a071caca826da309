//! Objects that are read beside their watches, which tell of the same ones sooner or later.

use std::collections::BTreeMap;

use super::{Key, Name, Scope};

/// What is being read, and what was read that its watch has not come to yet.
#[derive(Default)]
pub(super) struct Aside {
    /// What is being read, and whether a watch told of it since that began.
    reading: BTreeMap<Key, bool>,
    /// The versions that were read, of what a watch was behind with.
    ahead: BTreeMap<Key, u64>,
}

impl Aside {
    /// A read begins.
    pub(super) fn begin(&mut self, key: Key) {
        self.reading.insert(key, false);
    }

    /// A read is over. Tells whether no watch told of the object meanwhile.
    pub(super) fn end(&mut self, key: &Key) -> bool {
        self.reading.remove(key) == Some(false)
    }

    /// A read found a version, where another one, or none, was known.
    pub(super) fn read(&mut self, key: Key, version: &str, known: Option<&str>) {
        // What the watch itself told of is not compared: after a restore of the API server's data, versions are lower.
        if known == Some(version) && !self.ahead.contains_key(&key) {
            return;
        }
        match number(version) {
            Some(version) => self.ahead.insert(key, version),
            None => self.ahead.remove(&key),
        };
    }

    /// A read found nothing.
    pub(super) fn gone(&mut self, key: &Key) {
        self.ahead.remove(key);
    }

    /// A watch tells of an object as of a version. Tells whether no later one was read.
    pub(super) fn told(&mut self, key: &Key, version: &str) -> bool {
        if let Some(told) = self.reading.get_mut(key) {
            *told = true;
        }
        let read = self.ahead.get(key);
        if read.is_some_and(|read| number(version).is_some_and(|version| version < *read)) {
            return false;
        }
        self.ahead.remove(key);
        true
    }

    /// A listing is over.
    pub(super) fn listed(&mut self, kind: &str, scope: &Scope, kept: impl Fn(&Name) -> bool) {
        for ((of, name), told) in &mut self.reading {
            // It may have been deleted before the listing, of which nobody tells any more.
            *told |= *of == kind && scope.covers(name);
        }
        self.ahead.retain(|(of, name), _| *of != kind || kept(name));
    }

    /// A kind is gone.
    pub(super) fn forget(&mut self, kind: &str) {
        for ((of, _), told) in &mut self.reading {
            *told |= *of == kind;
        }
        self.ahead.retain(|(of, _), _| *of != kind);
    }
}

/// Whether a version is later than another one of the same kind. Versions are numbers that grow (Kubernetes 1.35, KEP-5504);
/// where they are not, none is later.
pub(super) fn is_later(version: &str, than: &str) -> bool {
    number(than).is_some_and(|than| number(version).is_some_and(|version| version > than))
}

fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}
