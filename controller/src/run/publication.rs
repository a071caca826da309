//! What proxies are given, and what they say of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};

use portcullis_attachment::effective::Attachment;
use portcullis_engine::document;
use portcullis_gateway::Configuration;
use portcullis_xds::{Event, Options, Resource, Server, snapshot};
use tokio::sync::mpsc::UnboundedReceiver;

use super::report::{Deliveries, Delivery};
use crate::{print::Tone, quarantine::Quarantine, state};

/// Something to tell the user.
pub(crate) type Notes = Vec<(Tone, String)>;

/// What was published, and what became of it.
pub(crate) struct Publication {
    server: Server,
    quarantine: Quarantine,
    /// Where it is written down which virtual hosts proxies do not take.
    memory: Option<PathBuf>,
    /// What stands there.
    remembered: String,
    /// As translated, by Gateway.
    translated: BTreeMap<String, Vec<Resource>>,
    /// As published: without virtual hosts that a proxy does not take.
    published: BTreeMap<String, Vec<Resource>>,
    /// Why what was translated last could not be published, by Gateway.
    withheld: BTreeMap<String, String>,
    /// What was told of those virtual hosts.
    convicted: BTreeSet<String>,
    /// Why a resource was refused, by Gateway, type and name.
    rejected: BTreeMap<(String, String, String), String>,
}

impl Publication {
    /// Begins with what the file `memory` tells of an earlier run; what is to be known next time is written there.
    pub(crate) fn new(memory: Option<PathBuf>) -> (Self, UnboundedReceiver<Event>) {
        let (server, events) = Server::new(Options::default());
        let remembered = memory.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let remembered = remembered.unwrap_or_else(|| "{}".to_owned());
        let publication = Self {
            server,
            quarantine: Quarantine::recall(&remembered),
            memory,
            remembered,
            translated: BTreeMap::new(),
            published: BTreeMap::new(),
            withheld: BTreeMap::new(),
            convicted: BTreeSet::new(),
            rejected: BTreeMap::new(),
        };
        (publication, events)
    }

    /// The server that proxies connect to.
    pub(crate) fn server(&self) -> Server {
        self.server.clone()
    }

