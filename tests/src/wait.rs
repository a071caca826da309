//! Waiting for something that another program does.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take to start or to settle on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `ready` gives a value.
///
/// # Panics
/// After `patience`, naming `what`.
pub fn until<T>(what: &str, patience: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(
            start.elapsed() < patience,
            "gave up after {patience:?} waiting until {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}
