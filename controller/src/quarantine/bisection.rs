//! Which virtual hosts of one route table are at fault when a proxy rejects the table as a whole.
//!
//! A proxy takes a table whole or not at all, so one virtual host that it cannot take would hold back the changes of
//! all others. What is known is kept by content: a virtual host is *proven* once every proxy took it, *convicted* once
//! a rejection can be due to nothing else, and *unproven* in between. Until a table is rejected everything unproven is
//! tried at once, so in ordinary times nothing here delays anything. After a rejection, the unproven ones are tried in
//! halves, the rest answering 500 meanwhile.
//!
//! * A convicted virtual host is found in at most `2 + log2 n` rejections and acknowledgements, for `n` unproven ones.
//! * Two rejections in a row are followed by a table without anything unproven in it, unless the culprit is found, and
//!   three in any case. So every change takes effect, as itself or as a 500, at the latest with the third table after
//!   the first rejection, however many changed: a revocation is never held back by another's fault.
//! * Who was convicted, or changed while under suspicion, is tried only after everybody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Tables that may be on their way at once; older ones are only worth less knowledge.
const REMEMBERED: usize = 8;

/// Content hashes of virtual hosts, by name.
pub(crate) type Contents = BTreeMap<String, String>;

/// The state of one route table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bisection {
    current: Contents,
    proven: Contents,
    convicted: Contents,
    distrusted: BTreeSet<String>,
    search: Option<Search>,
    rejections: usize,
    /// What the table published last does not hold.
    replaced: BTreeSet<String>,
    pushes: VecDeque<Push>,
    refused: VecDeque<String>,
}

#[derive(Clone, Debug, Default)]
struct Search {
    /// What the next table holds of the unproven.
    test: Contents,
    /// What is at fault if the test is not; empty if nothing is known.
    rest: Contents,
    /// Whether the next table holds nothing unproven at all.
    ground: bool,
}

#[derive(Clone, Debug)]
struct Push {
    version: String,
    real: Contents,
}

impl Bisection {
    /// Begins with what is known to be at fault.
    pub(crate) fn convicting(convicted: Contents) -> Self {
        let distrusted = convicted.keys().cloned().collect();
        Self {
            convicted,
            distrusted,
            ..Self::default()
        }
    }

    /// Returns the virtual hosts of the current table that are to answer 500 in the next one.
    pub(crate) fn plan(&mut self, current: &Contents) -> BTreeSet<String> {
        self.current.clone_from(current);
        self.proven.retain(|name, _| current.contains_key(name));
        self.distrusted.retain(|name| current.contains_key(name));
        self.convicted.retain(|name, hash| current.get(name) == Some(hash));
        self.look_at_changes();
        let unproven = self.unproven();
        let tried = |name: &String| match &self.search {
            Some(Search { ground: true, .. }) => false,
            Some(Search { test, .. }) => test.contains_key(name),
            None => !self.distrusted.contains(name) || unproven.keys().all(|name| self.distrusted.contains(name)),
        };
        let untried = unproven.keys().filter(|name| !tried(name)).cloned();
        self.convicted.keys().cloned().chain(untried).collect()
    }

    /// Notes that the table as planned last is published under `version`.
    ///
    /// Returns whether a verdict on it can be expected: what was rejected before is not sent again.
    pub(crate) fn published(&mut self, version: &str, replaced: &BTreeSet<String>) -> bool {
        let refused = self.refused.iter().any(|refused| refused == version);
        if self.pushes.back().is_some_and(|push| push.version == version) {
            return !refused;
        }
        let real = self.current.iter().filter(|(name, _)| !replaced.contains(*name));
        let real = real.map(|(name, hash)| (name.clone(), hash.clone())).collect();
        self.pushes.push_back(Push {
            version: version.to_owned(),
            real,
        });
        if self.pushes.len() > REMEMBERED {
            self.pushes.pop_front();
        }
        self.replaced.clone_from(replaced);
        !refused
    }

    /// Learns from every table that `held` says every connected proxy holds now.
    ///
    /// Returns whether there is another table to publish.
    pub(crate) fn settle(&mut self, held: impl Fn(&str) -> bool) -> bool {
        let Some(position) = self.pushes.iter().rposition(|push| held(&push.version)) else {
            return false;
        };
        let newest = position + 1 == self.pushes.len();
        let Some(push) = self.pushes.drain(..=position).next_back() else {
            return false;
        };
        for (name, hash) in push.real {
            if self.current.get(&name) == Some(&hash) {
                self.distrusted.remove(&name);
                self.proven.insert(name, hash);
            }
        }
        if newest {
            self.rejections = 0;
            self.proceed();
        }
        // Whether or not there is a search: what was replaced may have been proven in the meantime.
        let current = std::mem::take(&mut self.current);
        self.plan(&current) != self.replaced
    }

