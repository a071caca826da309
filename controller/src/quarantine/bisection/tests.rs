//! The search against a proxy that rejects every table with a poisoned virtual host.

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
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

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
