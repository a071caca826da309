//! A file that went bad keeps what it said before. Pure: files come in as texts.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Found;

/// The texts that were last taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastGood {
    texts: BTreeMap<String, String>,
}

/// What is to be served now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Names and texts, in the order of the files.
    pub(crate) texts: Vec<(String, String)>,
    /// Files whose former text stays in force, with the reason if it is not a finding.
    pub(crate) held: Vec<Held>,
    /// Names and texts of refused files that were never good: nothing of them is served.
    pub(crate) left_out: Vec<(String, String)>,
}

/// A file that is not served as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The file.
    pub(crate) name: String,
    /// Why.
    pub(crate) why: Why,
    /// Whether there is a former text that stays in force.
    pub(crate) has_former: bool,
}

/// Why a file is not served as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It is empty: most likely being written.
    Empty,
    /// Its objects would be refused by a Kubernetes API server; its findings say why.
    Refused,
}

impl LastGood {
    /// Chooses each file's text: what it says now, or what it said before if it went bad. `refused` names the files
    /// among the given ones that hold an object which must not be taken; it was called last with the chosen texts.
    ///
    /// Files may be at fault only together, as two with one object are. Then it is the new one, or else the changed one,
    /// that is not taken: nobody can take an object over, or hold a file back, by repeating what another file says.
    pub(crate) fn settle(
        &mut self,
        found: Vec<Found>,
        mut refused: impl FnMut(&[(String, String)]) -> BTreeSet<String>,
    ) -> Settled {
        let mut settled = Settled::default();
        let mut hold = |texts: &mut Vec<(String, String)>, name: String, why: Why, former: Option<&String>| {
            let has_former = former.is_some();
            if let Some(former) = former {
                texts.push((name.clone(), former.clone()));
            }
            settled.held.push(Held { name, why, has_former });
        };
        let mut texts: Vec<(String, String)> = Vec::new();
        for Found { name, text } in found {
            let former = self.texts.get(&name);
            match text {
                Ok(text) if text.trim().is_empty() && former.is_some_and(|former| !former.trim().is_empty()) => {
                    hold(&mut texts, name, Why::Empty, former);
                }
                Ok(text) => texts.push((name, text)),
                Err(error) => {
                    // A folder that is gone is no reason to drop what was in it: it may be mounted again.
                    let folder = format!("{}/", name.trim_end_matches('/'));
                    let inside: Vec<_> = self
                        .texts
                        .iter()
                        .filter(|(file, _)| file.starts_with(&folder))
                        .collect();
                    if former.is_none() && inside.is_empty() {
                        hold(&mut texts, name, Why::Unreadable(error.reason), None);
                    } else if let Some(former) = former {
                        hold(&mut texts, name, Why::Unreadable(error.reason), Some(former));
                    } else {
                        for (file, former) in inside {
                            hold(
                                &mut texts,
                                file.clone(),
                                Why::Unreadable(error.reason.clone()),
                                Some(former),
                            );
                        }
                    }
                }
            }
        }
        let mut kept: BTreeSet<String> = settled.held.iter().map(|held| held.name.clone()).collect();
        loop {
            let refused = refused(&texts);
            let to_blame: Vec<(String, bool)> = texts
                .iter()
                .filter(|(name, _)| refused.contains(name) && !kept.contains(name))
                .filter_map(|(name, text)| match self.texts.get(name) {
                    Some(former) if former == text => None,
                    former => Some((name.clone(), former.is_some())),
                })
                .collect();
            let any_new = to_blame.iter().any(|(_, has_former)| !has_former);
            if to_blame.is_empty() {
                break;
            }
            for (name, has_former) in to_blame {
                if any_new && has_former {
                    continue;
                }
                match self.texts.get(&name) {
                    Some(former) => texts
                        .iter_mut()
                        .filter(|(other, _)| *other == name)
                        .for_each(|(_, text)| text.clone_from(former)),
                    // A file that was never good is left out whole: half of it might open what the other half closes.
                    None => {
                        let left_out = texts.extract_if(.., |(other, _)| *other == name);
                        settled.left_out.extend(left_out);
                    }
                }
                kept.insert(name.clone());
                settled.held.push(Held {
                    name,
                    why: Why::Refused,
                    has_former,
                });
            }
        }
        self.texts = texts.iter().cloned().collect();
        settled.texts = texts;
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Unreadable;

    fn found(files: &[(&str, &str)]) -> Vec<Found> {
        files
            .iter()
            .map(|(name, text)| Found {
                name: (*name).to_owned(),
                text: Ok((*text).to_owned()),
            })
            .collect()
    }

    fn gone(name: &str) -> Found {
        Found {
            name: name.to_owned(),
            text: Err(Unreadable {
                path: name.to_owned(),
                reason: "gone".to_owned(),
            }),
        }
    }

    /// Files that say `bad` are refused.
    fn judge(texts: &[(String, String)]) -> BTreeSet<String> {
        texts
            .iter()
            .filter(|(_, text)| text.contains("bad"))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn served(settled: &Settled) -> Vec<(&str, &str)> {
        settled
            .texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect()
    }

    fn after(first: &[(&str, &str)]) -> LastGood {
        let mut last_good = LastGood::default();
        let settled = last_good.settle(found(first), judge);
        assert_eq!(served(&settled), first);
        last_good
    }

    #[test]
    fn a_bad_file_keeps_its_former_text_and_others_move_on() {
        let mut last_good = after(&[("a", "one"), ("b", "one")]);
        let settled = last_good.settle(found(&[("a", "bad"), ("b", "two")]), judge);
        assert_eq!(served(&settled), [("a", "one"), ("b", "two")]);
        assert_eq!(
            settled.held,
            [Held {
                name: "a".to_owned(),
                why: Why::Refused,
                has_former: true
            }]
        );
        let settled = last_good.settle(found(&[("a", "bad again"), ("b", "two")]), judge);
        assert_eq!(
            served(&settled),
            [("a", "one"), ("b", "two")],
            "the former text outlives a second bad one"
        );
        let settled = last_good.settle(found(&[("a", "three"), ("b", "two")]), judge);
        assert_eq!(served(&settled), [("a", "three"), ("b", "two")]);
        assert_eq!(settled.held, []);
    }

    #[test]
    fn a_deleted_file_takes_its_objects_along_and_is_left_out_until_it_is_good() {
        let mut last_good = after(&[("a", "one"), ("b", "one")]);
        assert_eq!(served(&last_good.settle(found(&[("b", "one")]), judge)), [("b", "one")]);
        let settled = last_good.settle(found(&[("a", "bad"), ("b", "one")]), judge);
        assert_eq!(served(&settled), [("b", "one")], "no former text is left to hold");
        assert!(!settled.held[0].has_former);
        let settled = last_good.settle(found(&[("a", "bad 2"), ("b", "one")]), judge);
        assert_eq!(
            served(&settled),
            [("b", "one")],
            "a bad text never becomes a former one"
        );
    }

    /// Of files that say one word, all are refused.
    fn judge_words(texts: &[(String, String)]) -> BTreeSet<String> {
        let same = |text: &str| texts.iter().filter(|(_, other)| other == text).count();
        let twice = texts.iter().filter(|(_, text)| same(text) > 1);
        twice.map(|(name, _)| name.clone()).collect()
    }

    #[test]
    fn a_file_that_repeats_another_does_not_hold_it_back() {
        let mut last_good = after(&[("m", "one"), ("x", "other")]);
        let settled = last_good.settle(found(&[("a", "one"), ("m", "one"), ("x", "other")]), judge_words);
        assert_eq!(served(&settled), [("m", "one"), ("x", "other")]);
        assert_eq!(settled.held.iter().map(|held| &held.name).collect::<Vec<_>>(), ["a"]);
        // The other one moves on to something that the new one says too, and is preferred still.
        let settled = last_good.settle(found(&[("a", "two"), ("m", "two"), ("x", "other")]), judge_words);
        assert_eq!(served(&settled), [("m", "two"), ("x", "other")]);
        // One that was taken repeats what an unchanged one says.
        let settled = last_good.settle(found(&[("m", "two"), ("x", "two")]), judge_words);
        assert_eq!(served(&settled), [("m", "two"), ("x", "other")]);
        assert_eq!(settled.held.iter().map(|held| &held.name).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn what_moves_between_files_is_taken_once_it_is_in_one_place() {
        let mut last_good = after(&[("a", "object"), ("b", "nothing")]);
        let settled = last_good.settle(found(&[("a", "object"), ("b", "object")]), judge_words);
        assert_eq!(served(&settled), [("a", "object"), ("b", "nothing")]);
        let settled = last_good.settle(found(&[("a", "empty"), ("b", "object")]), judge_words);
        assert_eq!(served(&settled), [("a", "empty"), ("b", "object")]);
        assert_eq!(settled.held, []);
    }

    #[test]
    fn a_file_that_is_emptied_is_most_likely_being_written() {
        let mut last_good = after(&[("a", "one")]);
        let settled = last_good.settle(found(&[("a", " \n")]), judge);
        assert_eq!(served(&settled), [("a", "one")]);
        assert_eq!(settled.held[0].why, Why::Empty);
    }

    #[test]
    fn an_unreadable_file_or_folder_keeps_everything_it_said() {
        let mut last_good = after(&[("dir/a", "one"), ("dir/b", "one"), ("dirt", "one")]);
        let settled = last_good.settle(vec![gone("dir"), gone("dirt")], judge);
        assert_eq!(served(&settled), [("dir/a", "one"), ("dir/b", "one"), ("dirt", "one")]);
        assert_eq!(settled.held.len(), 3);
        let settled = last_good.settle(vec![gone("new")], judge);
        assert_eq!(served(&settled), []);
        assert!(!settled.held[0].has_former);
    }
}
