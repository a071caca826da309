//! The time by the clock that Envoy has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
///
/// # Panics
/// If it is before.
#[must_use]
pub fn seconds() -> u64 {
    elapsed().as_secs()
}

/// Milliseconds since 1970.
///
/// # Panics
/// If it is before, or far past.
#[must_use]
pub fn milliseconds() -> u64 {
    u64::try_from(elapsed().as_millis()).expect("it is not yet far past 1970")
}

fn elapsed() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970")
}
