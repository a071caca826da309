//! What was told already, so that only news is. Pure: the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{Row, State, Subject};

/// How long a change may be on its way to Envoy before that is worth a line.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same for what was never told of: Envoy has to start and to compile the filter.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// Remembers what was printed, so that only changes are.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    printed: BTreeMap<Subject, Row>,
    pending: BTreeMap<Subject, Instant>,
}

impl Reporter {
    /// The lines that are news, each exactly once; and lines that are gone.
    pub(crate) fn news(&mut self, rows: Vec<Row>, now: Instant) -> (Vec<Row>, Vec<String>) {
        let subjects: BTreeSet<_> = rows.iter().map(|row| row.subject.clone()).collect();
        let gone: Vec<_> = self
            .printed
            .keys()
            .filter(|subject| !subjects.contains(subject))
            .cloned()
            .collect();
        for subject in &gone {
            self.printed.remove(subject);
        }
        self.pending.retain(|subject, _| subjects.contains(subject));
        let mut news = Vec::new();
        for row in rows {
            if row.state == State::Pending {
                let since = *self.pending.entry(row.subject.clone()).or_insert(now);
                let known = self.printed.contains_key(&row.subject);
                if now.duration_since(since) < if known { PATIENCE } else { FIRST_PATIENCE } {
                    continue;
                }
            } else {
                self.pending.remove(&row.subject);
            }
            if self.printed.get(&row.subject) != Some(&row) {
                self.printed.insert(row.subject.clone(), row.clone());
                news.push(row);
            }
        }
        let gone = gone
            .iter()
            .map(|subject| format!("{} {}", subject.kind.word(), subject.name))
            .collect();
        (news, gone)
    }

    /// Whether something is on its way and may deserve a line later.
    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Kind, *};

    fn row(name: &str, state: State, hash: &str) -> Row {
        Row {
            subject: Subject {
                kind: Kind::Policy,
                name: name.to_owned(),
            },
            state,
            detail: String::new(),
            hashes: vec![hash.to_owned()],
        }
    }

    fn names(news: &[Row]) -> Vec<(&str, State)> {
        news.iter().map(|row| (row.subject.name.as_str(), row.state)).collect()
    }

    #[test]
    fn only_news_is_printed_and_a_change_that_looks_the_same_is_news() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        let (news, _) = reporter.news(
            vec![row("a", State::Enforced, "1"), row("b", State::Enforced, "1")],
            now,
        );
        assert_eq!(names(&news), [("a", State::Enforced), ("b", State::Enforced)]);
        let (news, gone) = reporter.news(
            vec![row("a", State::Enforced, "2"), row("b", State::Enforced, "1")],
            now,
        );
        assert_eq!(names(&news), [("a", State::Enforced)]);
        assert!(gone.is_empty());
        let (news, gone) = reporter.news(vec![row("a", State::Enforced, "2")], now);
        assert!(news.is_empty());
        assert_eq!(gone, ["policy b"]);
    }

    #[test]
    fn what_is_on_its_way_is_told_only_if_it_stays_so() {
        let now = Instant::now();
        let mut reporter = Reporter::default();
        reporter.news(vec![row("a", State::Enforced, "1")], now);
        assert!(reporter.news(vec![row("a", State::Pending, "2")], now).0.is_empty());
        assert!(reporter.waits());
        let (news, _) = reporter.news(vec![row("a", State::Pending, "2")], now + PATIENCE);
        assert_eq!(names(&news), [("a", State::Pending)]);
        let (news, _) = reporter.news(vec![row("a", State::Enforced, "2")], now + PATIENCE);
        assert_eq!(names(&news), [("a", State::Enforced)]);
        assert!(!reporter.waits());
        reporter.news(vec![row("b", State::Pending, "1")], now);
        assert!(
            reporter
                .news(vec![row("b", State::Pending, "1")], now + PATIENCE)
                .0
                .is_empty()
        );
        let (news, _) = reporter.news(vec![row("b", State::Pending, "1")], now + FIRST_PATIENCE);
        assert_eq!(
            names(&news),
            [("b", State::Pending)],
            "Envoy takes its time to start, but not for ever"
        );
    }
}
