//! The key sets of all servers of keys, fetched in their turn, to be sent to the proxies along with the policies.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use portcullis_attachment::{effective::Attachment, object::ObjectRef};
use portcullis_gateway::{FetchedKeys, KeySets, Reached};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use super::fetch::{self, Unfetched};
use crate::answers;

/// After how long a key set that did not change is sent along anew, in seconds: each time costs the proxies an update, and they
/// use what was sent along for a day.
const RESENT: u64 = 3_600;
/// How long after a failed fetch the next begins, at first and at most.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// What became of a fetch.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    id: String,
    began: u64,
    outcome: Result<String, Unfetched>,
}

/// The servers that are asked, and what they answered last.
pub(crate) struct Keys {
    system: String,
    tasks: BTreeMap<String, (Reached, JoinHandle<()>)>,
    held: Arc<KeySets>,
    /// When the last fetch that brought keys began, in seconds since 1970.
    fetched: BTreeMap<String, u64>,
    failing: BTreeMap<String, String>,
    sender: UnboundedSender<Fetched>,
}

/// What is to be done about a fetch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether the proxies are to be sent other key sets.
    pub(crate) changed: bool,
    /// What a person is to be told.
    pub(crate) line: Option<String>,
}

impl Keys {
    /// Asks nobody yet; `system` is the file of certificates that this system trusts.
    pub(crate) fn new(system: String) -> (Self, UnboundedReceiver<Fetched>) {
        let (sender, receiver) = unbounded_channel();
        let keys = Self {
            system,
            tasks: BTreeMap::new(),
            held: Arc::default(),
            fetched: BTreeMap::new(),
            failing: BTreeMap::new(),
            sender,
        };
        (keys, receiver)
    }

    /// The key sets to be sent along.
    pub(crate) fn sets(&self) -> Arc<KeySets> {
        Arc::clone(&self.held)
    }

    /// Asks these servers, and no others, from now on.
    pub(crate) fn ask(&mut self, servers: &[Reached]) {
        let wanted: BTreeMap<&str, &Reached> = servers
            .iter()
            .map(|reached| (reached.server.id.as_str(), reached))
            .collect();
        self.tasks.retain(|id, (reached, task)| {
            let same = wanted.get(id.as_str()).is_some_and(|wanted| *wanted == reached);
            if !same {
                task.abort();
            }
            same
        });
        self.failing.retain(|id, _| wanted.contains_key(id.as_str()));
        self.fetched.retain(|id, _| wanted.contains_key(id.as_str()));
        if self.held.keys().any(|id| !wanted.contains_key(id.as_str())) {
            Arc::make_mut(&mut self.held).retain(|id, _| wanted.contains_key(id.as_str()));
        }
        for (id, reached) in wanted {
            if !self.tasks.contains_key(id) {
                let task = tokio::spawn(watch(reached.clone(), self.system.clone(), self.sender.clone()));
                self.tasks.insert(id.to_owned(), (reached.clone(), task));
            }
        }
    }

    /// When the key set of each server was fetched last, in seconds since 1970; of several that name one server, the oldest.
    pub(crate) fn fetched_at(&self) -> BTreeMap<String, u64> {
        let mut fetched = BTreeMap::new();
        for (id, (reached, _)) in &self.tasks {
            if let Some(at) = self.fetched.get(id) {
                let server = format!("{}{}", reached.server.authority, reached.server.path);
                let oldest = fetched.entry(server).or_insert(*at);
                *oldest = (*oldest).min(*at);
            }
        }
        fetched
    }

    /// Takes in what became of a fetch.
    pub(crate) fn take(&mut self, fetched: Fetched) -> News {
        let Fetched { id, began, outcome } = fetched;
        let Some((reached, _)) = self.tasks.get(&id) else {
            return News::default();
        };
        let name = format!("keys of {}{}", reached.server.authority, reached.server.path);
        match outcome {
            Ok(jwks) => {
                let line = self.failing.remove(&id).map(|_| format!("{name}: fetched again"));
                self.fetched.insert(id.clone(), began);
                let known = self.held.get(&id);
                let changed =
                    known.is_none_or(|known| *known.jwks != *jwks || began.saturating_sub(known.fetched) >= RESENT);
                if changed {
                    let fetched = FetchedKeys {
                        fetched: began,
                        jwks: jwks.into(),
                    };
                    Arc::make_mut(&mut self.held).insert(id, fetched);
                }
                News { changed, line }
            }
            Err(why) => {
                let why = why.to_string();
                let before = self.failing.insert(id.clone(), why.clone());
                let line = (before.as_ref() != Some(&why)).then(|| {
                    let held = if self.held.contains_key(&id) {
                        "; the last ones serve on"
                    } else {
                        ""
                    };
                    format!("{name}: not fetched: {why}{held}")
                });
                News { changed: false, line }
            }
        }
    }
}

