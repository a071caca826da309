//! What a cluster holds, and that it changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{Client, core::ApiResource};
use portcullis_manifest::{KindInfo, Loaded};
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use crate::{
    POLICIES, brief,
    collector::collect,
    discovery::{Found, Present, discover},
    pruned,
    store::{Scope, Store},
    watching,
};

/// How often it is looked which kinds the API server has: a definition that was installed is in force after that time.
const LOOK: Duration = Duration::from_secs(5);

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only these namespaces; all if empty.
    pub namespaces: BTreeSet<String>,
    /// The namespace of which Services are read in any case: those of Envoys are where the controller is.
    pub services: Option<String>,
}

/// Something to tell the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Something does not work, or is not there.
    Worse(String),
    /// It works again, or is there now.
    Better(String),
}

/// A cluster that is being watched, for as long as this value lives.
pub struct Cluster {
    shared: Arc<Shared>,
    changes: mpsc::Receiver<()>,
    notes: mpsc::UnboundedReceiver<Note>,
    tasks: Vec<AbortHandle>,
}

/// How many looks in a row must miss a kind before it counts as gone, with all of its objects. When a definition is deleted its
/// objects are deleted before, and their watch tells: objects that are left are those of an API server that has not read its
/// definitions yet, or serves the kind in no version. Policies of such a kind restrict for as long as this controller runs.
fn looks(kind: &str, holds: bool) -> Option<u32> {
    match (holds, POLICIES.contains(&kind)) {
        (false, _) => Some(2),
        (true, false) => Some(12),
        (true, true) => None,
    }
}

/// The objects of a cluster, for a thread of their own.
#[derive(Clone)]
pub struct Read {
    shared: Arc<Shared>,
}

/// What the watches, and whoever reads, have in common.
pub(crate) struct Shared {
    store: Mutex<Store>,
    changed: Notify,
    written: Notify,
    resources: Mutex<BTreeMap<&'static str, ApiResource>>,
    notes: mpsc::UnboundedSender<Note>,
}

impl Shared {
    pub(crate) fn new(notes: mpsc::UnboundedSender<Note>) -> Self {
        Self {
            store: Mutex::default(),
            changed: Notify::new(),
            written: Notify::new(),
            resources: Mutex::default(),
            notes,
        }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Waits until something that decides may be another.
    pub(crate) async fn until_changed(&self) {
        self.changed.notified().await;
    }

    /// A status, or what it is about, may be another one.
    pub(crate) fn touched(&self) {
        self.written.notify_one();
    }

    /// Waits until statuses may be others.
    pub(crate) async fn written(&self) {
        self.written.notified().await;
    }

    /// How each kind that is there is asked for.
    pub(crate) fn resources(&self) -> BTreeMap<&'static str, ApiResource> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note(&self, note: Note) {
        // Nobody listens any more at the end.
        let _ = self.notes.send(note);
    }
}

