//! How many connections each Gateway's proxies have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections by the Gateway that their peers proved to be of, up to a number of each: whoever has got hold of one
/// Gateway's credentials keeps the proxies of no other one out.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    most: usize,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Tally {
    /// Has room for so many of each Gateway.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    /// Counts one more of a Gateway, until what is returned is dropped; nothing if there is no room.
    pub(crate) fn enter(&self, cluster: &str) -> Option<Counted> {
        let mut counts = lock(&self.counts);
        let count = counts.entry(cluster.to_owned()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted {
            cluster: cluster.to_owned(),
            counts: Arc::clone(&self.counts),
        })
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Counted {
    cluster: String,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        let left = counts.get(&self.cluster).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.cluster);
        } else {
            counts.insert(std::mem::take(&mut self.cluster), left);
        }
    }
}

fn lock(counts: &Mutex<BTreeMap<String, usize>>) -> MutexGuard<'_, BTreeMap<String, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateways_connections_take_no_room_from_anothers() {
        let tally = Tally::new(2);
        let first = tally.enter("edge/a").unwrap();
        let _second = tally.enter("edge/a").unwrap();
        assert!(tally.enter("edge/a").is_none());
        let other = tally.enter("edge/b").unwrap();
        drop((first, other));
        let _third = tally.enter("edge/a").unwrap();
        assert!(tally.enter("edge/a").is_none());
        assert_eq!(lock(&tally.counts).len(), 1, "nothing is kept of those that are gone");
    }
}
