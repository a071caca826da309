//! Which virtual hosts of one route table are at fault when a proxy rejects the table as a whole.
//!
//! A proxy takes a table whole or not at all, so one virtual host that it cannot take would hold back the changes of
//! all others. What is known is kept by content: a virtual host is *proven* once every proxy took it, *convicted* once
//! a rejection can be due to nothing else, and *unproven* in between. Until a table is rejected everything unproven is
//! tried at once, so in ordinary times nothing here delays anything. After a rejection, the unproven ones are tried in
//! halves, the rest answering 500 meanwhile.
//!
//! * A convicted virtual host is found in at most `2 + log2 n` rejections and acknowledgements, for `n` unproven ones.
//! * Two rejections in a row are followed by a table without anything unproven in it, unless the culprit is found, and
//!   three in any case. So every change takes effect, as itself or as a 500, at the latest with the third table after
//!   the first rejection, however many changed: a revocation is never held back by another's fault.
//! * Who was convicted, or changed while under suspicion, is tried only after everybody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Tables that may be on their way at once; older ones are only worth less knowledge.
const REMEMBERED: usize = 8;

/// Content hashes of virtual hosts, by name.
pub(crate) type Contents = BTreeMap<String, String>;

/// The state of one route table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bisection {
    current: Contents,
    proven: Contents,
    convicted: Contents,
    distrusted: BTreeSet<String>,
    search: Option<Search>,
    rejections: usize,
    pushes: VecDeque<Push>,
    refused: VecDeque<String>,
}

#[derive(Clone, Debug, Default)]
struct Search {
    /// What the next table holds of the unproven.
    test: Contents,
    /// What is at fault if the test is not; empty if nothing is known.
    rest: Contents,
    /// Whether the next table holds nothing unproven at all.
    ground: bool,
}

#[derive(Clone, Debug)]
struct Push {
    version: String,
    real: Contents,
}

impl Bisection {
    /// Returns the virtual hosts of the current table that are to answer 500 in the next one.
    pub(crate) fn plan(&mut self, current: &Contents) -> BTreeSet<String> {
        self.current.clone_from(current);
        self.proven.retain(|name, _| current.contains_key(name));
        self.distrusted.retain(|name| current.contains_key(name));
        self.convicted.retain(|name, hash| current.get(name) == Some(hash));
        self.look_at_changes();
        let unproven = self.unproven();
        let tried = |name: &String| match &self.search {
            Some(Search { ground: true, .. }) => false,
            Some(Search { test, .. }) => test.contains_key(name),
            None => !self.distrusted.contains(name) || unproven.keys().all(|name| self.distrusted.contains(name)),
        };
        let untried = unproven.keys().filter(|name| !tried(name)).cloned();
        self.convicted.keys().cloned().chain(untried).collect()
    }

    /// Notes that the table as planned last is published under `version`.
    ///
    /// Returns whether a verdict on it can be expected: what was rejected before is not sent again.
    pub(crate) fn published(&mut self, version: &str, replaced: &BTreeSet<String>) -> bool {
        let refused = self.refused.iter().any(|refused| refused == version);
        if self.pushes.back().is_some_and(|push| push.version == version) {
            return !refused;
        }
        let real = self.current.iter().filter(|(name, _)| !replaced.contains(*name));
        let real = real.map(|(name, hash)| (name.clone(), hash.clone())).collect();
        self.pushes.push_back(Push {
            version: version.to_owned(),
            real,
        });
        if self.pushes.len() > REMEMBERED {
            self.pushes.pop_front();
        }
        !refused
    }

    /// Learns from every table that `held` says every connected proxy holds now.
    ///
    /// Returns whether there is another table to publish.
    pub(crate) fn settle(&mut self, held: impl Fn(&str) -> bool) -> bool {
        let Some(position) = self.pushes.iter().rposition(|push| held(&push.version)) else {
            return false;
        };
        let newest = position + 1 == self.pushes.len();
        let Some(push) = self.pushes.drain(..=position).next_back() else {
            return false;
        };
        for (name, hash) in push.real {
            if self.current.get(&name) == Some(&hash) {
                self.distrusted.remove(&name);
                self.proven.insert(name, hash);
            }
        }
        if !newest {
            return false;
        }
        self.rejections = 0;
        match self.search.take() {
            // Whatever had to take effect has; now there is time to tell it apart.
            Some(search) if search.ground => {
                self.search = Some(Search {
                    ground: false,
                    ..search
                })
            }
            Some(Search { mut rest, .. }) => {
                rest.retain(|name, hash| self.proven.get(name) != Some(hash));
                self.narrow(rest, None);
            }
            None => {}
        }
        !self.unproven().is_empty()
    }

