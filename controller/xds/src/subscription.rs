//! What one stream's client follows, holds and refuses of one type.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{snapshot::Resource, wire::DeltaDiscoveryRequest};

/// The version that a name is to have at the client; `None` means that the client is to hold none.
pub(crate) type Target = Option<Arc<str>>;

/// A response that the client has neither acknowledged nor rejected.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) nonce: String,
    pub(crate) generation: u64,
    pub(crate) sent: BTreeMap<String, Target>,
}

/// What is to be sent, apart from any hold.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Names that the client asked for and that no response has carried since.
    pub(crate) answers: BTreeMap<String, Target>,
    /// Resources that are new or have changed.
    pub(crate) additions: BTreeMap<String, Target>,
    /// Names that the client holds and that exist no longer.
    pub(crate) removals: BTreeMap<String, Target>,
    /// Whether the client goes on using an old version because it rejected the new one.
    pub(crate) stale: bool,
}

/// What an acknowledgement or a rejection settled.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The client holds what was sent.
    Acknowledged {
        generation: u64,
        sent: BTreeMap<String, Target>,
    },
    /// The client refuses this one resource.
    Rejected {
        generation: u64,
        name: String,
        target: Target,
    },
    /// The client refused a response of several resources; they will be sent again in smaller groups.
    Split,
}

#[derive(Debug, Default)]
pub(crate) struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    held: BTreeMap<String, Arc<str>>,
    rejected: BTreeMap<String, Target>,
    asked: BTreeSet<String>,
    // The client waits for its first answer to `*`, even if there is nothing to tell.
    wildcard_asked: bool,
    // What was in a rejected response of several resources: the client may or may not use it, whatever `held` says.
    unsure: BTreeSet<String>,
    // Groups of names whose last response was rejected as a whole: at least one of each is at fault.
    suspects: VecDeque<BTreeSet<String>>,
    pub(crate) outstanding: Option<Outstanding>,
}

const WILDCARD: &str = "*";

impl Subscription {
    /// Opens the subscription with the stream's first request for the type.
    pub(crate) fn open(request: DeltaDiscoveryRequest) -> Self {
        let mut subscription = Self {
            // A client that names nothing at first means everything; once it has named something, it no longer can.
            wildcard: request.resource_names_subscribe.is_empty(),
            held: request
                .initial_resource_versions
                .into_iter()
                .map(|(name, version)| (name, version.into()))
                .collect(),
            ..Self::default()
        };
        let known: BTreeSet<_> = subscription.held.keys().cloned().collect();
        subscription.follow(request.resource_names_subscribe, request.resource_names_unsubscribe);
        // What the client says it holds needs no answer unless it is out of date, and then the difference brings it.
        subscription.asked.retain(|name| !known.contains(name));
        subscription.forget_unfollowed();
        subscription.wildcard_asked = subscription.wildcard && subscription.held.is_empty();
        subscription
    }

