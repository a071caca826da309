//! The manifests of a run, as they are now and as they were when they were good.

use std::{path::PathBuf, sync::Arc};

use portcullis_manifest::Diagnostic;

use super::last_good::{Held, LastGood, Settled, Why};
use crate::{
    load::{self, Evaluation, Settings},
    source::{self, Found, Source},
};

/// The manifests and what follows from them.
pub(crate) struct Folder {
    source: Source,
    /// Stdin can be read only once.
    stdin: Option<String>,
    last_good: LastGood,
    settled: Settled,
    settings: Arc<Settings>,
}

/// What a look at the files brought.
pub(crate) struct Refreshed {
    /// The manifests, if they are others than before.
    pub(crate) evaluation: Option<Evaluation>,
    /// What is newly wrong with files, and what has become right, in words.
    pub(crate) notes: Vec<String>,
    /// What is wrong with the files that are held, as they are now.
    pub(crate) refused: Vec<Diagnostic>,
}

impl Folder {
    pub(crate) fn new(source: Source, settings: Arc<Settings>) -> Self {
        Self {
            source,
            stdin: None,
            last_good: LastGood::default(),
            settled: Settled::default(),
            settings,
        }
    }

    /// The paths that can change: all but stdin.
    pub(crate) fn watched(&self) -> Source {
        let mut source = self.source.clone();
        source.paths.retain(|path| !source::is_stdin(path));
        source
    }

    /// Reads the files and evaluates them if they are others than before. Blocks.
    pub(crate) fn refresh(&mut self) -> Refreshed {
        let found = self.read();
        let mut loaded = None;
        let mut diagnostics: Vec<Diagnostic> = Vec::new();
        let settled = self.last_good.settle(found, |texts| {
            let now = portcullis_manifest::load(texts);
            let failed = load::failed_files(&now);
            diagnostics.extend(now.diagnostics.iter().cloned());
            loaded = Some(now);
            failed
        });
        let notes = notes(&self.settled.held, &settled.held);
        let is_refused = |diagnostic: &Diagnostic| {
            let file = diagnostic.place.as_ref().map(|place| &place.file);
            // Told in the file of the two that comes later, which need not be the one that is refused.
            diagnostic.code == "duplicate-object"
                || settled
                    .held
                    .iter()
                    .any(|held| held.why == Why::Refused && Some(&held.name) == file)
        };
        diagnostics.retain(is_refused);
        diagnostics.sort();
        diagnostics.dedup();
        // What was read last to judge the files is what is served.
        let evaluation = (settled.texts != self.settled.texts).then(|| match loaded {
            Some(loaded) => load::translate(loaded, &self.settings),
            None => load::evaluate(&settled.texts, &self.settings),
        });
        self.settled = settled;
        Refreshed {
            evaluation,
            notes,
            refused: diagnostics,
        }
    }

    /// What is held now.
    pub(crate) fn held(&self) -> &[Held] {
        &self.settled.held
    }

    fn read(&mut self) -> Vec<Found> {
        let mut found = self.watched().read();
        if self.source.paths.iter().any(|path| source::is_stdin(path)) {
            let text = match &self.stdin {
                Some(text) => Ok(text.clone()),
                None => {
                    let stdin = Source {
                        paths: vec![PathBuf::from("-")],
                        recursive: false,
                    };
                    stdin
                        .read()
                        .into_iter()
                        .next()
                        .map_or_else(|| Ok(String::new()), |found| found.text)
                }
            };
            if let Ok(text) = &text {
                self.stdin = Some(text.clone());
            }
            found.insert(
                0,
                Found {
                    name: source::STDIN.to_owned(),
                    text,
                },
            );
        }
        found
    }
}

/// What is to be said about files that are held now and were not, or were and are not.
fn notes(before: &[Held], now: &[Held]) -> Vec<String> {
    let mut notes = Vec::new();
    for held in now.iter().filter(|held| !before.contains(held)) {
        let why = match &held.why {
            Why::Unreadable(reason) => reason.as_str(),
            Why::Empty => "is empty; delete it to drop its objects",
            Why::Refused => "has errors",
        };
        let consequence = if held.has_former {
            "what it said before stays in force"
        } else {
            "it is left out"
        };
        notes.push(format!("{}: {why}; {consequence}", held.name));
    }
    for held in before {
        if !now.iter().any(|other| other.name == held.name) {
            notes.push(format!("{}: no longer held back", held.name));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, why: Why, has_former: bool) -> Held {
        Held {
            name: name.to_owned(),
            why,
            has_former,
        }
    }

    #[test]
    fn a_file_is_spoken_of_when_it_goes_bad_and_when_it_is_good_again() {
        let bad = [held("a", Why::Refused, true)];
        assert_eq!(notes(&[], &bad), ["a: has errors; what it said before stays in force"]);
        assert_eq!(notes(&bad, &bad), [""; 0]);
        assert_eq!(notes(&bad, &[]), ["a: no longer held back"]);
        let new = [held("b", Why::Unreadable("may not be read".to_owned()), false)];
        assert_eq!(notes(&[], &new), ["b: may not be read; it is left out"]);
    }
}
