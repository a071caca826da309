//! When a burst of file events is over. Pure: the time is an argument.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long after the last event files are read: a new file may come with others, as a route with its policy.
pub(crate) const QUIET: Duration = Duration::from_millis(30);

/// The same if all that happened is that one file, which was there before, was written to the end or replaced.
pub(crate) const QUIET_EDIT: Duration = Duration::from_millis(10);

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
    touched: Touched,
}

/// What a burst is about.
#[derive(Debug, Default)]
enum Touched {
    #[default]
    Nothing,
    /// One file that was there before.
    Edited(PathBuf),
    More,
}

impl Debounce {
    /// Takes an event in; `edit` says that its file was there before the burst and still is.
    pub(crate) fn note(&mut self, now: Instant, change: Change, edit: bool) {
        self.touched = match (&change, std::mem::take(&mut self.touched)) {
            (Change::Writing(path) | Change::Settled(path), Touched::Nothing) if edit => Touched::Edited(path.clone()),
            (Change::Writing(path) | Change::Settled(path), Touched::Edited(same)) if edit && same == *path => {
                Touched::Edited(same)
            }
            _ => Touched::More,
        };
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
        let wait = match &self.touched {
            _ if !self.writing.is_empty() => PATIENCE,
            Touched::Edited(_) => QUIET_EDIT,
            Touched::Nothing | Touched::More => QUIET,
        };
        Some((last + wait).min(first + LONGEST))
    }

    /// Ends the burst: files are being read.
    pub(crate) fn clear(&mut self) {
        self.burst = None;
        self.writing.clear();
        self.touched = Touched::Nothing;
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
        debounce.note(start, Change::Other, false);
        debounce.note(at(start, 20), Change::Other, false);
        assert_eq!(debounce.due(), Some(at(start, 20) + QUIET));
        debounce.clear();
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn a_writer_is_waited_for_until_it_closes_the_file() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.note(start, Change::Writing("a".into()), false);
        assert_eq!(debounce.due(), Some(start + PATIENCE));
        debounce.note(at(start, 5), Change::Settled("a".into()), false);
        assert_eq!(debounce.due(), Some(at(start, 5) + QUIET));
    }

    #[test]
    fn one_writer_that_is_done_does_not_speak_for_another() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.note(start, Change::Writing("a".into()), false);
        debounce.note(start, Change::Writing("b".into()), false);
        debounce.note(start, Change::Settled("a".into()), false);
        assert_eq!(debounce.due(), Some(start + PATIENCE));
    }

    #[test]
    fn an_endless_burst_does_not_put_reading_off_for_ever() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        for milliseconds in (0..2000).step_by(10) {
            debounce.note(at(start, milliseconds), Change::Writing("a".into()), false);
        }
        assert_eq!(debounce.due(), Some(start + LONGEST));
    }

    #[test]
    fn an_edit_of_one_file_is_waited_for_less_than_files_that_may_belong_together() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.note(start, Change::Writing("a".into()), true);
        assert_eq!(debounce.due(), Some(start + PATIENCE));
        debounce.note(start, Change::Settled("a".into()), true);
        assert_eq!(debounce.due(), Some(start + QUIET_EDIT));
        debounce.note(start, Change::Settled("b".into()), true);
        assert_eq!(debounce.due(), Some(start + QUIET), "two files");
        debounce.clear();
        debounce.note(start, Change::Settled("a".into()), false);
        assert_eq!(debounce.due(), Some(start + QUIET), "a new file, or one that is gone");
        debounce.clear();
        debounce.note(start, Change::Settled("a".into()), true);
        debounce.note(start, Change::Other, false);
        assert_eq!(debounce.due(), Some(start + QUIET), "something else happened");
    }
}