impl Cluster {
    /// Begins to watch; to be called within a runtime.
    #[must_use]
    pub fn watch(client: &Client, options: Options) -> Self {
        let (notes, told) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(notes));
        let (changes, changed) = mpsc::channel(1);
        let (found, present) = tokio::sync::watch::channel(None);
        let scopes: Vec<Scope> = if options.namespaces.is_empty() {
            vec![Scope::All]
        } else {
            options.namespaces.into_iter().map(Scope::Namespace).collect()
        };
        let watches = Watches {
            client: client.clone(),
            scopes: scopes.clone(),
            services: options.services,
            shared: Arc::clone(&shared),
            running: BTreeMap::new(),
            doubted: BTreeMap::new(),
            unread: BTreeMap::new(),
            found,
        };
        let collector = collect(client.clone(), scopes, Arc::clone(&shared), present, changes);
        let tasks = vec![
            tokio::spawn(watches.run()).abort_handle(),
            tokio::spawn(collector).abort_handle(),
        ];
        Self {
            shared,
            changes: changed,
            notes: told,
            tasks,
        }
    }

    /// Waits for something to tell, or for a change, which is `None`: the first time until everything has been listed once.
    /// May be given up at any time.
    pub async fn next(&mut self) -> Option<Note> {
        tokio::select! {
            // What was told before a change came before it.
            biased;
            Some(note) = self.notes.recv() => Some(note),
            Some(()) = self.changes.recv() => None,
            else => std::future::pending().await,
        }
    }

    /// What has not been listed yet, in words; for whoever waits for the first change.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let store = self.shared.store();
        store.missing().into_iter().map(str::to_owned).collect()
    }

    /// The objects.
    #[must_use]
    pub fn objects(&self) -> Read {
        Read {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Read {
    /// All objects as they are now. Blocks; costs what changed since the last time.
    #[must_use]
    pub fn load(&self) -> Loaded {
        self.shared.store().load()
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// The watches of all kinds that are there.
struct Watches {
    client: Client,
    /// What is watched of namespaced kinds.
    scopes: Vec<Scope>,
    /// Where Services are read too.
    services: Option<String>,
    shared: Arc<Shared>,
    running: BTreeMap<&'static str, Running>,
    /// Kinds that were not there at the last look, with the number of looks in a row that missed them.
    doubted: BTreeMap<&'static str, u32>,
    /// Policies that are there in no version that is read, with the versions.
    unread: BTreeMap<&'static str, Vec<String>>,
    found: tokio::sync::watch::Sender<Option<Arc<Present>>>,
}

struct Running {
    resource: ApiResource,
    tasks: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Watches {
    async fn run(mut self) {
        let mut trouble = String::new();
        loop {
            match discover(&self.client).await {
                Ok(found) => {
                    if !std::mem::take(&mut trouble).is_empty() {
                        self.shared
                            .note(Note::Better("the API server answers again".to_owned()));
                    }
                    self.settle(found);
                }
                Err(error) => {
                    let why = brief(&error);
                    if why != trouble {
                        let text = format!("the API server does not say which kinds it has: {why}");
                        self.shared.note(Note::Worse(text));
                        trouble = why;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Begins and ends watches.
    fn settle(&mut self, Found { present, unread }: Found) {
        let first = self.found.borrow().is_none();
        for (name, versions) in &unread {
            self.doubted.remove(name);
            if self.unread.get(name) != Some(versions) {
                let versions = versions.join(", ");
                self.shared.note(Note::Worse(format!(
                    "{name} is there only in versions that are not read: {versions}; nobody knows what it restricts, so nothing new is let through"
                )));
            }
        }
        let former = std::mem::replace(&mut self.unread, unread);
        for (name, (kind, resource)) in &present {
            self.doubted.remove(name);
            if !first && (former.contains_key(name) || !self.running.contains_key(name)) {
                self.shared.note(Note::Better(format!("{name} is there now")));
            }
            if self
                .running
                .get(name)
                .is_some_and(|running| running.resource == *resource)
            {
                continue;
            }
            let mut running = self.start(*kind, resource);
            let (client, shared, resource) = (self.client.clone(), Arc::clone(&self.shared), resource.clone());
            let compared = tokio::spawn(async move {
                if let Some(text) = pruned::report(&client, &resource).await {
                    shared.note(Note::Worse(text));
                }
            });
            running.tasks.push(compared.abort_handle());
            self.running.insert(name, running);
        }
        let absent: Vec<&'static str> = portcullis_manifest::kinds()
            .map(|kind| kind.name)
            .filter(|name| !present.contains_key(name) && !self.unread.contains_key(name))
            .collect();
        if first && !absent.is_empty() {
            let text = format!("not installed, and taken as empty: {}", absent.join(", "));
            self.shared.note(Note::Worse(text));
        }
        for name in absent {
            let versions = former.get(name);
            if !self.running.contains_key(name) && versions.is_none() {
                continue;
            }
            // One look may ask an API server that has not heard of a definition yet.
            let count = self.doubted.entry(name).or_default();
            *count = count.saturating_add(1);
            let (count, holds) = (*count, self.shared.store().holds_any(name));
            if looks(name, holds).is_none_or(|enough| count < enough) {
                if holds && count == 2 {
                    self.shared.note(Note::Worse(format!(
                        "{name} is not served any more, but nobody deleted its objects: they stay in force"
                    )));
                }
                self.unread.extend(versions.map(|versions| (name, versions.clone())));
                continue;
            }
            self.running.remove(name);
            self.doubted.remove(name);
            self.shared.store().forget(name);
            self.shared
                .note(Note::Worse(format!("{name} is gone, with all of its objects")));
            self.shared.changed();
        }
        let doubted = self.doubted.keys().filter(|name| POLICIES.contains(name));
        let unread = self.unread.keys().chain(doubted).copied();
        let others = self.shared.store().set_unread(unread.collect());
        let resources = present.iter().map(|(name, (_, resource))| (*name, resource.clone()));
        *self.shared.resources.lock().unwrap_or_else(PoisonError::into_inner) = resources.collect();
        self.found.send_replace(Some(Arc::new(present)));
        if first || others {
            self.shared.changed();
        }
    }

    fn start(&self, kind: KindInfo, resource: &ApiResource) -> Running {
        let mut scopes = watching::scopes_of(kind, &self.scopes);
        let own = self.services.iter().cloned().map(Scope::Namespace);
        if kind.name == "Service" && !scopes.contains(&Scope::All) {
            scopes.extend(own.filter(|own| !self.scopes.contains(own)));
        }
        let begin = |scope: Scope| {
            self.shared.store().expect((kind.name, scope.clone()));
            let (client, shared) = (self.client.clone(), Arc::clone(&self.shared));
            tokio::spawn(watching::watch(client, kind, resource.clone(), scope, shared)).abort_handle()
        };
        Running {
            resource: resource.clone(),
            tasks: scopes.into_iter().map(begin).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use serde_json::json;

    use super::*;
    use crate::store::Watched;

    fn found(kinds: &[&str]) -> Found {
        let mut found = Found::default();
        for kind in portcullis_manifest::kinds().filter(|kind| kinds.contains(&kind.name)) {
            let resource = ApiResource {
                group: kind.group.to_owned(),
                version: "v1".to_owned(),
                api_version: format!("{}/v1", kind.group),
                kind: kind.name.to_owned(),
                plural: kind.name.to_lowercase(),
            };
            found.present.insert(kind.name, (kind, resource));
        }
        found
    }

    #[tokio::test]
    async fn policies_that_nobody_deleted_stay_when_their_kind_is_not_served_any_more() {
        let nowhere = Config::new("http://127.0.0.1:9".parse().unwrap());
        let (notes, _told) = mpsc::unbounded_channel();
        let mut watches = Watches {
            client: Client::try_from(nowhere).unwrap(),
            scopes: vec![Scope::All],
            services: None,
            shared: Arc::new(Shared::new(notes)),
            running: BTreeMap::new(),
            doubted: BTreeMap::new(),
            unread: BTreeMap::new(),
            found: tokio::sync::watch::channel(None).0,
        };
        let kinds = ["SecurityPolicy", "HTTPRoute", "Backend"];
        watches.settle(found(&kinds));
        for (kind, group) in [
            ("SecurityPolicy", "gateway.envoyproxy.io/v1alpha1"),
            ("HTTPRoute", "gateway.networking.k8s.io/v1"),
        ] {
            let watched: Watched = (
                portcullis_manifest::kinds()
                    .find(|known| known.name == kind)
                    .unwrap()
                    .name,
                Scope::All,
            );
            let metadata = json!({"name": "orders", "namespace": "shop", "resourceVersion": "1"});
            let object = json!({"apiVersion": group, "kind": kind, "metadata": metadata, "spec": {}});
            watches.shared.store().apply(&watched, object);
            watches.shared.store().admit();
        }
        let held = |watches: &Watches| {
            let store = watches.shared.store();
            ["SecurityPolicy", "HTTPRoute"].map(|kind| store.holds_any(kind))
        };
        for look in 1..12 {
            watches.settle(found(&[]));
            assert_eq!(held(&watches), [true, true], "look {look}");
            assert_eq!(watches.running.contains_key("Backend"), look < 2, "it has no objects");
        }
        watches.settle(found(&[]));
        assert_eq!(held(&watches), [true, false]);
        for _ in 0..100 {
            watches.settle(found(&[]));
        }
        assert_eq!(held(&watches), [true, false]);
        watches.settle(found(&kinds));
        assert!(watches.doubted.is_empty());
    }
}
