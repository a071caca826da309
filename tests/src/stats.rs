//! Envoy's counters.

use std::collections::BTreeMap;

/// A snapshot of `/stats`, counters and gauges only.
#[derive(Clone, Debug, Default)]
pub struct Stats(BTreeMap<String, u64>);

impl Stats {
    /// Reads the plain text form, `name: value` a line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    /// One value; a counter that Envoy has not made yet is 0.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The sum of every value whose name begins and ends so.
    #[must_use]
    pub fn sum(&self, prefix: &str, suffix: &str) -> u64 {
        self.matching(prefix, suffix).map(|(_, value)| value).sum()
    }

    /// Every value whose name begins and ends so.
    pub fn matching(&self, prefix: &str, suffix: &str) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix) && name.ends_with(suffix))
            .map(|(name, value)| (name.as_str(), *value))
    }
}