    /// The Gateways that are served.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &String> {
        self.published.keys()
    }

    /// What each Gateway's proxies are to hold, in short: equal for replicas that serve the same.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        let digest = |resources: &Vec<Resource>| {
            let mut hasher = DefaultHasher::new();
            for resource in resources {
                (resource.type_url(), resource.name(), resource.version()).hash(&mut hasher);
            }
            format!("{:016x}", hasher.finish())
        };
        let translated = self.translated.iter();
        translated
            .map(|(gateway, resources)| (gateway.clone(), digest(resources)))
            .collect()
    }

    /// Publishes what changed, and takes everything from proxies of Gateways that are gone.
    pub(crate) fn publish(&mut self, configurations: &[Configuration]) -> Notes {
        let served: BTreeSet<_> = configurations
            .iter()
            .map(|configuration| &configuration.gateway)
            .collect();
        let gone: Vec<_> = self
            .published
            .keys()
            .filter(|gateway| !served.contains(gateway))
            .cloned()
            .collect();
        for gateway in gone {
            self.translated.remove(&gateway);
            self.published.remove(&gateway);
            self.withheld.remove(&gateway);
            let nothing = self.quarantine.apply(&gateway, Vec::new());
            // Nothing has no duplicates.
            let _ = self.server.publish(&gateway, nothing);
        }
        let mut notes = Notes::new();
        for configuration in configurations {
            let former = self.translated.remove(&configuration.gateway).unwrap_or_default();
            let resources = hashed(&configuration.resources, former);
            self.translated.insert(configuration.gateway.clone(), resources);
            self.send(&configuration.gateway, &mut notes);
        }
        notes
    }

    /// Publishes a Gateway's resources, without the virtual hosts that its proxies do not take.
    fn send(&mut self, gateway: &str, notes: &mut Notes) {
        let Some(translated) = self.translated.get(gateway).cloned() else {
            return;
        };
        loop {
            let resources = self.quarantine.apply(gateway, translated.clone());
            if let Err(duplicate) = self.server.publish(gateway, resources.clone()) {
                // A fault of the translation, not of the user's: what was served stays.
                let why = format!("{duplicate}; what was served before stays in force");
                notes.push((Tone::Bad, format!("{gateway}: {why}")));
                self.withheld.insert(gateway.to_owned(), why);
                self.published.entry(gateway.to_owned()).or_default();
                return;
            }
            self.withheld.remove(gateway);
            self.published.insert(gateway.to_owned(), resources);
            if !self.settle(gateway) {
                break;
            }
        }
        self.tell_convicted(notes);
    }

    /// Whether what the proxies hold by now calls for another publication.
    fn settle(&mut self, gateway: &str) -> bool {
        let held = |table: &str, version: &str| {
            self.server
                .acknowledgement(gateway, snapshot::ROUTES, table, version)
                .is_complete()
        };
        self.quarantine.settle(gateway, held)
    }

    /// Says which virtual hosts were newly found to be what a proxy does not take.
    fn tell_convicted(&mut self, notes: &mut Notes) {
        let mut now = BTreeSet::new();
        for gateway in self.published.keys() {
            for replaced in self.quarantine.replaced(gateway) {
                now.insert(format!(
                    "envoy {gateway}: rejected virtual host {} of {}, it answers 500: {}",
                    replaced.virtual_host, replaced.table, replaced.reason
                ));
            }
        }
        for text in now.difference(&self.convicted) {
            notes.push((Tone::Bad, text.clone()));
        }
        self.convicted = now;
        self.remember(notes);
    }

    /// Writes down which virtual hosts proxies do not take, if that changed.
    fn remember(&mut self, notes: &mut Notes) {
        let Some(path) = &self.memory else { return };
        let memory = self.quarantine.memory();
        if memory == self.remembered {
            return;
        }
        if let Err(error) = state::write_private(path, memory.as_bytes()) {
            notes.push((Tone::Warning, format!("{}: {error}", path.display())));
        }
        self.remembered = memory;
    }

    /// Learns what a proxy did, and publishes anew what that calls for.
    pub(crate) fn event(&mut self, event: Event) -> Notes {
        let mut notes = Notes::new();
        match event {
            Event::Connected {
                cluster,
                node_id,
                metadata,
            } => {
                if !self.published.contains_key(&cluster) {
                    notes.push((
                        Tone::Warning,
                        format!(
                            "envoy {node_id}: its cluster {cluster:?} is no served Gateway; set node.cluster to one"
                        ),
                    ));
                } else if !decodes(&metadata) {
                    notes.push((
                        Tone::Bad,
                        format!(
                            "envoy {node_id} of {cluster}: its filter cannot decode policy documents of version {}; upgrade it",
                            document::VERSION
                        ),
                    ));
                }
                self.settled(&cluster, &mut notes);
            }
            Event::Disconnected { cluster, .. } => {
                self.rejected.retain(|(gateway, ..), _| *gateway != cluster);
                self.settled(&cluster, &mut notes);
            }
            Event::Acked {
                cluster,
                type_url,
                resources,
                ..
            } => {
                for resource in &resources {
                    self.rejected
                        .remove(&(cluster.clone(), type_url.clone(), resource.name.clone()));
                }
                self.settled(&cluster, &mut notes);
            }
            Event::Nacked {
                cluster,
                type_url,
                resource,
                version,
                message,
                ..
            } => {
                let version = version.unwrap_or_default();
                if type_url == snapshot::ROUTES && self.quarantine.rejected(&cluster, &resource, &version, &message) {
                    self.send(&cluster, &mut notes);
                    return notes;
                }
                let kind = type_url.rsplit('.').next().unwrap_or_default();
                notes.push((
                    Tone::Bad,
                    format!("envoy {cluster}: rejected {kind} {resource}, it keeps what it had: {message}"),
                ));
                self.rejected.insert((cluster, type_url, resource), message);
            }
        }
        notes
    }

    fn settled(&mut self, gateway: &str, notes: &mut Notes) {
        if self.settle(gateway) {
            self.send(gateway, notes);
        } else {
            // The last acknowledgement of a search convicts without anything more to publish.
            self.tell_convicted(notes);
        }
    }

    /// How far each Gateway's configuration has come; `awaited` if proxies are being started for it.
    pub(crate) fn deliveries(&self, attachment: &Attachment, awaited: bool) -> Deliveries {
        let gateways = self
            .published
            .iter()
            .map(|(gateway, resources)| (gateway.clone(), self.delivery(gateway, resources, awaited)));
        Deliveries {
            gateways: gateways.collect(),
            quarantined: self.quarantined(attachment),
            ..Deliveries::default()
        }
    }

    /// Whether all proxies of a Gateway hold what it was sent.
    pub(crate) fn is_acknowledged(&self, gateway: &str) -> bool {
        let resources = self.published.get(gateway);
        resources.is_some_and(|resources| self.delivery(gateway, resources, false) == Delivery::Acknowledged)
    }

    /// Policies of virtual hosts that a proxy does not take, with its reason.
    fn quarantined(&self, attachment: &Attachment) -> BTreeMap<String, String> {
        let mut quarantined = BTreeMap::new();
        // One policy may be at any number of places.
        let policies: BTreeMap<_, _> = attachment
            .policies
            .values()
            .map(|policy| (policy.hash.as_bytes(), policy.policy.as_str()))
            .collect();
        for (gateway, resources) in &self.translated {
            for replaced in self.quarantine.replaced(gateway) {
                let table = resources
                    .iter()
                    .find(|resource| resource.type_url() == snapshot::ROUTES && resource.name() == replaced.table);
                let hosts = table
                    .map(|table| portcullis_gateway::virtual_hosts(table.body()))
                    .unwrap_or_default();
                for (_, content) in hosts.iter().filter(|(name, _)| name == replaced.virtual_host) {
                    // A virtual host carries the names of its policies as text, all of one length.
                    let length = policies.keys().next().map_or(1, |hash| hash.len().max(1));
                    for policy in content.windows(length).filter_map(|part| policies.get(part)) {
                        quarantined.insert((*policy).to_owned(), replaced.reason.to_owned());
                    }
                }
            }
        }
        quarantined
    }

    fn delivery(&self, gateway: &str, resources: &[Resource], awaited: bool) -> Delivery {
        if let Some(why) = self.withheld.get(gateway) {
            return Delivery::Rejected(why.clone());
        }
        let rejected = self.rejected.iter().find(|((cluster, ..), _)| cluster == gateway);
        if let Some(((_, _, name), why)) = rejected {
            return Delivery::Rejected(format!("{name}: {why}"));
        }
        let proxies = self.server.proxies(gateway);
        if proxies.is_empty() {
            return if awaited {
                Delivery::Pending
            } else {
                Delivery::NoProxies
            };
        }
        if !proxies.iter().all(|proxy| decodes(&proxy.metadata)) {
            return Delivery::FilterTooOld;
        }
        let whole = resources
            .iter()
            .filter(|resource| [snapshot::LISTENER, snapshot::ROUTES].contains(&resource.type_url()))
            .all(|resource| {
                self.server
                    .acknowledgement(gateway, resource.type_url(), resource.name(), resource.version())
                    .is_complete()
            });
        if whole {
            Delivery::Acknowledged
        } else {
            Delivery::Pending
        }
    }
}

