//! The objects of an API server as they are now, each read once. Pure: events in, objects out.

mod aside;
mod ends;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use portcullis_manifest::{Loaded, Served, assemble};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use self::aside::Aside;
use crate::{
    POLICIES,
    references::{Reference, is_on_demand, references},
};

/// Namespace and name; the namespace of a cluster-scoped object is empty.
pub(crate) type Name = (String, String);

/// Kind and name.
type Key = (&'static str, Name);

/// What one watch covers of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// All objects.
    All,
    /// Those of a namespace.
    Namespace(String),
    /// The cluster-scoped object of this name.
    Named(String),
}

impl Scope {
    pub(crate) fn covers(&self, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => name.0 == *namespace,
            Self::Named(only) => name.1 == *only,
        }
    }
}

/// One watch.
pub(crate) type Watched = (&'static str, Scope);

/// All objects. Not printable: it holds Secrets.
#[derive(Default)]
pub(crate) struct Store {
    objects: BTreeMap<&'static str, BTreeMap<Name, Object>>,
    /// The versions of objects that are read on demand, whether they were read or not.
    versions: BTreeMap<&'static str, BTreeMap<Name, String>>,
    /// What is being listed anew.
    listing: HashMap<Watched, Listing>,
    /// What was never listed to the end.
    missing: BTreeSet<Watched>,
    /// Kinds that are there, and cannot be watched as they are.
    unread: BTreeSet<&'static str>,
    /// What lets requests through, as it came: objects, and the end of others.
    arrived: BTreeMap<Key, Option<Object>>,
    /// What of that waits until it is known that no policy lags behind.
    held: BTreeMap<Key, Option<Object>>,
    aside: Aside,
    /// What was read while its kind was listed, and the listing did not name.
    doubted: BTreeSet<Key>,
}

/// What is there of a kind as its objects are listed anew.
#[derive(Default)]
struct Listing {
    /// What the listing named.
    named: BTreeSet<Name>,
    /// What was read meanwhile, and may be younger than the listing.
    aside: BTreeSet<Name>,
}

struct Object {
    /// `metadata.resourceVersion`.
    version: String,
    /// Of everything that decides.
    digest: [u8; 32],
    state: State,
    references: Vec<Reference>,
    /// Of kinds whose status is written.
    written: Option<Arc<Written>>,
}

enum State {
    Unread(Json),
    Read(Arc<Served>),
}

/// The status of an object as the API server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Written {
    /// `metadata.resourceVersion`.
    pub(crate) version: String,
    /// `metadata.generation`.
    pub(crate) generation: Option<i64>,
    pub(crate) status: Json,
}

impl Store {
    /// A new watch begins: nothing is whole before it has listed its objects.
    pub(crate) fn expect(&mut self, watched: Watched) {
        self.missing.insert(watched);
    }

    /// These kinds, and no others, are there and cannot be watched as they are. Tells whether they were others.
    pub(crate) fn set_unread(&mut self, kinds: BTreeSet<&'static str>) -> bool {
        std::mem::replace(&mut self.unread, kinds) != self.unread
    }

