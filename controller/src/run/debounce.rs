//! When a burst of file events is over. Pure: the time is an argument.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long after the last event files are read: a policy that moves from one file to another is in neither meanwhile.
pub(crate) const QUIET: Duration = Duration::from_millis(30);

/// How long a file that is being written is waited for: half a policy may be a valid policy.
pub(crate) const PATIENCE: Duration = Duration::from_millis(400);

/// How long a burst may last before files are read in spite of it.
pub(crate) const LONGEST: Duration = Duration::from_millis(600);

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Someone has it open and writes.
    Writing(PathBuf),
    /// The writer is done, or the name now stands for another file.
    Settled(PathBuf),
    /// Something else that calls for a look.
    Other,
}

/// The burst that is going on, if any.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    burst: Option<(Instant, Instant)>,
    writing: HashSet<PathBuf>,
}

impl Debounce {
    /// Takes an event in.
    pub(crate) fn note(&mut self, now: Instant, change: Change) {
        match change {
            Change::Writing(path) => {
                self.writing.insert(path);
            }
            Change::Settled(path) => {
                self.writing.remove(&path);
            }
            Change::Other => {}
        }
        let first = self.burst.map_or(now, |(first, _)| first);
        self.burst = Some((first, now));
    }

    /// When files are to be read, unless more events come.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (first, last) = self.burst?;
        let wait = if self.writing.is_empty() { QUIET } else { PATIENCE };
        Some((last + wait).min(first + LONGEST))
    }

    /// Ends the burst: files are being read.
    pub(crate) fn clear(&mut self) {
        self.burst = None;
        self.writing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn files_are_read_once_the_burst_is_over() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        debounce.note(start, Change::Other);
        debounce.note(at(start, 20), Change::Other);
        assert_eq!(debounce.due(), Some(at(start, 20) + QUIET));
        debounce.clear();
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn a_writer_is_waited_for_until_it_closes_the_file() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.note(start, Change::Writing("a".into()));
        assert_eq!(debounce.due(), Some(start + PATIENCE));
        debounce.note(at(start, 5), Change::Settled("a".into()));
        assert_eq!(debounce.due(), Some(at(start, 5) + QUIET));
    }

    #[test]
    fn one_writer_that_is_done_does_not_speak_for_another() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.note(start, Change::Writing("a".into()));
        debounce.note(start, Change::Writing("b".into()));
        debounce.note(start, Change::Settled("a".into()));
        assert_eq!(debounce.due(), Some(start + PATIENCE));
    }

    #[test]
    fn an_endless_burst_does_not_put_reading_off_for_ever() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        for milliseconds in (0..2000).step_by(10) {
            debounce.note(at(start, milliseconds), Change::Writing("a".into()));
        }
        assert_eq!(debounce.due(), Some(start + LONGEST));
    }
}
