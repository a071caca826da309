//! One client's side of the delta protocol, as a state machine without I/O and without a clock.
//!
//! Inputs are the client's requests and new snapshots; outputs are responses and reports. At most one response per
//! type is outstanding. Order is make-before-break: clusters, endpoints, listeners, route tables, secrets; a change of
//! listeners waits for the clusters that it may name, a change of route tables for clusters and listeners, and what
//! goes away does so only when nothing that the client still uses can name it.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;

use crate::{
    constraint,
    snapshot::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Snapshot},
    subscription::{Due, Outstanding, Subscription, Target, Verdict},
    wire::{Any, Cluster, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource},
};

const ORDER: [&str; 5] = [CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET];

/// Types that one stream may follow.
pub const MAX_TYPES: usize = 32;
/// Names that one stream may follow one by one, within one type.
pub const MAX_NAMES: usize = 100_000;
/// The longest node that a client may introduce itself as, in bytes.
pub const MAX_NODE: usize = 64 << 10;

/// A request that the protocol does not allow; it ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first request has no node.
    #[error("the first request of a stream must carry a node")]
    NodeMissing,
    /// The node says neither which configuration it needs nor whose answers these are.
    #[error("node.id and node.cluster must not be empty, nor hold control characters")]
    NodeIncomplete,
    /// The node is longer than any proxy's.
    #[error("the node is longer than {MAX_NODE} bytes")]
    NodeTooLong,
    /// A later request carries another node.
    #[error("node.id and node.cluster must not change within a stream")]
    NodeChanged,
    /// The node says to be of another cluster than who it is may have.
    #[error("the certificate is not of this node.cluster")]
    NodeForeign,
    /// The request does not say which type it is about.
    #[error("type_url must not be empty")]
    TypeMissing,
    /// The stream follows more than [`MAX_TYPES`] types.
    #[error("more than {MAX_TYPES} types on one stream")]
    TooManyTypes,
    /// The stream follows more than [`MAX_NAMES`] names of one type.
    #[error("more than {MAX_NAMES} names of one type on one stream")]
    TooManyNames,
}

/// What the client said about what it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The client holds these resources at these versions: it acknowledged them, or said so when it connected.
    Acked {
        /// Their type.
        type_url: String,
        /// The snapshot that they were taken from.
        generation: u64,
        /// The resources.
        resources: Vec<Acknowledged>,
    },
    /// The client refuses one version of one resource and keeps what it had.
    Nacked {
        /// Its type.
        type_url: String,
        /// The snapshot that it was taken from.
        generation: u64,
        /// Its name.
        resource: String,
        /// Its version; absent for a removal.
        version: Option<Arc<str>>,
        /// Why, reduced to what cannot hold a value of the resource.
        message: String,
    },
}

/// One acknowledged resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The name.
    pub name: String,
    /// The version; absent when the client was told that there is none.
    pub version: Option<Arc<str>>,
}

/// What an input brought about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Responses, to be sent in this order.
    pub responses: Vec<DeltaDiscoveryResponse>,
    /// What the client said.
    pub reports: Vec<Report>,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub struct Session {
    /// The one `node.cluster` that the client may be of; any if absent.
    only: Option<String>,
    node: Option<Node>,
    snapshot: Option<Arc<Snapshot>>,
    subscriptions: BTreeMap<String, Subscription>,
    nonces: u64,
    impatient: bool,
    holding: bool,
}

impl Session {
    /// Opens a session; nothing is sent before its first request and its first snapshot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a session of a client that may be of this `node.cluster` alone.
    #[must_use]
    pub fn only(cluster: &str) -> Self {
        Self {
            only: Some(cluster.to_owned()),
            ..Self::default()
        }
    }