impl Keys {
    /// What is wrong with the keys that policies name: the fetch that failed, and of when the keys are that serve on. No age, which
    /// would be another one at each look.
    pub(crate) fn troubles(&self, attachment: &Attachment) -> BTreeMap<ObjectRef, String> {
        let mut troubles: BTreeMap<ObjectRef, BTreeMap<&str, String>> = BTreeMap::new();
        if self.failing.is_empty() {
            return BTreeMap::new();
        }
        for server in attachment.policies.values().flat_map(|policy| &policy.key_servers) {
            let Some(why) = self.failing.get(&server.id) else {
                continue;
            };
            let of = troubles.entry(server.policy.clone()).or_default();
            of.entry(&server.id).or_insert_with(|| {
                let fetched = self
                    .fetched
                    .get(&server.id)
                    .and_then(|fetched| i64::try_from(*fetched).ok());
                let consequence = match fetched.and_then(|fetched| Timestamp::from_second(fetched).ok()) {
                    Some(fetched) => format!("those of {fetched} serve on"),
                    None => "there were none yet".to_owned(),
                };
                format!(
                    "keys of {}{} not fetched: {why}; {consequence}",
                    server.authority, server.path
                )
            });
        }
        let text = |texts: BTreeMap<&str, String>| texts.into_values().collect::<Vec<_>>().join("; ");
        troubles
            .into_iter()
            .map(|(policy, texts)| (policy, text(texts)))
            .collect()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

async fn watch(reached: Reached, system: String, sender: UnboundedSender<Fetched>) {
    let mut retry = *RETRY.start();
    loop {
        let began = answers::seconds();
        let outcome = fetch::key_set(&reached, &system).await;
        let wait = if outcome.is_ok() {
            retry = *RETRY.start();
            Duration::from_secs(reached.server.interval)
        } else {
            let wait = retry;
            retry = (retry * 2).min(*RETRY.end());
            wait
        };
        let id = reached.server.id.clone();
        if sender.send(Fetched { id, began, outcome }).is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use portcullis_attachment::{
        effective::{self, EffectivePolicy, Options, Place},
        key_server::KeyServer,
        object::ListenerRef,
    };

    use super::*;

    fn reached() -> Reached {
        Reached {
            server: Arc::new(KeyServer {
                id: "a".to_owned(),
                policy: ObjectRef::new("SecurityPolicy", "shop", "orders"),
                field: String::new(),
                encrypted: false,
                host: "idp.example.com".to_owned(),
                port: 80,
                authority: "idp.example.com".to_owned(),
                path: "/keys".to_owned(),
                backend: None,
                interval: 300,
                retry_interval: 1,
                timeout: 1_000,
            }),
            endpoints: Vec::new(),
            tls: None,
        }
    }

    fn fetched(began: u64, outcome: Result<&str, &str>) -> Fetched {
        Fetched {
            id: "a".to_owned(),
            began,
            outcome: outcome.map(str::to_owned).map_err(Unfetched::new),
        }
    }

    #[tokio::test]
    async fn only_what_differs_is_sent_and_only_what_is_new_is_told() {
        let (mut keys, _receiver) = Keys::new(String::new());
        assert_eq!(keys.take(fetched(1, Ok("one"))), News::default(), "nobody asked");
        keys.ask(&[reached()]);
        assert!(keys.take(fetched(1, Ok("one"))).changed);
        assert!(!keys.take(fetched(300, Ok("one"))).changed);
        assert!(
            keys.take(fetched(3_601, Ok("one"))).changed,
            "proxies must not think that it is old"
        );
        let told = keys.take(fetched(3_900, Err("it answered 503"))).line;
        assert_eq!(
            told.as_deref(),
            Some("keys of idp.example.com/keys: not fetched: it answered 503; the last ones serve on")
        );
        assert_eq!(
            keys.take(fetched(3_901, Err("it answered 503"))),
            News::default(),
            "told before"
        );
        assert_eq!(keys.sets()["a"].fetched, 3_601);
        assert_eq!(
            keys.fetched_at(),
            BTreeMap::from([("idp.example.com/keys".to_owned(), 3_601)])
        );
        let news = keys.take(fetched(3_902, Ok("two")));
        assert_eq!(
            news.line.as_deref(),
            Some("keys of idp.example.com/keys: fetched again")
        );
        assert!(news.changed);
        keys.ask(&[]);
        assert!(keys.sets().is_empty(), "nobody asks for them any more");
    }

    #[tokio::test]
    async fn a_policy_is_told_of_as_long_as_its_keys_are_not_fetched() {
        let (mut keys, _receiver) = Keys::new(String::new());
        keys.ask(&[reached()]);
        let mut policy = EffectivePolicy::clone(&effective::none(&Options {
            controller_name: String::new(),
            salt_key: [0; 32],
        }));
        policy.key_servers = vec![reached().server];
        let place = Place {
            listener: ListenerRef {
                namespace: "edge".to_owned(),
                gateway: "public".to_owned(),
                set: None,
                listener: "http".to_owned(),
            },
            route: ObjectRef::new("HTTPRoute", "shop", "orders"),
            rule: 0,
        };
        let attachment = Attachment {
            policies: BTreeMap::from([(place, Arc::new(policy))]),
            ..Attachment::default()
        };
        let trouble = |keys: &Keys| {
            let troubles = keys.troubles(&attachment);
            troubles
                .get(&ObjectRef::new("SecurityPolicy", "shop", "orders"))
                .cloned()
        };
        assert_eq!(trouble(&keys), None, "nothing is known yet");
        keys.take(fetched(1, Err("it answered 503")));
        assert_eq!(
            trouble(&keys).as_deref(),
            Some("keys of idp.example.com/keys not fetched: it answered 503; there were none yet")
        );
        keys.take(fetched(86_400, Ok("one")));
        assert_eq!(trouble(&keys), None);
        keys.take(fetched(90_000, Err("it answered 503")));
        assert_eq!(
            trouble(&keys).as_deref(),
            Some("keys of idp.example.com/keys not fetched: it answered 503; those of 1970-01-02T00:00:00Z serve on")
        );
    }
}
