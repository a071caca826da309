//! Statuses to the API server: those that differ, a few at a time, and only while this replica is the one that writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::ApiResource,
};
use portcullis_attachment::status::ObjectStatus;
use serde_json::{Value as Json, json};
use tokio::{sync::watch, task::AbortHandle};

use super::{entries, field_manager};
use crate::{
    brief,
    cluster::{Note, Read, Shared},
    object::Given,
    store::{Name, Written},
};

/// How long statuses are put off, so that a burst of changes is one write.
const QUIET: Duration = Duration::from_millis(100);

/// How many statuses are written at a time.
const AT_A_TIME: usize = 8;

/// How many statuses are written before it is looked again what is to be written.
const BATCH: usize = 40;

/// The shortest time that a batch may take: some 100 writes a second.
const PACE: Duration = Duration::from_millis(400);

/// How long the echo of a write is waited for, and how long a write that failed is put off.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a write came to, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The API server took it.
    Written,
    /// The object was another one by then; it is looked at again.
    Conflict,
    /// The API server refused it, or did not answer.
    Failed,
}

type Key = (&'static str, Name);
type Wanted = Option<Arc<Vec<ObjectStatus>>>;

/// Writes statuses, for as long as this value lives.
#[derive(Debug)]
pub struct Writer {
    wanted: watch::Sender<Wanted>,
    task: AbortHandle,
}

impl Writer {
    /// Begins to write the statuses of a controller while `leads` says so; each outcome is told to `told`.
    #[must_use]
    pub fn start(
        client: &Client,
        objects: &Read,
        controller: &str,
        leads: watch::Receiver<bool>,
        told: impl Fn(Outcome) + Send + Sync + 'static,
    ) -> Self {
        let (wanted, received) = watch::channel(None);
        let task = Task {
            client: client.clone(),
            shared: objects.shared(),
            controller: Arc::from(controller),
            wanted: received,
            leads,
            put_off: HashMap::new(),
            settled: HashMap::new(),
            looked_at: Arc::default(),
            last: None,
            complaints: BTreeSet::new(),
            told: Box::new(told),
        };
        Self {
            wanted,
            task: tokio::spawn(task.run()).abort_handle(),
        }
    }

    /// These are the statuses now, of all objects that have one. A policy's condition `Enforced` stays as it is written
    /// where nothing is said of it.
    pub fn publish(&self, statuses: Vec<ObjectStatus>) {
        self.wanted.send_replace(Some(Arc::new(statuses)));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    client: Client,
    shared: Arc<Shared>,
    controller: Arc<str>,
    wanted: watch::Receiver<Wanted>,
    leads: watch::Receiver<bool>,
    /// Versions onto which something was written, or could not be, and when that was.
    put_off: HashMap<Key, (String, Instant)>,
    /// Versions whose status is as it was wanted in `looked_at`.
    settled: HashMap<Key, String>,
    looked_at: Arc<Vec<ObjectStatus>>,
    /// What the last batch ended with.
    last: Option<Key>,
    /// What was complained of.
    complaints: BTreeSet<String>,
    told: Box<dyn Fn(Outcome) + Send + Sync>,
}

/// One status that differs.
struct Write {
    key: Key,
    version: String,
    status: Json,
}

impl Task {
    async fn run(mut self) {
        let mut more = false;
        loop {
            if !more {
                let wait = if self.put_off.is_empty() {
                    Duration::from_secs(3600)
                } else {
                    PATIENCE
                };
                tokio::select! {
                    changed = self.wanted.changed() => if changed.is_err() { return },
                    changed = self.leads.changed() => if changed.is_err() { return },
                    () = self.shared.written() => {}
                    () = tokio::time::sleep(wait) => {}
                }
                tokio::time::sleep(QUIET).await;
            }
            more = false;
            let wanted = self.wanted.borrow_and_update().clone();
            let Some(wanted) = wanted.filter(|_| *self.leads.borrow_and_update()) else {
                continue;
            };
            let began = Instant::now();
            self.put_off.retain(|_, (_, since)| since.elapsed() < PATIENCE);
            let writes = self.differences(wanted).await;
            more = writes.len() > BATCH;
            let writes = batch(writes, self.last.as_ref());
            let Some(last) = writes.last() else {
                continue;
            };
            self.last = Some(last.key.clone());
            self.write(writes).await;
            tokio::time::sleep(
                PACE.saturating_sub(began.elapsed())
                    .min(if more { PACE } else { Duration::ZERO }),
            )
            .await;
        }
    }

    /// What is not as it is to be.
    async fn differences(&mut self, wanted: Arc<Vec<ObjectStatus>>) -> Vec<Write> {
        let look = Look {
            written: self.shared.store().written(),
            controller: Arc::clone(&self.controller),
            put_off: self
                .put_off
                .iter()
                .map(|(key, (version, _))| (key.clone(), version.clone()))
                .collect(),
            former: std::mem::replace(&mut self.looked_at, Arc::clone(&wanted)),
            settled: std::mem::take(&mut self.settled),
            wanted,
        };
        // Many objects take a while, and others wait for this thread.
        let found = tokio::task::spawn_blocking(move || look.differences());
        let (writes, settled) = found.await.unwrap_or_default();
        self.settled = settled;
        writes
    }

    async fn write(&mut self, writes: Vec<Write>) {
        let resources = self.shared.resources();
        let client = &self.client;
        let manager = field_manager(&self.controller);
        let send = |write: Write| {
            let resource = resources.get(write.key.0).cloned();
            let params = PatchParams::apply(&manager).force();
            async move {
                let Some(resource) = resource else {
                    return (write, Ok(()));
                };
                let sent = send(client, &resource, &write, &params).await;
                (write, sent)
            }
        };
        let leads = self.leads.clone();
        let mut answers = futures::stream::iter(writes)
            // Whoever leads now writes the rest.
            .take_while(|_| std::future::ready(*leads.borrow()))
            .map(send)
            .buffer_unordered(AT_A_TIME)
            .collect::<Vec<_>>()
            .await;
        for (write, answer) in answers.drain(..) {
            let outcome = match answer {
                Ok(()) => Outcome::Written,
                Err(kube::Error::Api(status)) if status.code == 409 => Outcome::Conflict,
                // It is gone.
                Err(kube::Error::Api(status)) if status.code == 404 => Outcome::Written,
                Err(error) => {
                    let (kind, (namespace, name)) = &write.key;
                    let why = brief(&error);
                    // Once for each kind of trouble, not for each of a thousand objects.
                    if self
                        .complaints
                        .insert(format!("{kind} {}", why.replace(name.as_str(), "")))
                    {
                        let text = format!("the status of {kind} {namespace}/{name} cannot be written: {why}");
                        self.shared.note(Note::Worse(text));
                    }
                    Outcome::Failed
                }
            };
            if outcome == Outcome::Written {
                let kind = write.key.0;
                self.complaints
                    .retain(|complaint| !complaint.starts_with(&format!("{kind} ")));
            }
            (self.told)(outcome);
            self.put_off.insert(write.key, (write.version, Instant::now()));
        }
    }
}

/// The next ones to be written, of those sorted by key: on from the last one, as the first ones may differ again and again.
fn batch(mut writes: Vec<Write>, last: Option<&Key>) -> Vec<Write> {
    let written = last.map_or(0, |last| writes.partition_point(|write| write.key <= *last));
    writes.rotate_left(written);
    writes.truncate(BATCH);
    writes
}

/// Statuses as they are and as they are to be.
struct Look {
    written: BTreeMap<Key, Arc<Written>>,
    wanted: Arc<Vec<ObjectStatus>>,
    controller: Arc<str>,
    put_off: HashMap<Key, String>,
    /// What was wanted at the last look.
    former: Arc<Vec<ObjectStatus>>,
    /// Versions that were as they were to be, then.
    settled: HashMap<Key, String>,
}

impl Look {
    /// What differs, and what does not. Costs what changed since the last look.
    fn differences(&self) -> (Vec<Write>, HashMap<Key, String>) {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (wanted, former) = (by_name(&self.wanted), by_name(&self.former));
        let mut writes = Vec::new();
        let mut settled = HashMap::with_capacity(self.written.len());
        for (key, written) in &self.written {
            let (kind, (namespace, name)) = key;
            // What was written onto this version has not come back yet.
            if self.put_off.get(key) == Some(&written.version) {
                continue;
            }
            let name = (*kind, namespace.as_str(), name.as_str());
            let wanted = wanted.get(&name).copied();
            let known = self.settled.get(key) == Some(&written.version);
            if known && wanted == former.get(&name).copied() {
                settled.insert(key.clone(), written.version.clone());
                continue;
            }
            // What was found out about another generation is not this one's status.
            if wanted.is_some_and(|wanted| wanted.observed_generation != written.generation) {
                continue;
            }
            match entries::apply(kind, wanted, &written.status, &self.controller, &now) {
                Some(status) => writes.push(Write {
                    key: key.clone(),
                    version: written.version.clone(),
                    status,
                }),
                None => {
                    settled.insert(key.clone(), written.version.clone());
                }
            }
        }
        (writes, settled)
    }
}

fn by_name(statuses: &[ObjectStatus]) -> HashMap<(&str, &str, &str), &ObjectStatus> {
    let named = statuses.iter().map(|status| {
        let object = &status.object;
        ((object.kind, object.namespace.as_str(), object.name.as_str()), status)
    });
    named.collect()
}

async fn send(client: &Client, resource: &ApiResource, write: &Write, params: &PatchParams) -> Result<(), kube::Error> {
    let (_, (namespace, name)) = &write.key;
    let mut metadata = json!({"name": name});
    if let Some(fields) = metadata.as_object_mut() {
        if !namespace.is_empty() {
            fields.insert("namespace".to_owned(), json!(namespace));
        }
        // Always: an object that was deleted and made anew is another one, and entries of others may have come.
        fields.insert("resourceVersion".to_owned(), json!(write.version));
    }
    let body: Json = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "status": write.status,
    });
    let api: Api<Given> = if namespace.is_empty() {
        Api::all_with(client.clone(), resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, resource)
    };
    api.patch_status(name, params, &Patch::Apply(&body)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_turn_even_if_the_first_ones_always_differ() {
        let all = || {
            let keys = (0..=BATCH * 2).map(|number| ("HTTPRoute", ("shop".to_owned(), format!("{number:03}"))));
            let writes = keys.map(|key| Write {
                key,
                version: String::new(),
                status: Json::Null,
            });
            writes.collect::<Vec<_>>()
        };
        let mut last = None;
        let mut written = BTreeSet::new();
        for _ in 0..3 {
            let writes = batch(all(), last.as_ref());
            assert_eq!(writes.len(), BATCH);
            last = writes.last().map(|write| write.key.clone());
            written.extend(writes.into_iter().map(|write| write.key));
        }
        assert_eq!(written.len(), BATCH * 2 + 1);
        let few = all().into_iter().take(2).collect();
        assert_eq!(batch(few, last.as_ref()).len(), 2, "from the first one again");
    }
}
