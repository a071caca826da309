//! How long requests took.

use std::time::Duration;

/// The time within which that many of a hundred were answered; sorts them.
///
/// # Panics
/// If there is none.
pub fn percentile(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * hundredths).div_ceil(100).max(1) - 1]
}
