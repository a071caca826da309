//! Connections of whoever comes, of whom nothing is known yet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// A bounded number of connections. Where there is no room for another, one of the network that has most goes, the oldest: nobody
/// keeps others out by holding on to many.
#[derive(Clone, Debug)]
pub struct Crowd {
    most: usize,
    members: Arc<Mutex<Members>>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    open: BTreeMap<u64, (IpAddr, AbortHandle)>,
}

impl Crowd {
    /// Has room for so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            members: Arc::default(),
        }
    }

    /// Serves somebody until that ends by itself, or room is needed. To be called within a runtime.
    pub fn admit(&self, from: IpAddr, serving: impl Future<Output = ()> + Send + 'static) {
        let mut members = lock(&self.members);
        if members.open.len() >= self.most
            && let Some(number) = members.dispensable()
            && let Some((_, handle)) = members.open.remove(&number)
        {
            handle.abort();
        }
        let number = members.next;
        members.next += 1;
        let seat = Seat {
            number,
            members: Arc::clone(&self.members),
        };
        let task = tokio::spawn(async move {
            let _seat = seat;
            serving.await;
        });
        // The task waits for this lock before it leaves its seat.
        members.open.insert(number, (network(from), task.abort_handle()));
    }

    /// Returns how many are there.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.members).open.len()
    }

    /// Tells whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Members {
    /// The oldest one of the network that has most.
    fn dispensable(&self) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for (number, (network, _)) in &self.open {
            let (count, _) = counts.entry(*network).or_insert((0, *number));
            *count += 1;
        }
        let most = counts.into_values().max_by_key(|(count, _)| *count);
        most.map(|(_, oldest)| oldest)
    }
}

/// A place, until it is left.
struct Seat {
    number: u64,
    members: Arc<Mutex<Members>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.members).open.remove(&self.number);
    }
}

/// Whose an address counts as: of IPv6 a host has 64 bits of its own.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Whose connections are open, in the order in which they came.
    fn open(crowd: &Crowd) -> Vec<String> {
        let members = lock(&crowd.members);
        members.open.values().map(|(network, _)| network.to_string()).collect()
    }

    #[tokio::test]
    async fn who_has_most_makes_room() {
        let crowd = Crowd::new(3);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for from in [other, one, one, one] {
            crowd.admit(from, std::future::pending());
        }
        assert_eq!(open(&crowd), ["192.0.2.2", "192.0.2.1", "192.0.2.1"]);
        crowd.admit(address("192.0.2.3"), std::future::pending());
        assert_eq!(open(&crowd), ["192.0.2.2", "192.0.2.1", "192.0.2.3"]);
    }

    #[tokio::test]
    async fn a_place_is_free_when_its_task_ends_however_it_does() {
        let crowd = Crowd::new(2);
        crowd.admit(address("192.0.2.1"), async {});
        crowd.admit(address("192.0.2.1"), async { panic!("a fault") });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(crowd.is_empty());
    }

    #[test]
    fn a_host_has_one_network() {
        assert_eq!(network(address("2001:db8::1:2:3:4")), network(address("2001:db8::5")));
        assert_ne!(network(address("2001:db8:0:1::1")), network(address("2001:db8::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