    /// Returns the client's node, once it has introduced itself.
    #[must_use]
    pub const fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Whether a change waits for the acknowledgement of another type.
    ///
    /// Envoy acknowledges clusters only when they are warm, which takes as long as a name server takes. The caller
    /// limits that wait by [`Self::on_impatience`].
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        self.holding
    }

    /// Returns the version of a resource that the client is known to hold.
    #[must_use]
    pub fn held(&self, type_url: &str, name: &str) -> Option<&Arc<str>> {
        self.subscriptions.get(type_url)?.held(name)
    }

    /// Takes a new snapshot; what the client does not hold of it is sent.
    ///
    /// What the client said to hold of the first one when it connected is reported as acknowledged.
    pub fn on_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Output {
        let first = self.snapshot.replace(snapshot).is_none();
        let reports = if first {
            self.subscriptions
                .keys()
                .filter_map(|type_url| self.resumed(type_url))
                .collect()
        } else {
            Vec::new()
        };
        Output {
            responses: self.pump(),
            reports,
        }
    }

    /// Sends what is held back by an acknowledgement that is too long in coming. Removals go on waiting.
    pub fn on_impatience(&mut self) -> Output {
        self.impatient = true;
        Output {
            responses: self.pump(),
            reports: Vec::new(),
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    ///
    /// A [`Violation`] ends the stream; the session is of no further use then.
    pub fn on_request(&mut self, mut request: DeltaDiscoveryRequest) -> Result<Output, Violation> {
        self.introduce(request.node.take())?;
        if request.type_url.is_empty() {
            return Err(Violation::TypeMissing);
        }
        let type_url = std::mem::take(&mut request.type_url);
        let mut reports = Vec::new();
        let mut opened = false;
        let subscription = if let Some(subscription) = self.subscriptions.get_mut(&type_url) {
            // A nonce that is not the outstanding one settles nothing, but its request may still change subscriptions.
            if let Some(verdict) = subscription.settle(&request.response_nonce, request.error_detail.is_some()) {
                reports.extend(report(
                    &type_url,
                    verdict,
                    &request.error_detail.unwrap_or_default().message,
                ));
            }
            subscription.follow(request.resource_names_subscribe, request.resource_names_unsubscribe);
            subscription
        } else {
            if self.subscriptions.len() >= MAX_TYPES {
                return Err(Violation::TooManyTypes);
            }
            let subscription = self
                .subscriptions
                .entry(type_url.clone())
                .or_insert_with(|| Subscription::open(request));
            opened = true;
            subscription
        };
        if subscription.names() > MAX_NAMES {
            return Err(Violation::TooManyNames);
        }
        if opened {
            reports.extend(self.resumed(&type_url));
        }
        Ok(Output {
            responses: self.pump(),
            reports,
        })
    }

    /// Reports what the client holds of a type since before this session.
    fn resumed(&self, type_url: &str) -> Option<Report> {
        let snapshot = self.snapshot.as_ref()?;
        let subscription = self.subscriptions.get(type_url)?;
        let resources: Vec<_> = snapshot
            .of_type(type_url)?
            .iter()
            .filter(|(name, resource)| subscription.held(name) == Some(resource.version()))
            .map(|(name, resource)| Acknowledged {
                name: name.clone(),
                version: Some(Arc::clone(resource.version())),
            })
            .collect();
        let report = |resources| Report::Acked {
            type_url: type_url.to_owned(),
            generation: snapshot.generation(),
            resources,
        };
        (!resources.is_empty()).then(|| report(resources))
    }

    fn introduce(&mut self, node: Option<Node>) -> Result<(), Violation> {
        match (&self.node, node) {
            (None, None) => Err(Violation::NodeMissing),
            (None, Some(node)) if !is_name(&node.id) || !is_name(&node.cluster) => Err(Violation::NodeIncomplete),
            (None, Some(node)) if prost::Message::encoded_len(&node) > MAX_NODE => Err(Violation::NodeTooLong),
            (None, Some(node)) if self.only.as_ref().is_some_and(|only| *only != node.cluster) => {
                Err(Violation::NodeForeign)
            }
            (None, node) => {
                self.node = node;
                Ok(())
            }
            (Some(known), Some(node)) if known.id != node.id || known.cluster != node.cluster => {
                Err(Violation::NodeChanged)
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Sends whatever may be sent now.
    fn pump(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let Some(snapshot) = self.snapshot.clone() else {
            return Vec::new();
        };
        let mut due: BTreeMap<String, Due> = self
            .subscriptions
            .iter()
            .map(|(type_url, subscription)| (type_url.clone(), subscription.due(snapshot.of_type(type_url))))
            .collect();
        let mut responses = Vec::new();
        self.holding = false;
        if !self.awaits_additions(CLUSTER) && !self.awaits_additions(LISTENER) {
            self.impatient = false;
        }
        for type_url in self.types() {
            let hold_additions = match type_url.as_str() {
                LISTENER => self.is_changing(&due, CLUSTER),
                ROUTES => self.is_changing(&due, CLUSTER) || self.is_changing(&due, LISTENER),
                _ => false,
            };
            // Listeners go at once: nothing depends on them, and one that is gone must not go on serving. The rest goes
            // after whatever may name it: Envoy drops endpoints, route tables and secrets with their last user.
            let hold_removals = match type_url.as_str() {
                CLUSTER => self.is_unsettled(&due, LISTENER) || self.is_unsettled(&due, ROUTES),
                ENDPOINTS => self.is_unsettled(&due, CLUSTER),
                ROUTES => self.is_unsettled(&due, LISTENER),
                SECRET => self.is_unsettled(&due, LISTENER) || self.is_unsettled(&due, CLUSTER),
                _ => false,
            };
            let Some(Due {
                answers,
                additions,
                removals,
                ..
            }) = due.get(&type_url)
            else {
                continue;
            };
            self.holding |= hold_additions && !additions.is_empty();
            let Some(subscription) = self.subscriptions.get_mut(&type_url) else {
                continue;
            };
            if subscription.outstanding.is_some() {
                continue;
            }
            let mut batch = answers.clone();
            if !hold_additions {
                batch.extend(additions.clone());
            }
            if !hold_removals {
                batch.extend(removals.clone());
            }
            // While additions are held back, they will be the answer.
            if batch.is_empty() && (!subscription.awaits_answer() || !additions.is_empty()) {
                continue;
            }
            let sent = subscription.select(batch);
            self.nonces += 1;
            let nonce = self.nonces.to_string();
            let response = response(&snapshot, &type_url, &nonce, &sent);
            subscription.sent(Outstanding {
                nonce,
                generation: snapshot.generation(),
                sent,
            });
            if type_url == CLUSTER
                && let Some(endpoints) = self.subscriptions.get_mut(ENDPOINTS)
            {
                // A cluster that changes gets warm by endpoints that come after it, be they the same as before; Envoy
                // does not ask for them again.
                for name in response.resources.iter().filter_map(endpoints_of) {
                    endpoints.ask(&name);
                }
                due.insert(ENDPOINTS.to_owned(), endpoints.due(snapshot.of_type(ENDPOINTS)));
            }
            responses.push(response);
        }
        responses
    }

    fn types(&self) -> Vec<String> {
        let rest = self
            .subscriptions
            .keys()
            .filter(|type_url| !ORDER.contains(&type_url.as_str()))
            .cloned();
        ORDER.into_iter().map(str::to_owned).chain(rest).collect()
    }

    /// Whether a response with resources of the type is on its way.
    fn awaits_additions(&self, type_url: &str) -> bool {
        let outstanding = self
            .subscriptions
            .get(type_url)
            .and_then(|subscription| subscription.outstanding.as_ref());
        outstanding.is_some_and(|outstanding| outstanding.sent.values().any(Option::is_some))
    }

    /// Whether the client is about to get resources of the type that others may name.
    fn is_changing(&self, due: &BTreeMap<String, Due>, type_url: &str) -> bool {
        !self.impatient
            && (self.awaits_additions(type_url) || due.get(type_url).is_some_and(|due| !due.additions.is_empty()))
    }

    /// Whether the client may still use something of the type that the snapshot no longer has.
    fn is_unsettled(&self, due: &BTreeMap<String, Due>, type_url: &str) -> bool {
        self.subscriptions
            .get(type_url)
            .is_some_and(|subscription| subscription.outstanding.is_some())
            || due
                .get(type_url)
                .is_some_and(|due| due.stale || !due.additions.is_empty() || !due.removals.is_empty())
    }
}

fn report(type_url: &str, verdict: Verdict, message: &str) -> Option<Report> {
    let type_url = type_url.to_owned();
    match verdict {
        Verdict::Acknowledged { generation, sent } => {
            let resources = sent
                .into_iter()
                .map(|(name, version)| Acknowledged { name, version })
                .collect();
            Some(Report::Acked {
                type_url,
                generation,
                resources,
            })
        }
        Verdict::Rejected {
            generation,
            name,
            target,
        } => Some(Report::Nacked {
            type_url,
            generation,
            resource: name,
            version: target,
            message: constraint::reduce(message),
        }),
        Verdict::Split => None,
    }
}

/// Returns the name of the endpoints that a cluster gets over xDS.
fn endpoints_of(cluster: &Resource) -> Option<String> {
    let body = cluster.resource.as_ref()?.value.clone();
    let Cluster {
        name,
        eds_cluster_config,
    } = Cluster::decode(body).ok()?;
    let service_name = eds_cluster_config?.service_name;
    Some(if service_name.is_empty() { name } else { service_name })
}

fn response(
    snapshot: &Snapshot,
    type_url: &str,
    nonce: &str,
    sent: &BTreeMap<String, Target>,
) -> DeltaDiscoveryResponse {
    let mut response = DeltaDiscoveryResponse {
        system_version_info: snapshot.version().to_string(),
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        ..DeltaDiscoveryResponse::default()
    };
    for name in sent.keys() {
        match snapshot.get(type_url, name) {
            Some(resource) => response.resources.push(Resource {
                version: resource.version().to_string(),
                resource: Some(Any {
                    type_url: type_url.to_owned(),
                    value: resource.body().clone(),
                }),
                name: name.clone(),
            }),
            None => response.removed_resources.push(name.clone()),
        }
    }
    response
}

/// Whether a text can stand in a line for people.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
