//! The objects of an API server as they are now, each read once. Pure: events in, objects out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use portcullis_manifest::{Loaded, Served, assemble};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::references::{Reference, is_on_demand, references};

/// Namespace and name; the namespace of a cluster-scoped object is empty.
pub(crate) type Name = (String, String);

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
    fn covers(&self, name: &Name) -> bool {
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
    /// What is being listed anew, with what was seen so far.
    listing: HashMap<Watched, BTreeSet<Name>>,
    /// What was never listed to the end.
    missing: BTreeSet<Watched>,
    /// Objects that let requests through, as they came.
    arrived: BTreeMap<(&'static str, Name), Object>,
    /// Those of them that wait until it is known that no policy lags behind.
    held: BTreeMap<(&'static str, Name), Object>,
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

    /// Whether every watch has listed its objects once.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// What was never listed.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Watched> {
        self.missing.iter()
    }

    /// A listing begins.
    pub(crate) fn begin(&mut self, watched: &Watched) {
        self.listing.insert(watched.clone(), BTreeSet::new());
    }

    /// A listing is over: what it did not name is gone. Tells whether anything that decides changed.
    pub(crate) fn end(&mut self, watched: &Watched) -> bool {
        let first = self.missing.remove(watched);
        let Some(seen) = self.listing.remove(watched) else {
            return first;
        };
        let (kind, scope) = watched;
        let kept = |name: &Name| !scope.covers(name) || seen.contains(name);
        if let Some(versions) = self.versions.get_mut(kind) {
            versions.retain(|name, _| kept(name));
        }
        self.arrived.retain(|(of, name), _| of != kind || kept(name));
        self.held.retain(|(of, name), _| of != kind || kept(name));
        let mut gone = false;
        if let Some(objects) = self.objects.get_mut(kind) {
            let before = objects.len();
            objects.retain(|name, _| kept(name));
            gone = objects.len() != before;
        }
        first || gone
    }

    /// An object is there, as it is now. Tells whether anything that decides changed.
    pub(crate) fn apply(&mut self, watched: &Watched, mut json: Json) -> bool {
        let Some((name, version)) = strip(&mut json) else {
            return false;
        };
        let kind = watched.0;
        if let Some(seen) = self.listing.get_mut(watched) {
            seen.insert(name.clone());
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

    /// An object that was read on demand.
    pub(crate) fn put_on_demand(&mut self, kind: &'static str, mut json: Json) -> bool {
        let Some((name, version)) = strip(&mut json) else {
            return false;
        };
        self.versions
            .entry(kind)
            .or_default()
            .insert(name.clone(), version.clone());
        self.put(kind, name, version, json)
    }

    fn put(&mut self, kind: &'static str, name: Name, version: String, mut json: Json) -> bool {
        let status = json.as_object_mut().and_then(|fields| fields.remove("status"));
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
        if opens(kind) {
            self.arrived.insert((kind, name), object);
        } else {
            self.objects.entry(kind).or_default().insert(name, object);
        }
        true
    }

    /// An object as it came last.
    fn latest(&mut self, kind: &'static str, name: &Name) -> Option<&mut Object> {
        let key = (kind, name.clone());
        if self.arrived.contains_key(&key) {
            return self.arrived.get_mut(&key);
        }
        if self.held.contains_key(&key) {
            return self.held.get_mut(&key);
        }
        self.objects.get_mut(kind)?.get_mut(name)
    }

    /// Begins to hold what arrived; tells whether anything is held, for which no policy may lag behind.
    pub(crate) fn hold(&mut self) -> bool {
        let arrived = std::mem::take(&mut self.arrived);
        self.held.extend(arrived);
        !self.held.is_empty()
    }

    /// What is held may be evaluated.
    pub(crate) fn admit(&mut self) {
        for ((kind, name), object) in std::mem::take(&mut self.held) {
            self.objects.entry(kind).or_default().insert(name, object);
        }
    }

    /// Whether an object is here as it was at a version, or later.
    pub(crate) fn has(&self, kind: &str, name: &Name, version: &str) -> bool {
        let objects = self.objects.get(kind);
        let object = objects.and_then(|objects| objects.get(name));
        object.is_some_and(|object| {
            let number = |version: &str| version.parse::<u64>().ok();
            // Versions of one kind are numbers that grow (Kubernetes 1.35, KEP-5504); where they are not, only the same one counts.
            object.version == version || number(&object.version) > number(version) && number(version).is_some()
        })
    }

    /// An object is gone. Tells whether anything that decides changed.
    pub(crate) fn delete(&mut self, kind: &'static str, name: &Name) -> bool {
        if let Some(versions) = self.versions.get_mut(kind) {
            versions.remove(name);
        }
        let key = (kind, name.clone());
        self.arrived.remove(&key);
        self.held.remove(&key);
        let objects = self.objects.get_mut(kind);
        objects.is_some_and(|objects| objects.remove(name).is_some())
    }

    /// A kind is gone, with all of its objects. Tells whether anything that decides changed.
    pub(crate) fn forget(&mut self, kind: &str) -> bool {
        self.missing.retain(|(missing, _)| *missing != kind);
        self.listing.retain(|(listed, _), _| *listed != kind);
        self.versions.remove(kind);
        self.arrived.retain(|(of, _), _| *of != kind);
        self.held.retain(|(of, _), _| *of != kind);
        self.objects.remove(kind).is_some_and(|objects| !objects.is_empty())
    }

    fn referred(&self) -> impl Iterator<Item = &Reference> {
        let objects = self.objects.values().flat_map(BTreeMap::values);
        let all = objects.chain(self.held.values()).chain(self.arrived.values());
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
fn opens(kind: &str) -> bool {
    matches!(
        kind,
        "Backend" | "GRPCRoute" | "Gateway" | "HTTPRoute" | "ListenerSet" | "ReferenceGrant" | "Service" | "TCPRoute"
    )
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
mod tests {
    use serde_json::json;

    use super::*;

    const ROUTES: Watched = ("HTTPRoute", Scope::All);
    const SECRETS: Watched = ("Secret", Scope::All);
    const POLICIES: Watched = ("SecurityPolicy", Scope::All);

    fn route(name: &str, version: &str, path: &str) -> Json {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "shop", "resourceVersion": version, "managedFields": [{"time": version}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": version}},
            "spec": {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}]},
            "status": {"parents": [version]},
        })
    }

    fn admit(store: &mut Store) {
        store.hold();
        store.admit();
    }

    fn policy(secret: &str) -> Json {
        json!({
            "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy",
            "metadata": {"name": "orders", "namespace": "shop", "resourceVersion": "7"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders"}],
                "apiKeyAuth": {"credentialRefs": [{"name": secret}], "extractFrom": [{"headers": ["x-key"]}]},
            },
        })
    }

    fn secret(version: &str) -> Json {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "keys", "namespace": "shop", "resourceVersion": version},
            "data": {"alice": "azE="},
        })
    }

    #[test]
    fn a_status_or_an_apply_that_changes_nothing_is_no_change() {
        let mut store = Store::default();
        assert!(store.apply(&ROUTES, route("orders", "1", "/")));
        admit(&mut store);
        let before = store.load().snapshot.http_routes;
        assert!(
            !store.apply(&ROUTES, route("orders", "2", "/")),
            "only the status changed"
        );
        let after = store.load().snapshot.http_routes;
        assert!(Arc::ptr_eq(&before[0], &after[0]), "it is not read twice");
        assert_eq!(after[0].metadata.managed_fields, None);
        assert_eq!(after[0].metadata.annotations.as_ref().map(BTreeMap::len), Some(0));
        assert!(store.apply(&ROUTES, route("orders", "3", "/orders")));
    }

    #[test]
    fn what_a_new_listing_does_not_name_is_gone_and_other_namespaces_stay() {
        let mut store = Store::default();
        let here: Watched = ("HTTPRoute", Scope::Namespace("shop".to_owned()));
        let there: Watched = ("HTTPRoute", Scope::Namespace("edge".to_owned()));
        store.expect(here.clone());
        store.expect(there.clone());
        store.begin(&here);
        store.apply(&here, route("one", "1", "/"));
        store.apply(&here, route("two", "1", "/"));
        assert!(store.end(&here));
        assert!(!store.is_whole(), "the other namespace was not listed");
        store.begin(&there);
        let mut other = route("three", "1", "/");
        other["metadata"]["namespace"] = json!("edge");
        store.apply(&there, other);
        assert!(store.end(&there));
        assert!(store.is_whole());

        admit(&mut store);
        store.begin(&here);
        assert!(!store.apply(&here, route("two", "1", "/")));
        assert_eq!(
            store.load().snapshot.http_routes.len(),
            3,
            "nothing goes before the listing is over"
        );
        assert!(store.end(&here));
        let names: Vec<_> = store
            .load()
            .snapshot
            .http_routes
            .iter()
            .filter_map(|route| route.metadata.name.clone())
            .collect();
        assert_eq!(names, ["three", "two"]);
        store.begin(&here);
        store.apply(&here, route("two", "1", "/"));
        assert!(!store.end(&here));
    }

    #[test]
    fn a_secret_is_wanted_when_something_refers_to_it_and_again_when_it_changes() {
        let mut store = Store::default();
        assert!(!store.apply(&SECRETS, secret("1")), "nobody refers to it");
        assert!(store.wanted().is_empty());
        store.apply(&POLICIES, policy("keys"));
        let wanted: Vec<_> = store.wanted().into_iter().map(|wanted| wanted.name).collect();
        assert_eq!(wanted, ["keys"]);
        assert!(
            store.load().snapshot.secrets.is_empty(),
            "not more than its name is known"
        );
        assert!(store.put_on_demand("Secret", secret("1")));
        assert!(store.wanted().is_empty());
        assert_eq!(store.load().snapshot.secrets.len(), 1);
        assert!(store.apply(&SECRETS, secret("2")));
        assert_eq!(store.wanted().len(), 1, "it changed");
        store.put_on_demand("Secret", secret("2"));
        store.apply(&POLICIES, policy("others"));
        store.release();
        assert!(store.load().snapshot.secrets.is_empty());
        store.apply(&POLICIES, policy("keys"));
        assert_eq!(store.wanted().len(), 1);
        store.delete("Secret", &("shop".to_owned(), "keys".to_owned()));
        assert!(store.wanted().is_empty());
    }

    #[test]
    fn an_object_is_here_from_its_version_on() {
        let mut store = Store::default();
        store.apply(&POLICIES, policy("keys"));
        let name = ("shop".to_owned(), "orders".to_owned());
        let has = |store: &Store, version: &str| store.has("SecurityPolicy", &name, version);
        assert!(has(&store, "7") && has(&store, "6") && !has(&store, "8") && !has(&store, "10"));
        assert!(!has(&store, "x"));
        assert!(!store.has("SecurityPolicy", &("shop".to_owned(), "none".to_owned()), "1"));
    }

    #[test]
    fn a_route_is_not_evaluated_before_it_is_admitted_and_one_that_came_later_not_with_it() {
        let mut store = Store::default();
        store.apply(&POLICIES, policy("keys"));
        assert!(!store.hold(), "a policy opens nothing");
        let routes = |store: &mut Store| {
            let paths = store.load().snapshot.http_routes.into_iter();
            let names = paths.map(|route| format!("{:?}", route.spec.rules).contains("/b"));
            names.collect::<Vec<_>>()
        };
        store.apply(&ROUTES, route("orders", "1", "/a"));
        assert!(routes(&mut store).is_empty());
        assert!(store.hold());
        store.apply(&ROUTES, route("orders", "2", "/b"));
        store.admit();
        assert_eq!(routes(&mut store), [false], "the later one waits for its turn");
        assert!(
            !store.apply(&ROUTES, route("orders", "3", "/b")),
            "only its status changed"
        );
        assert!(store.hold());
        store.admit();
        assert_eq!(routes(&mut store), [true]);
        assert!(!store.hold());
        store.apply(&ROUTES, route("orders", "4", "/a"));
        store.delete("HTTPRoute", &("shop".to_owned(), "orders".to_owned()));
        assert!(!store.hold(), "it is gone");
        assert!(routes(&mut store).is_empty());
    }

    #[test]
    fn a_kind_that_is_gone_takes_its_objects_along() {
        let mut store = Store::default();
        store.expect(POLICIES);
        store.begin(&POLICIES);
        store.apply(&POLICIES, policy("keys"));
        store.end(&POLICIES);
        assert!(store.forget("SecurityPolicy"));
        assert!(!store.forget("SecurityPolicy"));
        assert!(store.load().snapshot.security_policies.is_empty());
    }
}