    /// Whether every watch has listed its objects once.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing().is_empty()
    }

    /// Whether all policies that there are can be known.
    pub(crate) fn knows_policies(&self) -> bool {
        self.missing().is_disjoint(&BTreeSet::from(POLICIES))
    }

    /// The kinds that were never listed, or cannot be.
    pub(crate) fn missing(&self) -> BTreeSet<&'static str> {
        let missing = self.missing.iter().map(|(kind, _)| *kind);
        missing.chain(self.unread.iter().copied()).collect()
    }

    /// A listing begins.
    pub(crate) fn begin(&mut self, watched: &Watched) {
        self.listing.insert(watched.clone(), Listing::default());
    }

    /// A listing is over: what it did not name is gone. Tells whether anything that decides changed.
    pub(crate) fn end(&mut self, watched: &Watched) -> bool {
        let first = self.missing.remove(watched);
        let Some(listing) = self.listing.remove(watched) else {
            return first;
        };
        let (kind, scope) = (watched.0, &watched.1);
        let kept = |name: &Name| !scope.covers(name) || listing.named.contains(name) || listing.aside.contains(name);
        self.aside.listed(kind, scope, kept);
        self.doubted.retain(|(of, name)| *of != kind || kept(name));
        let unnamed = listing.aside.difference(&listing.named);
        self.doubted.extend(unnamed.map(|name| (kind, name.clone())));
        let gone: BTreeSet<Name> = self.names(kind).filter(|name| !kept(name)).cloned().collect();
        let mut changed = first;
        for name in &gone {
            changed |= self.remove(kind, name);
        }
        changed
    }

    /// All names of a kind.
    fn names(&self, kind: &'static str) -> impl Iterator<Item = &Name> {
        let versions = self.versions.get(kind).into_iter().flat_map(BTreeMap::keys);
        let objects = self.objects.get(kind).into_iter().flat_map(BTreeMap::keys);
        let waiting = self.arrived.keys().chain(self.held.keys());
        let waiting = waiting.filter(move |(of, _)| *of == kind).map(|(_, name)| name);
        versions.chain(objects).chain(waiting)
    }

    /// An object is there, as it is now. Tells whether anything that decides changed.
    pub(crate) fn apply(&mut self, watched: &Watched, mut json: Json) -> bool {
        let Some((name, version)) = strip(&mut json) else {
            return false;
        };
        let kind = watched.0;
        if let Some(listing) = self.listing.get_mut(watched) {
            listing.named.insert(name.clone());
        }
        if !self.told(kind, &name, &version) {
            return false;
        }
        if is_on_demand(kind) {
            let known = self
                .versions
                .entry(kind)
                .or_default()
                .insert(name.clone(), version.clone());
            // What nobody refers to decides nothing.
            return known != Some(version) && self.is_referred(kind, &name);
        }
        self.put(kind, name, version, json)
    }

    /// A watch tells of an object as of a version; tells whether that is not older than what is here.
    fn told(&mut self, kind: &'static str, name: &Name, version: &str) -> bool {
        let key = (kind, name.clone());
        self.doubted.remove(&key);
        self.aside.told(&key, version)
    }

    /// An object is asked for beside its watch; to be called before each time.
    pub(crate) fn ask(&mut self, kind: &'static str, name: &Name) {
        self.aside.begin((kind, name.clone()));
    }

    /// An object that was asked for is there. Tells whether that counts: it does not if a watch told of the object meanwhile,
    /// as nobody knows which of them is the later one; then it is to be asked for again.
    #[must_use]
    pub(crate) fn answer(&mut self, kind: &'static str, name: &Name, mut json: Json) -> bool {
        let key = (kind, name.clone());
        if !self.aside.end(&key) {
            return false;
        }
        // It has the name by which it was asked for.
        let Some((_, version)) = strip(&mut json) else {
            return true;
        };
        let known = if is_on_demand(kind) {
            let versions = self.versions.entry(kind).or_default();
            versions.insert(name.clone(), version.clone())
        } else {
            let listings = self
                .listing
                .iter_mut()
                .filter(|((of, scope), _)| *of == kind && scope.covers(name));
            for (_, listing) in listings {
                listing.aside.insert(name.clone());
            }
            self.latest(kind, name).map(|object| object.version.clone())
        };
        self.doubted.remove(&key);
        self.aside.read(key, &version, known.as_deref());
        self.put(kind, name.clone(), version, json);
        true
    }

    /// An object that was asked for is not there. Tells whether that counts, as [`Store::answer`] does.
    #[must_use]
    pub(crate) fn answer_none(&mut self, kind: &'static str, name: &Name) -> bool {
        let key = (kind, name.clone());
        if !self.aside.end(&key) {
            return false;
        }
        for ((of, _), listing) in &mut self.listing {
            if *of == kind {
                listing.aside.remove(name);
            }
        }
        self.doubted.remove(&key);
        self.aside.gone(&key);
        self.remove(kind, name);
        true
    }

    /// What is to be asked for once more: it may have been deleted while its kind was listed.
    pub(crate) fn doubted(&self, kind: &str, scope: &Scope) -> Vec<Name> {
        let doubted = self.doubted.iter();
        let covered = doubted.filter(|(of, name)| *of == kind && scope.covers(name));
        covered.map(|(_, name)| name.clone()).collect()
    }

    fn put(&mut self, kind: &'static str, name: Name, version: String, mut json: Json) -> bool {
        let mut status = json.as_object_mut().and_then(|fields| fields.remove("status"));
        if kind == "Service"
            && let Some(reached) = status.as_mut().and_then(|status| status.get_mut("loadBalancer"))
            && let Some(fields) = json.as_object_mut()
        {
            // Its conditions are others' business; this is where its clients come in.
            fields.insert("status".to_owned(), json!({"loadBalancer": reached.take()}));
        }
        let written = Written {
            version: version.clone(),
            generation: json.pointer("/metadata/generation").and_then(Json::as_i64),
            status: status.unwrap_or_default(),
        };
        let digest = digest(&json);
        let written = crate::is_written(kind).then(|| Arc::new(written));
        let known = self.latest(kind, &name);
        if let Some(known) = known.filter(|known| known.digest == digest) {
            known.version = version;
            known.written = written;
            return false;
        }
        let object = Object {
            version,
            digest,
            references: references(&json, &name.0),
            state: State::Unread(json),
            written,
        };
        let key = (kind, name.clone());
        if opens(kind) {
            self.arrived.insert(key, Some(object));
        } else {
            // Nor is it gone any more.
            self.arrived.remove(&key);
            self.held.remove(&key);
            self.objects.entry(kind).or_default().insert(name, object);
        }
        true
    }

    /// An object as it came last.
    fn latest(&mut self, kind: &'static str, name: &Name) -> Option<&mut Object> {
        let key = (kind, name.clone());
        if self.arrived.contains_key(&key) {
            return self.arrived.get_mut(&key)?.as_mut();
        }
        if self.held.contains_key(&key) {
            return self.held.get_mut(&key)?.as_mut();
        }
        self.objects.get_mut(kind)?.get_mut(name)
    }

    /// Begins to hold what arrived; tells whether it is to be found out if policies lag behind: something is held, or doubted.
    pub(crate) fn hold(&mut self) -> bool {
        let arrived = std::mem::take(&mut self.arrived);
        self.held.extend(arrived);
        !self.held.is_empty() || !self.doubted.is_empty()
    }

    /// What is held may be evaluated.
    pub(crate) fn admit(&mut self) {
        for ((kind, name), object) in std::mem::take(&mut self.held) {
            let objects = self.objects.entry(kind).or_default();
            match object {
                Some(object) => objects.insert(name, object),
                None => objects.remove(&name),
            };
        }
    }

    /// Whether an object is here as it was at a version, or later.
    pub(crate) fn has(&self, kind: &str, name: &Name, version: &str) -> bool {
        let objects = self.objects.get(kind);
        let object = objects.and_then(|objects| objects.get(name));
        object.is_some_and(|object| object.version == version || aside::is_later(&object.version, version))
    }

    /// An object is gone, as of a version. Tells whether anything that decides changed.
    pub(crate) fn delete(&mut self, kind: &'static str, name: &Name, version: &str) -> bool {
        self.told(kind, name, version) && self.remove(kind, name)
    }

    fn remove(&mut self, kind: &'static str, name: &Name) -> bool {
        if let Some(versions) = self.versions.get_mut(kind) {
            versions.remove(name);
        }
        if self.latest(kind, name).is_none() {
            return false;
        }
        let key = (kind, name.clone());
        self.arrived.remove(&key);
        self.held.remove(&key);
        let objects = self.objects.get_mut(kind);
        if unveils(kind) && objects.as_ref().is_some_and(|objects| objects.contains_key(name)) {
            self.arrived.insert(key, None);
            return true;
        }
        objects.is_some_and(|objects| objects.remove(name).is_some())
    }

    /// Whether there are objects of a kind.
    pub(crate) fn holds_any(&self, kind: &str) -> bool {
        let waiting = self.arrived.iter().chain(&self.held);
        let mut waiting = waiting.filter(|((of, _), object)| *of == kind && object.is_some());
        waiting.next().is_some() || self.objects.get(kind).is_some_and(|objects| !objects.is_empty())
    }

    /// A kind is gone, with all of its objects. Tells whether anything that decides changed.
    pub(crate) fn forget(&mut self, kind: &str) -> bool {
        self.missing.retain(|(missing, _)| *missing != kind);
        self.listing.retain(|(listed, _), _| *listed != kind);
        self.versions.remove(kind);
        self.arrived.retain(|(of, _), _| *of != kind);
        self.held.retain(|(of, _), _| *of != kind);
        self.doubted.retain(|(of, _)| *of != kind);
        self.aside.forget(kind);
        self.objects.remove(kind).is_some_and(|objects| !objects.is_empty())
    }

    fn referred(&self) -> impl Iterator<Item = &Reference> {
        let objects = self.objects.values().flat_map(BTreeMap::values);
        let waiting = self.held.values().chain(self.arrived.values());
        let all = objects.chain(waiting.flatten());
        all.flat_map(|object| &object.references)
    }

    fn is_referred(&self, kind: &str, name: &Name) -> bool {
        self.referred()
            .any(|reference| reference.kind == kind && (&reference.namespace, &reference.name) == (&name.0, &name.1))
    }

    /// What is referred to and there and was not read as it is now.
    pub(crate) fn wanted(&self) -> BTreeSet<Reference> {
        let stale = |reference: &&Reference| {
            let name = (reference.namespace.clone(), reference.name.clone());
            let versions = self.versions.get(reference.kind);
            let Some(version) = versions.and_then(|versions| versions.get(&name)) else {
                return false;
            };
            let objects = self.objects.get(reference.kind);
            let read = objects.and_then(|objects| objects.get(&name));
            read.is_none_or(|object| object.version != *version)
        };
        self.referred().filter(stale).cloned().collect()
    }

    /// Lets go of what was read on demand and that nobody refers to any more.
    pub(crate) fn release(&mut self) {
        let referred: BTreeSet<Reference> = self.referred().cloned().collect();
        for (kind, objects) in &mut self.objects {
            if is_on_demand(kind) {
                objects.retain(|(namespace, name), _| {
                    referred.contains(&Reference {
                        kind,
                        namespace: namespace.clone(),
                        name: name.clone(),
                    })
                });
            }
        }
    }

    /// All objects, read. Costs what is new of them.
    pub(crate) fn load(&mut self) -> Loaded {
        for (kind, objects) in &mut self.objects {
            for object in objects.values_mut() {
                if let State::Unread(json) = &mut object.state
                    && let Some(served) = Served::read(kind, std::mem::take(json))
                {
                    object.state = State::Read(Arc::new(served));
                }
            }
        }
        let read = |object: &Object| match &object.state {
            State::Read(served) => Some(Arc::clone(served)),
            State::Unread(_) => None,
        };
        let all: Vec<_> = self
            .objects
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(read)
            .collect();
        assemble(all.iter().map(AsRef::as_ref))
    }

    /// The statuses of all objects of kinds whose status is written.
    pub(crate) fn written(&self) -> BTreeMap<(&'static str, Name), Arc<Written>> {
        let of_kind = |(kind, objects): (&&'static str, &BTreeMap<Name, Object>)| {
            let kind = *kind;
            let named = objects.iter();
            named
                .filter_map(|(name, object)| Some(((kind, name.clone()), Arc::clone(object.written.as_ref()?))))
                .collect::<Vec<_>>()
        };
        self.objects.iter().flat_map(of_kind).collect()
    }
}