/// Resources with their versions, which are hashes: one that is as it was keeps the one that it had.
fn hashed(resources: &[portcullis_gateway::Resource], former: Vec<Resource>) -> Vec<Resource> {
    let former: BTreeMap<_, _> = former
        .into_iter()
        .map(|resource| ((resource.type_url(), resource.name().to_owned()), resource))
        .collect();
    let hashed = |resource: &portcullis_gateway::Resource| {
        let known = former.get(&(resource.type_url, resource.name.clone()));
        let known = known.filter(|known| *known.body() == resource.body).cloned();
        known.unwrap_or_else(|| Resource::new(resource.type_url, resource.name.clone(), resource.body.clone()))
    };
    resources.iter().map(hashed).collect()
}

/// Whether a proxy's filter decodes what this build writes, by what its bootstrap says of the filter's file.
fn decodes(metadata: &serde_json::Value) -> bool {
    metadata
        .pointer("/portcullis/documents")
        .and_then(serde_json::Value::as_array)
        .is_some_and(|documents| {
            documents
                .iter()
                .any(|version| version.as_f64() == Some(f64::from(document::VERSION)))
        })
}

#[cfg(test)]
mod tests {
    use portcullis_xds::session::Acknowledged;

    use super::*;

    fn configuration(gateway: &str) -> Configuration {
        Configuration {
            gateway: gateway.to_owned(),
            resources: vec![portcullis_gateway::Resource {
                type_url: snapshot::LISTENER,
                name: "http-80".to_owned(),
                body: Vec::new().into(),
            }],
            listeners: Vec::new(),
        }
    }

    fn delivery(publication: &Publication, awaited: bool) -> Delivery {
        let deliveries = publication.deliveries(&Attachment::default(), awaited);
        deliveries.gateways["edge/a"].clone()
    }

    #[test]
    fn gateways_come_and_go() {
        let (mut publication, _events) = Publication::new(None);
        assert_eq!(
            publication.publish(&[configuration("edge/a"), configuration("edge/b")]),
            []
        );
        assert_eq!(publication.gateways().collect::<Vec<_>>(), ["edge/a", "edge/b"]);
        assert!(
            publication
                .server
                .version("edge/b", snapshot::LISTENER, "http-80")
                .is_some()
        );
        publication.publish(&[configuration("edge/a")]);
        assert_eq!(publication.gateways().collect::<Vec<_>>(), ["edge/a"]);
        assert!(
            publication
                .server
                .version("edge/b", snapshot::LISTENER, "http-80")
                .is_none()
        );
    }