    /// Learns that a proxy rejected the table of `version`; `hint` is the virtual host that its reason names.
    ///
    /// Returns whether there is another table to publish.
    pub(crate) fn rejected(&mut self, version: &str, hint: Option<&str>) -> bool {
        // A table that a newer one has replaced is of no interest: the newer one gets a verdict of its own.
        let Some(push) = self.pushes.pop_back_if(|push| push.version == version) else {
            return false;
        };
        self.rejections += 1;
        self.refused.retain(|refused| refused != version);
        self.refused.push_back(push.version);
        if self.refused.len() > REMEMBERED {
            self.refused.pop_front();
        }
        let suspects: Contents = push
            .real
            .into_iter()
            .filter(|(name, hash)| self.proven.get(name) != Some(hash))
            .collect();
        if suspects.is_empty() {
            // The fault is in none of the virtual hosts that changed, so replacing them would not help.
            return false;
        }
        self.search = None;
        let single = suspects.len() == 1;
        self.narrow(suspects, hint);
        let ground = self.rejections >= if single { 3 } else { 2 };
        if ground && !self.unproven().is_empty() {
            if self.search.is_none() {
                self.resume();
            }
            if let Some(search) = &mut self.search {
                search.ground = true;
            }
        }
        true
    }

    /// Returns the virtual hosts that are at fault.
    pub(crate) const fn convicted(&self) -> &Contents {
        &self.convicted
    }

    /// Divides virtual hosts of which at least one is at fault.
    fn narrow(&mut self, mut suspects: Contents, hint: Option<&str>) {
        if suspects.len() <= 1 {
            self.distrusted.extend(suspects.keys().cloned());
            self.convicted.append(&mut suspects);
            return;
        }
        let likely = |name: &String| self.distrusted.contains(name) || hint == Some(name.as_str());
        let (rest, test): (Contents, Contents) = suspects.clone().into_iter().partition(|(name, _)| likely(name));
        let (test, rest) = if test.is_empty() || rest.is_empty() {
            let half = suspects.len() / 2;
            let mut suspects = suspects.into_iter();
            (suspects.by_ref().take(half).collect(), suspects.collect())
        } else {
            (test, rest)
        };
        self.search = Some(Search {
            test,
            rest,
            ground: false,
        });
    }

    /// Tries everything unproven again, the distrusted last; nothing is known of it.
    fn resume(&mut self) {
        let unproven = self.unproven();
        let trusted: Contents = unproven
            .iter()
            .filter(|(name, _)| !self.distrusted.contains(*name))
            .map(own)
            .collect();
        let test = if trusted.is_empty() { unproven } else { trusted };
        self.search = Some(Search {
            test,
            rest: Contents::new(),
            ground: false,
        });
    }

    /// Takes into account what changed while a search was on.
    fn look_at_changes(&mut self) {
        let Some(search) = &mut self.search else { return };
        let (current, proven) = (&self.current, &self.proven);
        let before = search.test.len() + search.rest.len();
        for part in [&mut search.test, &mut search.rest] {
            part.retain(|name, hash| {
                let same = current.get(name) == Some(hash);
                if !same && current.contains_key(name) && current.get(name) != proven.get(name) {
                    self.distrusted.insert(name.clone());
                }
                same
            });
        }
        if search.test.len() + search.rest.len() < before {
            // The fault may have gone with the change.
            search.test.append(&mut search.rest);
        }
        if search.test.is_empty() && search.rest.is_empty() {
            self.search = None;
        }
    }

    fn unproven(&self) -> Contents {
        let known = |(name, hash): &(&String, &String)| {
            self.proven.get(*name) == Some(*hash) || self.convicted.contains_key(*name)
        };
        self.current.iter().filter(|content| !known(content)).map(own).collect()
    }
}

