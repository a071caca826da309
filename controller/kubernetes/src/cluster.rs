//! What a cluster holds, and that it changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{Api, Client, Config, api::DynamicObject, core::ApiResource};
use portcullis_manifest::{KindInfo, Loaded};
use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use crate::{
    Error, barrier, brief,
    discovery::{Present, discover},
    pruned,
    references::Reference,
    store::{Scope, Store},
    watching::{self, typed},
};

/// How often it is looked which kinds the API server has: a definition that was installed is in force after that time.
const LOOK: Duration = Duration::from_secs(5);

/// How long after the last change objects are looked at: one `apply` changes several.
const QUIET: Duration = Duration::from_millis(10);

/// How long a burst of changes may last before objects are looked at in spite of it.
const LONGEST: Duration = Duration::from_millis(100);

/// How long after a failure objects that are read on demand are asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// How many objects are asked for at a time.
const AT_A_TIME: usize = 16;

/// Finds the cluster as `kubectl` does: `$KUBECONFIG`, `~/.kube/config`, or the service account of this pod.
///
/// # Errors
///
/// There is none of them, or what they say makes no client.
pub async fn connect() -> Result<Client, Error> {
    let config = Config::infer().await.map_err(|error| Error::Config(brief(&error)))?;
    Client::try_from(config).map_err(|error| Error::Config(brief(&error)))
}

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only these namespaces; all if empty.
    pub namespaces: BTreeSet<String>,
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
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) {
        self.changed.notify_one();
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
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            changed: Notify::new(),
            written: Notify::new(),
            resources: Mutex::default(),
            notes,
        });
        let (changes, changed) = mpsc::channel(1);
        let (found, present) = tokio::sync::watch::channel(None);
        let namespaces = options.namespaces.iter();
        let scopes: Vec<Scope> = if options.namespaces.is_empty() {
            vec![Scope::All]
        } else {
            namespaces.cloned().map(Scope::Namespace).collect()
        };
        let watches = Watches {
            client: client.clone(),
            options,
            shared: Arc::clone(&shared),
            running: BTreeMap::new(),
            doubted: BTreeSet::new(),
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
        let missing = store.missing();
        missing.map(|(kind, _)| (*kind).to_owned()).collect()
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
    options: Options,
    shared: Arc<Shared>,
    running: BTreeMap<&'static str, Running>,
    /// Kinds that were not there at the last look.
    doubted: BTreeSet<&'static str>,
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
                Ok(present) => {
                    if !std::mem::take(&mut trouble).is_empty() {
                        self.shared
                            .note(Note::Better("the API server answers again".to_owned()));
                    }
                    self.settle(present);
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
    fn settle(&mut self, present: Present) {
        let first = self.found.borrow().is_none();
        for (name, (kind, resource)) in &present {
            self.doubted.remove(name);
            if self
                .running
                .get(name)
                .is_some_and(|running| running.resource == *resource)
            {
                continue;
            }
            if !first && !self.running.contains_key(name) {
                self.shared.note(Note::Better(format!("{name} is there now")));
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
            .filter(|name| !present.contains_key(name))
            .collect();
        if first && !absent.is_empty() {
            let text = format!("not installed, and taken as empty: {}", absent.join(", "));
            self.shared.note(Note::Worse(text));
        }
        for name in absent {
            // One look may ask an API server that has not heard of a definition yet.
            if self.running.contains_key(name) && !self.doubted.insert(name) {
                self.running.remove(name);
                self.doubted.remove(name);
                self.shared.store().forget(name);
                self.shared
                    .note(Note::Worse(format!("{name} is gone, with all of its objects")));
                self.shared.changed();
            }
        }
        let resources = present.iter().map(|(name, (_, resource))| (*name, resource.clone()));
        *self.shared.resources.lock().unwrap_or_else(PoisonError::into_inner) = resources.collect();
        self.found.send_replace(Some(Arc::new(present)));
        if first {
            self.shared.changed();
        }
    }

    fn start(&self, kind: KindInfo, resource: &ApiResource) -> Running {
        let namespaces = self.options.namespaces.iter();
        let scopes: Vec<Scope> = match (self.options.namespaces.is_empty(), kind.namespaced, kind.name) {
            (true, ..) => vec![Scope::All],
            (false, true, _) => namespaces.cloned().map(Scope::Namespace).collect(),
            (false, false, "Namespace") => namespaces.cloned().map(Scope::Named).collect(),
            (false, false, _) => vec![Scope::All],
        };
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

/// Tells of bursts of changes when they are over and all that is referred to was read.
async fn collect(
    client: Client,
    scopes: Vec<Scope>,
    shared: Arc<Shared>,
    mut present: tokio::sync::watch::Receiver<Option<Arc<Present>>>,
    changes: mpsc::Sender<()>,
) {
    if present.wait_for(Option::is_some).await.is_err() {
        return;
    }
    while !shared.store().is_whole() {
        shared.changed.notified().await;
    }
    let mut refused: BTreeMap<Reference, String> = BTreeMap::new();
    let mut trouble = String::new();
    loop {
        let known = present.borrow().clone();
        let held = shared.store().hold();
        if let Some(known) = known.as_ref().filter(|_| held) {
            match barrier::catch_up(&client, &shared, known, &scopes).await {
                Ok(()) => trouble.clear(),
                Err(error) => {
                    let why = brief(&error);
                    if why != trouble {
                        let text =
                            format!("the policies of new routes cannot be asked for: {why}; nothing changes meanwhile");
                        shared.note(Note::Worse(text));
                        trouble = why;
                    }
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
        }
        let wanted = shared.store().wanted();
        let mut again = false;
        if let Some(known) = known.filter(|_| !wanted.is_empty()) {
            again = !fetch(&client, &shared, &known, wanted, &mut refused).await;
        }
        {
            let mut store = shared.store();
            store.release();
            store.admit();
        }
        if let Err(mpsc::error::TrySendError::Closed(())) = changes.try_send(()) {
            return;
        }
        if again {
            let _ = tokio::time::timeout(AGAIN, shared.changed.notified()).await;
        } else {
            shared.changed.notified().await;
        }
        quiet(&shared).await;
    }
}

/// Waits for the end of a burst.
async fn quiet(shared: &Shared) {
    let first = Instant::now();
    while first.elapsed() < LONGEST {
        let more = tokio::time::timeout(QUIET, shared.changed.notified()).await;
        if more.is_err() {
            return;
        }
    }
}

/// Reads what is referred to. Tells whether all of it could be read.
async fn fetch(
    client: &Client,
    shared: &Shared,
    present: &Present,
    wanted: BTreeSet<Reference>,
    refused: &mut BTreeMap<Reference, String>,
) -> bool {
    use futures::StreamExt;
    let get = |reference: Reference| async {
        let Some((_, resource)) = present.get(reference.kind) else {
            return (reference, Ok(None));
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &reference.namespace, resource);
        let object = api.get_opt(&reference.name).await;
        (reference, object.map(|object| object.map(|object| (object, resource))))
    };
    let mut answers = futures::stream::iter(wanted.into_iter().map(get)).buffer_unordered(AT_A_TIME);
    let mut all = true;
    while let Some((reference, answer)) = answers.next().await {
        match answer {
            Ok(Some((object, resource))) => {
                refused.remove(&reference);
                let json = serde_json::to_value(&object).unwrap_or_default();
                shared.store().put_on_demand(reference.kind, typed(json, resource));
            }
            Ok(None) => {
                let name = (reference.namespace.clone(), reference.name.clone());
                shared.store().delete(reference.kind, &name);
            }
            Err(error) => {
                all = false;
                let why = brief(&error);
                if refused.get(&reference) != Some(&why) {
                    let Reference { kind, namespace, name } = &reference;
                    shared.note(Note::Worse(format!("{kind} {namespace}/{name} cannot be read: {why}")));
                    refused.insert(reference, why);
                }
            }
        }
    }
    all
}
