//! The session against a model of a client: whatever happens in between, once all is quiet the client holds what is
//! published, and nothing reached it twice.

mod client;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use portcullis_xds::{
    Resource, Snapshot,
    session::{Output, Report, Session},
    snapshot::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET},
    wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status},
};
use proptest::prelude::*;

use self::client::{Action, Kind, POISON, action};

const TYPES: [&str; 5] = [CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// What the model knows of the session, to judge its responses.
#[derive(Debug, Default)]
struct Known {
    versions: BTreeMap<(String, String), String>,
    /// What the session may send although it is unchanged.
    asked: BTreeSet<(String, String)>,
    /// What was in a rejected response beside others.
    unsure: BTreeSet<(String, String)>,
    rejected: BTreeMap<(String, String), String>,
    follows: BTreeMap<String, (bool, BTreeSet<String>)>,
    in_flight: BTreeMap<String, DeltaDiscoveryResponse>,
    nonces: BTreeSet<String>,
    impatient: bool,
}

struct World {
    published: BTreeMap<(&'static str, &'static str), u8>,
    snapshot: Arc<Snapshot>,
    session: Session,
    kinds: BTreeMap<&'static str, Kind>,
    known: Known,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            published: BTreeMap::new(),
            snapshot: Arc::default(),
            session: Session::new(),
            kinds: BTreeMap::new(),
            known: Known::default(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
        };
        for type_url in TYPES {
            let wildcard = type_url == CLUSTER || type_url == LISTENER;
            world.kinds.insert(
                type_url,
                Kind {
                    wildcard,
                    ..Kind::default()
                },
            );
        }
        world.connect();
        world
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Publish(contents) => {
                let keys = TYPES
                    .iter()
                    .flat_map(|type_url| NAMES.iter().map(move |name| (*type_url, *name)));
                self.published = keys
                    .zip(contents)
                    .filter_map(|(key, content)| Some((key, content?)))
                    .collect();
                self.publish();
            }
            Action::Touch(kind, name, content) => {
                match content {
                    Some(content) => self.published.insert((TYPES[kind], NAMES[name]), content),
                    None => self.published.remove(&(TYPES[kind], NAMES[name])),
                };
                self.publish();
            }
            Action::Receive(choice) => self.receive(choice),
            Action::Request => self.request(),
            Action::Subscribe(kind, name) => {
                let (type_url, name) = (TYPES[kind], NAMES[name].to_owned());
                self.kinds.get_mut(type_url).unwrap().names.insert(name.clone());
                self.say(type_url, vec![name], Vec::new());
            }
            Action::Unsubscribe(kind, name) => {
                let (type_url, name) = (TYPES[kind], NAMES[name].to_owned());
                let kind = self.kinds.get_mut(type_url).unwrap();
                if kind.names.remove(&name) {
                    if !kind.wildcard {
                        kind.content.remove(&name);
                        kind.versions.remove(&name);
                    }
                    self.say(type_url, Vec::new(), vec![name]);
                }
            }
            Action::Wildcard(kind) => {
                let type_url = TYPES[kind];
                let kind = self.kinds.get_mut(type_url).unwrap();
                kind.wildcard = !kind.wildcard;
                if kind.wildcard {
                    self.say(type_url, vec!["*".to_owned()], Vec::new());
                } else {
                    kind.content.retain(|name, _| kind.names.contains(name));
                    kind.versions.retain(|name, _| kind.names.contains(name));
                    self.say(type_url, Vec::new(), vec!["*".to_owned()]);
                }
            }
            Action::Stray(kind, nack) => {
                let error_detail = nack.then(|| Status {
                    code: 13,
                    message: "stray".to_owned(),
                });
                let type_url = TYPES[kind].to_owned();
                let response_nonce = "stray".to_owned();
                self.to_server.push_back(DeltaDiscoveryRequest {
                    type_url,
                    response_nonce,
                    error_detail,
                    ..DeltaDiscoveryRequest::default()
                });
            }
            Action::Impatience => {
                self.known.impatient = true;
                let output = self.session.on_impatience();
                self.judge(output);
            }
            Action::Reconnect => self.connect(),
        }
    }

    fn publish(&mut self) {
        let resources = self.published.iter().map(|((type_url, name), content)| {
            // Not a protobuf message: nothing in the session may depend on what a resource holds.
            Resource::new(type_url, *name, vec![0xff, *content])
        });
        self.snapshot = Arc::new(Snapshot::new(self.snapshot.generation() + 1, resources).unwrap());
        let snapshot = &self.snapshot;
        self.known.rejected.retain(|(type_url, name), version| {
            let current = snapshot.get(type_url, name).map_or("", |resource| resource.version());
            current == version
        });
        let output = self.session.on_snapshot(Arc::clone(&self.snapshot));
        self.judge(output);
    }

    /// Opens a stream as Envoy does: per type one request with all that is followed and held.
    fn connect(&mut self) {
        self.session = Session::new();
        self.known = Known::default();
        self.to_client.clear();
        self.to_server.clear();
        for kind in self.kinds.values_mut() {
            kind.introduced = false;
            kind.lost.append(&mut kind.unsaid);
        }
        // The node comes with the stream's first request alone.
        let node = Node {
            id: "proxy".to_owned(),
            cluster: "edge/public".to_owned(),
            metadata: None,
        };
        for type_url in TYPES {
            self.say(type_url, Vec::new(), Vec::new());
        }
        self.to_server.front_mut().unwrap().node = Some(node);
        let output = self.session.on_snapshot(Arc::clone(&self.snapshot));
        self.judge(output);
    }

    /// Queues a request of the client.
    fn say(&mut self, type_url: &'static str, subscribe: Vec<String>, unsubscribe: Vec<String>) {
        let kind = self.kinds.get_mut(type_url).unwrap();
        let mut request = DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        if kind.introduced {
            request.resource_names_subscribe = subscribe;
            request.resource_names_unsubscribe = unsubscribe;
        } else {
            kind.introduced = true;
            request.initial_resource_versions = kind.versions.clone();
            request.resource_names_subscribe = kind.names.iter().cloned().collect();
            if !kind.wildcard {
                // How a client says that it follows no name and not all of them either.
                request.resource_names_subscribe.push("*".to_owned());
                request.resource_names_unsubscribe.push("*".to_owned());
            } else if !kind.names.is_empty() {
                request.resource_names_subscribe.push("*".to_owned());
            }
        }
        self.to_server.push_back(request);
    }

    fn receive(&mut self, choice: u8) {
        let Some(response) = self.to_client.pop_front() else {
            return;
        };
        let type_url = TYPES.iter().find(|url| **url == response.type_url).unwrap();
        let kind = self.kinds.get_mut(type_url).unwrap();
        self.to_server.push_back(kind.receive(response, choice));
    }

    fn request(&mut self) {
        let Some(request) = self.to_server.pop_front() else {
            return;
        };
        let type_url = request.type_url.clone();
        let key = |name: &String| (type_url.clone(), name.clone());
        let known = &mut self.known;
        for (name, version) in &request.initial_resource_versions {
            known.versions.insert(key(name), version.clone());
        }
        for name in &request.resource_names_subscribe {
            if !request.initial_resource_versions.contains_key(name) {
                known.asked.insert(key(name));
                known.rejected.remove(&key(name));
            }
        }
        let (wildcard, names) = known
            .follows
            .entry(type_url.clone())
            .or_insert_with(|| (request.resource_names_subscribe.is_empty(), BTreeSet::new()));
        *wildcard |= request.resource_names_subscribe.iter().any(|name| name == "*");
        names.extend(request.resource_names_subscribe.iter().cloned());
        for name in &request.resource_names_unsubscribe {
            *wildcard &= name != "*";
            names.remove(name);
            known.asked.insert(key(name));
        }
        let follows = |(kind, name): &(String, String)| *kind != type_url || *wildcard || names.contains(name);
        known.versions.retain(|key, _| follows(key));
        known.rejected.retain(|key, _| follows(key));
        known.unsure.retain(follows);
        let mut settled = None;
        if let Some(response) = known.in_flight.get(&type_url)
            && response.nonce == request.response_nonce
        {
            settled = known.in_flight.remove(&type_url);
            if !self.known.in_flight.contains_key(CLUSTER) && !self.known.in_flight.contains_key(LISTENER) {
                self.known.impatient = false;
            }
        }
        let nack = request.error_detail.is_some();
        if let Some(response) = &settled {
            let known = &mut self.known;
            for resource in &response.resources {
                let key = key(&resource.name);
                let (wildcard, names) = &known.follows[&type_url];
                if !(*wildcard || names.contains(&resource.name)) {
                    // The client lost interest while the response was on its way.
                } else if !nack {
                    known.versions.insert(key.clone(), resource.version.clone());
                    known.rejected.remove(&key);
                    known.unsure.remove(&key);
                } else if response.resources.len() + response.removed_resources.len() == 1 {
                    // Of what was withdrawn before the verdict came, nothing is said for the time when it is published again.
                    let published = self.snapshot.get(&type_url, &resource.name);
                    if published.is_some_and(|published| **published.version() == *resource.version) {
                        known.rejected.insert(key, resource.version.clone());
                    }
                } else {
                    known.unsure.insert(key);
                }
            }
            for name in &response.removed_resources {
                if !nack {
                    known.versions.remove(&key(name));
                    known.unsure.remove(&key(name));
                } else if response.resources.len() + response.removed_resources.len() > 1 {
                    known.unsure.insert(key(name));
                }
            }
        }
        let mut held = request.initial_resource_versions.clone();
        held.retain(|name, version| {
            self.snapshot
                .get(&type_url, name)
                .is_some_and(|resource| **resource.version() == *version)
        });
        let output = self.session.on_request(request).unwrap();
        for report in &output.reports {
            if let Report::Acked { resources, .. } = report
                && settled.is_none()
            {
                for resource in resources {
                    assert_eq!(held.remove(&resource.name).as_deref(), resource.version.as_deref());
                }
                continue;
            }
            let response = settled.as_ref().expect("a report belongs to a response");
            match report {
                Report::Acked { resources, .. } => {
                    assert!(!nack);
                    assert_eq!(
                        resources.len(),
                        response.resources.len() + response.removed_resources.len()
                    );
                }
                Report::Nacked { resource, .. } => {
                    assert!(nack);
                    assert_eq!(response.resources.len() + response.removed_resources.len(), 1);
                    assert_eq!(*resource, response.resources[0].name);
                }
            }
        }
        self.judge(output);
    }

    /// Checks every response against what the session may send, and queues it.
    fn judge(&mut self, output: Output) {
        for response in output.responses {
            let type_url = response.type_url.clone();
            let known = &mut self.known;
            assert!(
                known.nonces.insert(response.nonce.clone()),
                "nonce {} again",
                response.nonce
            );
            assert!(!known.in_flight.contains_key(&type_url), "two responses of one type");
            for resource in &response.resources {
                let key = (type_url.clone(), resource.name.clone());
                let published = self.snapshot.get(&type_url, &resource.name).expect("published");
                assert_eq!(**published.version(), *resource.version);
                assert_ne!(
                    known.rejected.get(&key),
                    Some(&resource.version),
                    "rejected before: {key:?}"
                );
                let asked = known.asked.remove(&key);
                if !asked && !known.unsure.contains(&key) {
                    assert_ne!(
                        known.versions.get(&key),
                        Some(&resource.version),
                        "held already: {key:?}"
                    );
                }
                if !asked && !known.impatient {
                    let adds = |other: &str| {
                        known
                            .in_flight
                            .get(other)
                            .is_some_and(|response| !response.resources.is_empty())
                    };
                    assert!(type_url != LISTENER || !adds(CLUSTER), "a listener before its clusters");
                    assert!(
                        type_url != ROUTES || !adds(CLUSTER) && !adds(LISTENER),
                        "routes before their clusters"
                    );
                }
            }
            for name in &response.removed_resources {
                assert!(self.snapshot.get(&type_url, name).is_none(), "{name} exists");
                let key = (type_url.clone(), name.clone());
                assert!(
                    known.asked.remove(&key) || known.unsure.contains(&key) || known.versions.contains_key(&key),
                    "a removal of what is neither held nor asked for: {key:?}"
                );
            }
            known.in_flight.insert(type_url, response.clone());
            self.to_client.push_back(response);
        }
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            if self.to_client.is_empty() && self.to_server.is_empty() {
                return;
            }
            self.request();
            self.receive(0b1010_1010);
        }
        panic!("it never gets quiet");
    }

    fn check(&self) {
        let stale = |type_url: &'static str| {
            self.published.iter().any(|((kind, name), content)| {
                *kind == type_url && *content == POISON && self.kinds[type_url].content.contains_key(*name)
            })
        };
        for (type_url, kind) in &self.kinds {
            for name in NAMES {
                let held = kind.content.get(name);
                if !(kind.wildcard || kind.names.contains(name)) {
                    assert_eq!(held, None, "{type_url} {name} is not followed");
                    continue;
                }
                if kind.lost.contains(name) {
                    continue;
                }
                match self.published.get(&(*type_url, name)) {
                    Some(&POISON) => assert_ne!(held, Some(&vec![0xff, POISON])),
                    Some(content) => assert_eq!(held, Some(&vec![0xff, *content]), "{type_url} {name}"),
                    None => {
                        // What an old listener or an old route table may still name stays.
                        let may_stay = match *type_url {
                            CLUSTER => stale(LISTENER) || stale(ROUTES),
                            ENDPOINTS => stale(LISTENER) || stale(ROUTES) || stale(CLUSTER),
                            ROUTES => stale(LISTENER),
                            SECRET => stale(LISTENER) || stale(ROUTES) || stale(CLUSTER),
                            _ => false,
                        };
                        assert!(may_stay || held.is_none(), "{type_url} {name} is left behind");
                    }
                }
            }
        }
    }
}

#[test]
fn a_rejection_of_what_was_withdrawn_is_forgotten() {
    let mut world = World::new();
    let poisoned = |content| Action::Touch(2, 2, content);
    (0..TYPES.len()).for_each(|_| world.act(Action::Request));
    let withdrawn = [
        poisoned(Some(POISON)),
        poisoned(None),
        Action::Receive(0),
        Action::Request,
    ];
    for action in withdrawn.into_iter().chain([poisoned(Some(POISON))]) {
        world.act(action);
    }
    assert_eq!(world.to_client.len(), 1, "it is offered once more");
    world.settle();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_quiet_client_holds_what_is_published(actions in proptest::collection::vec(action(), 0..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.settle();
        world.check();

        // A reconnection brings nothing that is there already, and again nothing is missing.
        world.act(Action::Reconnect);
        world.settle();
        world.check();
    }
}