    #[test]
    fn what_is_published_twice_under_one_name_changes_nothing() {
        let (mut publication, _events) = Publication::new(None);
        publication.publish(&[configuration("edge/a")]);
        let before = publication.server.version("edge/a", snapshot::LISTENER, "http-80");
        let mut twice = configuration("edge/a");
        twice.resources[0].body = vec![1].into();
        twice.resources.push(twice.resources[0].clone());
        let notes = publication.publish(&[twice]);
        assert!(
            notes[0].1.ends_with("what was served before stays in force"),
            "{notes:?}"
        );
        assert_eq!(
            publication.server.version("edge/a", snapshot::LISTENER, "http-80"),
            before
        );
        let rejected = |publication: &Publication| matches!(delivery(publication, false), Delivery::Rejected(_));
        assert!(rejected(&publication), "nobody takes it for enforced");
        publication.publish(&[configuration("edge/a")]);
        assert!(!rejected(&publication));
    }

    #[test]
    fn a_refusal_is_told_and_stands_until_the_resource_is_taken() {
        let (mut publication, _events) = Publication::new(None);
        publication.publish(&[configuration("edge/a")]);
        assert_eq!(delivery(&publication, false), Delivery::NoProxies);
        assert_eq!(delivery(&publication, true), Delivery::Pending);
        let notes = publication.event(Event::Nacked {
            cluster: "edge/a".to_owned(),
            node_id: "one".to_owned(),
            type_url: snapshot::LISTENER.to_owned(),
            generation: 1,
            resource: "http-80".to_owned(),
            version: None,
            message: "no".to_owned(),
        });
        assert_eq!(
            notes,
            [(
                Tone::Bad,
                "envoy edge/a: rejected Listener http-80, it keeps what it had: no".to_owned()
            )]
        );
        assert_eq!(
            delivery(&publication, true),
            Delivery::Rejected("http-80: no".to_owned())
        );
        publication.event(Event::Acked {
            cluster: "edge/a".to_owned(),
            node_id: "one".to_owned(),
            type_url: snapshot::LISTENER.to_owned(),
            generation: 2,
            resources: vec![Acknowledged {
                name: "http-80".to_owned(),
                version: None,
            }],
        });
        assert_eq!(delivery(&publication, true), Delivery::Pending);
    }

    #[test]
    fn a_refused_virtual_host_stays_replaced_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("quarantine.json");
        let mut table = configuration("edge/a");
        // A route table `t` with one virtual host `a`.
        table.resources = vec![portcullis_gateway::Resource {
            type_url: snapshot::ROUTES,
            name: "t".to_owned(),
            body: b"\x0a\x01t\x12\x06\x0a\x01a\x12\x01a".to_vec().into(),
        }];
        let version = |publication: &Publication| publication.server.version("edge/a", snapshot::ROUTES, "t");

        let (mut publication, _events) = Publication::new(Some(memory.clone()));
        publication.publish(std::slice::from_ref(&table));
        assert!(!memory.exists());
        let refused = version(&publication);
        publication.event(Event::Nacked {
            cluster: "edge/a".to_owned(),
            node_id: "one".to_owned(),
            type_url: snapshot::ROUTES.to_owned(),
            generation: 1,
            resource: "t".to_owned(),
            version: refused.clone(),
            message: "no".to_owned(),
        });
        let replaced = version(&publication);
        assert_ne!(replaced, refused);

        let (mut publication, _events) = Publication::new(Some(memory));
        let notes = publication.publish(&[table]);
        assert_eq!(version(&publication), replaced);
        assert!(notes[0].1.ends_with("it answers 500: no"), "{notes:?}");
    }

    #[test]
    fn a_proxy_of_an_unknown_gateway_or_with_an_old_filter_is_told_of() {
        let (mut publication, _events) = Publication::new(None);
        publication.publish(&[configuration("edge/a")]);
        let mut connected = |cluster: &str, documents: serde_json::Value| {
            publication.event(Event::Connected {
                cluster: cluster.to_owned(),
                node_id: "one".to_owned(),
                metadata: serde_json::json!({"portcullis": {"documents": documents}}),
            })
        };
        assert_eq!(connected("edge/a", serde_json::json!([1])), []);
        assert!(connected("edge/a", serde_json::json!([0]))[0].1.ends_with("upgrade it"));
        assert!(
            connected("edge/b", serde_json::json!([1]))[0]
                .1
                .contains("is no served Gateway")
        );
    }

    #[test]
    fn a_proxy_says_what_its_filter_decodes() {
        assert!(decodes(&serde_json::json!({"portcullis": {"documents": [1.0, 2.0]}})));
        assert!(!decodes(&serde_json::json!({"portcullis": {"documents": [2]}})));
        assert!(!decodes(&serde_json::Value::Null));
    }
}