/// Whether objects of a kind let requests through that did not come through before.
pub(crate) fn opens(kind: &str) -> bool {
    // A Namespace by its labels, a GatewayClass by the controller that it names.
    let others = matches!(
        kind,
        "Backend" | "Gateway" | "GatewayClass" | "ListenerSet" | "Namespace" | "ReferenceGrant" | "Service"
    );
    others || is_route(kind)
}

/// Whether the end of an object of a kind may let requests through: it restricted them, or took them from another one, as a
/// listener takes hosts from a wider one.
fn unveils(kind: &str) -> bool {
    is_route(kind) || POLICIES.contains(&kind) || matches!(kind, "Gateway" | "ListenerSet")
}

fn is_route(kind: &str) -> bool {
    matches!(kind, "GRPCRoute" | "HTTPRoute" | "TCPRoute")
}

/// Takes out of an object what only says who wrote it, and returns its name and its version.
fn strip(json: &mut Json) -> Option<(Name, String)> {
    let metadata = json.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields");
    let version = metadata.remove("resourceVersion");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Json::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let text = |name: &str| metadata.get(name).and_then(Json::as_str).map(str::to_owned);
    let name = (text("namespace").unwrap_or_default(), text("name")?);
    let version = version.as_ref().and_then(Json::as_str).unwrap_or_default();
    Some((name, version.to_owned()))
}

fn digest(json: &Json) -> [u8; 32] {
    // Fields come in the order of their names.
    Sha256::digest(json.to_string().as_bytes()).into()
}

#[cfg(test)]
mod tests;
