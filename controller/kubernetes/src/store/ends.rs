//! Ends that let requests through, and what was taken back before them.
//!
//! A route that was deleted before its policy must not be without it because the watch of policies is ahead. Before such an end
//! is evaluated, all that lets requests through is listed: what is gone or another one by then goes with it.

use std::collections::BTreeSet;

use super::{Name, Object, Scope, Store, aside, unveils};

impl Store {
    /// Whether an end is held that may let requests through.
    pub(crate) fn holds_an_end(&self) -> bool {
        let mut held = self.held.iter();
        held.any(|((kind, _), object)| object.is_none() && unveils(kind))
    }

    /// Whether nothing older than a version that was listed is here of an object, evaluated or not. One that is gone here may
    /// have been made anew before it was listed, which its watch has yet to tell.
    pub(crate) fn is_past(&self, kind: &'static str, name: &Name, version: &str) -> bool {
        match self.newest(kind, name) {
            Some(object) => object.version == version || aside::is_later(&object.version, version),
            None => !self.is_going(kind, name),
        }
    }

    /// Whether an object is evaluated that is gone by now.
    pub(crate) fn is_going(&self, kind: &'static str, name: &Name) -> bool {
        let evaluated = self.objects.get(kind).is_some_and(|objects| objects.contains_key(name));
        evaluated && self.newest(kind, name).is_none()
    }

    /// What is here of a kind and was not listed, if it is not younger than the listing, which has a version too.
    pub(crate) fn unlisted(
        &self,
        kind: &'static str,
        scope: &Scope,
        listed: &BTreeSet<Name>,
        of_list: &str,
    ) -> BTreeSet<Name> {
        let names = self.names(kind);
        let unlisted = names.filter(|name| scope.covers(name) && !listed.contains(*name));
        unlisted
            .filter(|name| !self.is_younger(kind, name, of_list))
            .cloned()
            .collect()
    }

    /// Whether nothing is here of an object, or something later than a version.
    pub(crate) fn is_younger(&self, kind: &'static str, name: &Name, version: &str) -> bool {
        self.newest(kind, name)
            .is_none_or(|object| aside::is_later(&object.version, version))
    }

    /// Holds what arrived of a kind too, to be evaluated with the ends that are held; not what went after the listing: what was
    /// taken back before that is not known yet.
    pub(crate) fn hold_with_ends(&mut self, kind: &'static str, scope: &Scope, listed: &BTreeSet<Name>) {
        let with = |name: &Name, gone: bool| scope.covers(name) && !(gone && listed.contains(name));
        let arrived = std::mem::take(&mut self.arrived);
        for (key, object) in arrived {
            let held = key.0 == kind && with(&key.1, object.is_none());
            let place = if held { &mut self.held } else { &mut self.arrived };
            place.insert(key, object);
        }
    }

    /// An object as it came last, if it is not gone.
    fn newest(&self, kind: &'static str, name: &Name) -> Option<&Object> {
        let key = (kind, name.clone());
        let waiting = self.arrived.get(&key).or_else(|| self.held.get(&key));
        match waiting {
            Some(object) => object.as_ref(),
            None => self.objects.get(kind)?.get(name),
        }
    }
}