    /// Takes the step that a table without a fault allows.
    fn proceed(&mut self) {
        match self.search.take() {
            // Whatever had to take effect has; now there is time to tell it apart.
            Some(search) if search.ground => {
                self.search = Some(Search {
                    ground: false,
                    ..search
                })
            }
            Some(Search { mut rest, .. }) => {
                rest.retain(|name, hash| self.proven.get(name) != Some(hash));
                self.narrow(rest, None);
            }
            None => {}
        }
    }

    /// Learns that a proxy rejected the table of `version`; `hint` is the virtual host that its reason names.
    ///
    /// Returns whether there is another table to publish.
    pub(crate) fn rejected(&mut self, version: &str, hint: Option<&str>) -> bool {
        // A table that a newer one has replaced is of no interest: the newer one gets a verdict of its own.
        let Some(push) = self.pushes.pop_back_if(|push| push.version == version) else {
            return false;
        };
        self.rejections += 1;
        self.refused.retain(|refused| refused != version);
        self.refused.push_back(push.version);
        if self.refused.len() > REMEMBERED {
            self.refused.pop_front();
        }
        let suspects: Contents = push
            .real
            .into_iter()
            .filter(|(name, hash)| self.proven.get(name) != Some(hash))
            .collect();
        if suspects.is_empty() {
            // The fault is in none of the virtual hosts that changed, so replacing them would not help.
            return false;
        }
        self.search = None;
        let single = suspects.len() == 1;
        self.narrow(suspects, hint);
        let ground = self.rejections >= if single { 3 } else { 2 };
        if ground && !self.unproven().is_empty() {
            if self.search.is_none() {
                self.resume();
            }
            if let Some(search) = &mut self.search {
                search.ground = true;
            }
        }
        true
    }

    /// Returns the virtual hosts that are at fault.
    pub(crate) const fn convicted(&self) -> &Contents {
        &self.convicted
    }

    /// Divides virtual hosts of which at least one is at fault.
    fn narrow(&mut self, mut suspects: Contents, hint: Option<&str>) {
        if suspects.len() <= 1 {
            self.distrusted.extend(suspects.keys().cloned());
            self.convicted.append(&mut suspects);
            return;
        }
        let likely = |name: &String| self.distrusted.contains(name) || hint == Some(name.as_str());
        let (rest, test): (Contents, Contents) = suspects.clone().into_iter().partition(|(name, _)| likely(name));
        let (test, rest) = if test.is_empty() || rest.is_empty() {
            let half = suspects.len() / 2;
            let mut suspects = suspects.into_iter();
            (suspects.by_ref().take(half).collect(), suspects.collect())
        } else {
            (test, rest)
        };
        self.search = Some(Search {
            test,
            rest,
            ground: false,
        });
    }

    /// Tries everything unproven again, the distrusted last; nothing is known of it.
    fn resume(&mut self) {
        let unproven = self.unproven();
        let trusted: Contents = unproven
            .iter()
            .filter(|(name, _)| !self.distrusted.contains(*name))
            .map(own)
            .collect();
        let test = if trusted.is_empty() { unproven } else { trusted };
        self.search = Some(Search {
            test,
            rest: Contents::new(),
            ground: false,
        });
    }

    /// Takes into account what changed while a search was on.
    fn look_at_changes(&mut self) {
        let Some(search) = &mut self.search else { return };
        let (current, proven) = (&self.current, &self.proven);
        let mut changed = false;
        for part in [&mut search.test, &mut search.rest] {
            part.retain(|name, hash| {
                let now = current.get(name);
                if now != Some(hash) {
                    changed = true;
                    if now.is_some() && now != proven.get(name) {
                        self.distrusted.insert(name.clone());
                    }
                }
                now == Some(hash) && proven.get(name) != Some(hash)
            });
        }
        if changed {
            // The fault may have gone with the change.
            search.test.append(&mut search.rest);
        }
        if search.test.is_empty() {
            // What was to be tested is proven: the fault is in the rest, if there is one.
            let Search { rest, ground, .. } = std::mem::take(search);
            self.search = None;
            self.narrow(rest, None);
            if let Some(search) = &mut self.search {
                search.ground = ground;
            }
        }
    }

    fn unproven(&self) -> Contents {
        let known = |(name, hash): &(&String, &String)| {
            self.proven.get(*name) == Some(*hash) || self.convicted.contains_key(*name)
        };
        self.current.iter().filter(|content| !known(content)).map(own).collect()
    }
}

fn own((name, hash): (&String, &String)) -> (String, String) {
    (name.clone(), hash.clone())
}

#[cfg(test)]
mod tests;
