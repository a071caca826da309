//! What a replica does that is cut off from the API server: it goes on with what it knows, and sends its proxies to others.

use std::time::{Duration, Instant};

/// How often proxies are sent away: those that know no other replica come back, and keep what they have meanwhile.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether this replica is cut off.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    /// When proxies were last sent away.
    since: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing is other than before.
    Nothing,
    /// It is cut off from now on: be ready no more, and send proxies away.
    Raise,
    /// It is still cut off: send away those that came back.
    SendAway,
    /// It is cut off no more.
    Lower,
}

impl Fence {
    /// Whether the replica is cut off.
    pub(crate) const fn is_up(&self) -> bool {
        self.since.is_some()
    }

    /// Takes in whether the API server is out of reach now.
    pub(crate) fn look(&mut self, cut_off: bool, now: Instant) -> Order {
        match (self.since, cut_off) {
            (None, false) => Order::Nothing,
            (Some(since), true) if now.duration_since(since) < AGAIN => Order::Nothing,
            (Some(_), false) => {
                self.since = None;
                Order::Lower
            }
            (former, true) => {
                self.since = Some(now);
                former.map_or(Order::Raise, |_| Order::SendAway)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_sent_away_for_as_long_as_it_is_cut_off() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut fence = Fence::default();
        let told: Vec<Order> = [
            (0, false),
            (1, true),
            (2, true),
            (11, true),
            (12, false),
            (13, false),
            (14, true),
        ]
        .into_iter()
        .map(|(seconds, cut_off)| fence.look(cut_off, after(seconds)))
        .collect();
        use Order::{Lower, Nothing, Raise, SendAway};
        assert_eq!(told, [Nothing, Raise, Nothing, SendAway, Lower, Nothing, Raise]);
        assert!(fence.is_up());
    }
}