fn own((name, hash): (&String, &String)) -> (String, String) {
    (name.clone(), hash.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A proxy that rejects every table with a poisoned virtual host.
    #[derive(Default)]
    struct Proxy {
        held: String,
        table: BTreeMap<String, Option<String>>,
        last_refused: String,
        rejections: usize,
        tables: usize,
    }

    struct World {
        bisection: Bisection,
        current: Contents,
        proxy: Proxy,
        published: (String, BTreeMap<String, Option<String>>),
    }

    fn is_poison(hash: &str) -> bool {
        hash.starts_with("poison")
    }

    impl World {
        fn new() -> Self {
            let bisection = Bisection::default();
            let mut world = Self {
                bisection,
                current: Contents::new(),
                proxy: Proxy::default(),
                published: Default::default(),
            };
            world.publish();
            world
        }

        fn with(contents: impl IntoIterator<Item = (usize, &'static str)>) -> Self {
            let mut world = Self::new();
            world.set(contents);
            world.publish();
            world.settle();
            world
        }

        fn set(&mut self, contents: impl IntoIterator<Item = (usize, &'static str)>) {
            for (number, hash) in contents {
                self.current.insert(format!("{number:04}"), hash.to_owned());
            }
        }

        fn publish(&mut self) {
            loop {
                let replaced = self.bisection.plan(&self.current);
                let table: BTreeMap<_, _> = self
                    .current
                    .iter()
                    .map(|(name, hash)| (name.clone(), (!replaced.contains(name)).then(|| hash.clone())))
                    .collect();
                let version = format!("{table:?}");
                self.published = (version.clone(), table);
                if self.bisection.published(&version, &replaced) || !self.bisection.rejected(&version, None) {
                    return;
                }
            }
        }

        /// Lets the proxy take what is published; returns whether it said anything.
        fn verdict(&mut self, hint: Option<&str>) -> bool {
            let (version, table) = self.published.clone();
            // As the session does: nothing held and nothing just rejected is sent.
            if self.proxy.held == version || self.proxy.last_refused == version {
                return false;
            }
            self.proxy.tables += 1;
            let again = if table.values().flatten().any(|hash| is_poison(hash)) {
                self.proxy.rejections += 1;
                self.proxy.last_refused.clone_from(&version);
                self.bisection.rejected(&version, hint)
            } else {
                self.proxy.held.clone_from(&version);
                self.proxy.last_refused.clear();
                self.proxy.table = table;
                self.bisection.settle(|asked| asked == version)
            };
            if again {
                self.publish();
            }
            true
        }

        fn settle(&mut self) {
            for _ in 0..300 {
                let held = self.proxy.held.clone();
                if self.bisection.settle(|asked| asked == held) {
                    self.publish();
                } else if !self.verdict(None) {
                    return;
                }
            }
            panic!("it never gets quiet");
        }

        fn check(&self) {
            for (name, hash) in &self.current {
                let expected = (!is_poison(hash)).then(|| hash.clone());
                assert_eq!(self.proxy.table.get(name), Some(&expected), "{name}");
            }
        }
    }

    fn ceil_log2(n: usize) -> usize {
        n.next_power_of_two().trailing_zeros() as usize
    }

    #[test]
    fn without_a_rejection_everything_is_tried_at_once() {
        let mut world = World::with((0..100).map(|number| (number, "a")));
        assert_eq!(world.proxy.tables, 1);
        world.set((0..100).map(|number| (number, "b")));
        world.publish();
        world.settle();
        assert_eq!(world.proxy.tables, 2);
        world.check();
    }

    #[test]
    fn one_poisoned_route_beside_one_revocation() {
        for (poisoned, revoked) in [(0, 1), (1, 0)] {
            let mut world = World::with((0..50).map(|number| (number, "a")));
            world.proxy = Proxy {
                tables: 0,
                ..world.proxy
            };
            world.set([(poisoned, "poison"), (revoked, "revoked")]);
            world.publish();
            world.settle();
            world.check();
            assert!(world.proxy.tables <= 4, "{}", world.proxy.tables);
        }
    }

    #[test]
    fn only_the_culprit_is_ever_replaced_if_nothing_else_changed() {
        let mut world = World::with((0..50).map(|number| (number, "a")));
        world.set([(7, "poison")]);
        world.publish();
        assert!(world.verdict(None));
        assert_eq!(
            world.published.1.values().filter(|content| content.is_none()).count(),
            1
        );
        world.settle();
        world.check();
        assert_eq!(world.proxy.rejections, 1);
    }

    #[test]
    fn a_hint_finds_the_culprit_at_once() {
        let mut world = World::with((0..100).map(|number| (number, "a")));
        world.proxy = Proxy {
            tables: 0,
            ..world.proxy
        };
        world.set((0..100).map(|number| (number, if number == 70 { "poison" } else { "b" })));
        world.publish();
        assert!(world.verdict(Some("0070")));
        world.settle();
        world.check();
        assert_eq!(world.proxy.tables, 2);
    }

    #[test]
    fn a_wrong_hint_costs_rounds_and_convicts_nobody() {
        let mut world = World::with((0..4).map(|number| (number, "a")));
        world.set((0..4).map(|number| (number, if number == 2 { "poison" } else { "b" })));
        world.publish();
        assert!(world.verdict(Some("0000")));
        world.settle();
        world.check();
    }

    #[test]
    fn the_culprit_stays_replaced_until_its_content_changes() {
        let mut world = World::with((0..8).map(|number| (number, "a")));
        world.set([(3, "poison")]);
        world.publish();
        world.settle();
        let rejections = world.proxy.rejections;
        for hash in ["b", "c", "d"] {
            world.set([(5, hash)]);
            world.publish();
            world.settle();
            world.check();
        }
        assert_eq!(
            world.proxy.rejections, rejections,
            "nobody else's change brings it back"
        );
        world.set([(3, "cured")]);
        world.publish();
        world.settle();
        world.check();
        assert_eq!(world.bisection.convicted(), &Contents::new());
    }

    #[test]
    fn who_was_convicted_is_tried_apart_from_others() {
        let mut world = World::with((0..8).map(|number| (number, "a")));
        world.set([(3, "poison")]);
        world.publish();
        world.settle();
        world.set([(3, "poison again"), (4, "revoked")]);
        world.publish();
        assert!(world.verdict(None));
        assert_eq!(
            world.proxy.table["0004"].as_deref(),
            Some("revoked"),
            "with the first table"
        );
        world.settle();
        world.check();
    }

    #[test]
    fn a_fault_outside_the_virtual_hosts_ends_the_search() {
        let mut bisection = Bisection::default();
        let current: Contents = (0..9).map(|number| (number.to_string(), "a".to_owned())).collect();
        let mut tables = 0;
        loop {
            let replaced = bisection.plan(&current);
            let version = format!("{replaced:?}");
            if bisection.published(&version, &replaced) {
                tables += 1;
            }
            if !bisection.rejected(&version, None) {
                break;
            }
            assert!(tables < 10);
        }
        assert!(
            bisection.plan(&current).len() == 9,
            "nothing unproven is left in the table that is offered"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn one_culprit_is_found_in_logarithmically_many_tables(n in 1..100_usize, culprit in any::<prop::sample::Index>()) {
            let culprit = culprit.index(n);
            let mut world = World::with((0..100).map(|number| (number, "a")));
            world.proxy = Proxy { tables: 0, rejections: 0, ..world.proxy };
            world.set((0..n).map(|number| (number, if number == culprit { "poison" } else { "b" })));
            world.publish();
            world.settle();
            world.check();
            prop_assert!(world.proxy.tables <= ceil_log2(n) + 4, "{} tables for {n}", world.proxy.tables);
        }

        #[test]
        fn every_change_takes_effect_within_three_tables_of_the_first_rejection(
            poisoned in prop::collection::btree_set(0..32_usize, 0..6),
            changed in prop::collection::btree_set(0..32_usize, 1..32),
        ) {
            let mut world = World::with((0..32).map(|number| (number, "old")));
            world.set(changed.iter().map(|number| (*number, "new")));
            world.set(poisoned.iter().map(|number| (*number, "poison")));
            world.publish();
            for _ in 0..4 {
                world.verdict(None);
            }
            for number in changed.union(&poisoned) {
                let content = &world.proxy.table[&format!("{number:04}")];
                prop_assert_ne!(content.as_deref(), Some("old"));
            }
            world.settle();
            world.check();
            prop_assert!(world.proxy.tables <= 1 + poisoned.len().max(1) * (5 + 4));
        }

        #[test]
        fn once_quiet_all_but_the_poisoned_are_themselves(
            steps in prop::collection::vec(
                (prop::collection::vec((0..12_usize, prop::sample::select(vec!["a", "b", "c", "poison1", "poison2"])), 0..4), 0..4_usize, any::<bool>()),
                0..30,
            ),
        ) {
            let mut world = World::with((0..12).map(|number| (number, "a")));
            for (changes, verdicts, gone) in steps {
                if gone && let Some((number, _)) = changes.first() {
                    world.current.remove(&format!("{number:04}"));
                } else {
                    world.set(changes);
                }
                world.publish();
                for _ in 0..verdicts {
                    world.verdict(None);
                }
            }
            world.settle();
            world.check();
            prop_assert_eq!(
                world.bisection.convicted().keys().collect::<Vec<_>>(),
                world.current.iter().filter(|(_, hash)| is_poison(hash)).map(|(name, _)| name).collect::<Vec<_>>()
            );
        }
    }
}