    /// Changes what the client follows.
    pub(crate) fn follow(&mut self, subscribe: Vec<String>, unsubscribe: Vec<String>) {
        for name in subscribe {
            if name == WILDCARD {
                self.wildcard_asked |= !self.wildcard;
                self.wildcard = true;
                continue;
            }
            // The client may have dropped what it held of this name, so it is answered in any case.
            self.rejected.remove(&name);
            self.asked.insert(name.clone());
            self.names.insert(name);
        }
        // After the subscriptions: a client that follows nothing says so by `*` in both lists.
        for name in unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
                self.wildcard_asked = false;
            } else if self.names.remove(&name) && self.wildcard {
                // The client cannot know whether the wildcard still covers the name.
                self.asked.insert(name);
            }
        }
        self.forget_unfollowed();
    }

    /// Returns how many names the client makes this side remember.
    pub(crate) fn names(&self) -> usize {
        self.names.len().max(self.held.len())
    }

    /// Makes the next response carry `name`, if the client follows it.
    pub(crate) fn ask(&mut self, name: &str) {
        if self.follows(name) {
            self.asked.insert(name.to_owned());
        }
    }

    /// Whether the client is to be answered even if there is nothing to tell.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.wildcard_asked && self.outstanding.is_none()
    }

    /// Returns the version that the client acknowledged, or said to hold when it connected.
    pub(crate) fn held(&self, name: &str) -> Option<&Arc<str>> {
        self.held.get(name)
    }

    fn follows(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn forget_unfollowed(&mut self) {
        if self.wildcard {
            return;
        }
        let names = &self.names;
        self.held.retain(|name, _| names.contains(name));
        self.rejected.retain(|name, _| names.contains(name));
        self.asked.retain(|name| names.contains(name));
        self.unsure.retain(|name| names.contains(name));
    }

    /// Compares what the client is to hold with what it holds.
    pub(crate) fn due(&self, resources: Option<&BTreeMap<String, Resource>>) -> Due {
        let mut due = Due::default();
        let followed = |name: &&String| self.follows(name);
        for (name, resource) in resources.into_iter().flatten().filter(|(name, _)| followed(name)) {
            let target = Some(Arc::clone(resource.version()));
            if self.rejected.get(name) == Some(&target) {
                due.stale |= self.held.contains_key(name);
            } else if self.asked.contains(name) {
                due.answers.insert(name.clone(), target);
            } else if self.held.get(name) != target.as_ref() || self.unsure.contains(name) {
                due.additions.insert(name.clone(), target);
            }
        }
        let absent = |name: &&String| !resources.is_some_and(|resources| resources.contains_key(*name));
        for name in self.asked.iter().filter(absent) {
            if self.rejected.get(name) != Some(&None) {
                due.answers.insert(name.clone(), None);
            }
        }
        for name in self.held.keys().chain(&self.unsure).filter(absent) {
            if self.rejected.get(name) != Some(&None) && !self.asked.contains(name) {
                due.removals.insert(name.clone(), None);
            }
        }
        due
    }

    /// Takes from `batch` what the next response carries: what no rejection has touched first, then one group that was
    /// rejected together.
    pub(crate) fn select(&mut self, mut batch: BTreeMap<String, Target>) -> BTreeMap<String, Target> {
        let suspected = |name: &String| self.suspects.iter().any(|group| group.contains(name));
        let fresh: BTreeMap<_, _> = batch
            .iter()
            .filter(|(name, _)| !suspected(name))
            .map(|(name, target)| (name.clone(), target.clone()))
            .collect();
        if !fresh.is_empty() {
            return fresh;
        }
        for group in &self.suspects {
            if group.iter().any(|name| batch.contains_key(name)) {
                batch.retain(|name, _| group.contains(name));
                return batch;
            }
        }
        batch
    }

    /// Notes that a response left.
    pub(crate) fn sent(&mut self, outstanding: Outstanding) {
        self.asked.retain(|name| !outstanding.sent.contains_key(name));
        self.wildcard_asked = false;
        self.outstanding = Some(outstanding);
    }

    /// Settles the outstanding response, if `nonce` is its nonce.
    pub(crate) fn settle(&mut self, nonce: &str, rejected: bool) -> Option<Verdict> {
        let Outstanding { generation, sent, .. } =
            self.outstanding.take_if(|outstanding| outstanding.nonce == nonce)?;
        if rejected {
            Some(self.reject(generation, sent))
        } else {
            Some(self.acknowledge(generation, sent))
        }
    }

    fn acknowledge(&mut self, generation: u64, sent: BTreeMap<String, Target>) -> Verdict {
        for (name, target) in &sent {
            self.rejected.remove(name);
            self.unsure.remove(name);
            self.clear_suspicion(name);
            match target {
                // An unsubscription may have overtaken the response.
                Some(version) if self.follows(name) => {
                    self.held.insert(name.clone(), Arc::clone(version));
                }
                _ => {
                    self.held.remove(name);
                }
            }
        }
        Verdict::Acknowledged { generation, sent }
    }

    fn reject(&mut self, generation: u64, sent: BTreeMap<String, Target>) -> Verdict {
        for name in sent.keys() {
            self.clear_suspicion(name);
        }
        if sent.len() > 1 {
            // Which of them took effect is unknown (Envoy stops at the first bad route table, but goes on after a bad
            // listener), so all go again, in halves, until the one at fault stands alone.
            let followed: Vec<_> = sent.keys().filter(|name| self.follows(name)).cloned().collect();
            self.unsure.extend(followed);
            let middle = sent.len() / 2;
            self.suspects.push_back(sent.keys().take(middle).cloned().collect());
            self.suspects.push_back(sent.into_keys().skip(middle).collect());
            return Verdict::Split;
        }
        match sent.into_iter().next() {
            Some((name, target)) => {
                if self.follows(&name) {
                    self.rejected.insert(name.clone(), target.clone());
                }
                Verdict::Rejected {
                    generation,
                    name,
                    target,
                }
            }
            None => Verdict::Acknowledged {
                generation,
                sent: BTreeMap::new(),
            },
        }
    }

    fn clear_suspicion(&mut self, name: &str) {
        for group in &mut self.suspects {
            group.remove(name);
        }
        self.suspects.retain(|group| !group.is_empty());
    }
}
