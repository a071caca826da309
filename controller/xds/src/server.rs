//! Snapshots by cluster, the streams that follow them, and what those say.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};

use crate::{
    connection::{Connection, Peer},
    service::AggregatedDiscovery,
    session::{Acknowledged, Report, Session},
    snapshot::{Duplicate, Resource, Snapshot},
    socket::Socket,
    tls::TlsListener,
};

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a change of listeners or route tables waits for the clusters that it may name.
    ///
    /// Envoy acknowledges clusters when they are warm, which may take as long as a name server takes; a revocation in
    /// the same push must not wait for that.
    pub patience: Duration,
    /// The longest request, in bytes. A proxy that reconnects lists every resource that it holds.
    pub max_request: usize,
    /// After how much silence a proxy is probed.
    pub keepalive: Duration,
    /// How long a probed proxy has to answer before it counts as gone.
    pub keepalive_timeout: Duration,
    /// How long [`Server::serve`] waits for connections to close once it is to stop.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(250),
            max_request: 16 << 20,
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(2),
        }
    }
}

/// What happened on a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A proxy introduced itself.
    Connected {
        /// Its `node.cluster`.
        cluster: String,
        /// Its `node.id`.
        node_id: String,
        /// Its `node.metadata`.
        metadata: serde_json::Value,
    },
    /// A proxy holds these resources: it took them just now, or had them when it connected.
    Acked {
        /// Its `node.cluster`.
        cluster: String,
        /// Its `node.id`.
        node_id: String,
        /// The type of the resources.
        type_url: String,
        /// The publication that they were taken from.
        generation: u64,
        /// The resources, by name.
        resources: Vec<Acknowledged>,
    },
    /// A proxy refuses one version of one resource, and keeps what it had.
    Nacked {
        /// Its `node.cluster`.
        cluster: String,
        /// Its `node.id`.
        node_id: String,
        /// The type of the resource.
        type_url: String,
        /// The publication that it was taken from.
        generation: u64,
        /// The resource's name.
        resource: String,
        /// The refused version; absent if it refuses to be without the resource.
        version: Option<Arc<str>>,
        /// Why, without a value of the resource (see [`crate::constraint`]).
        message: String,
    },
    /// A proxy's stream ended.
    Disconnected {
        /// Its `node.cluster`.
        cluster: String,
        /// Its `node.id`.
        node_id: String,
    },
}

/// One connected proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Its `node.id`.
    pub node_id: String,
    /// Its `node.metadata`.
    pub metadata: serde_json::Value,
}

/// How many proxies hold a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Acknowledgement {
    /// Proxies of the cluster that are connected.
    pub connected: usize,
    /// Those of them that acknowledged the version asked about, and no other since.
    pub acknowledged: usize,
}

impl Acknowledgement {
    /// Whether there are proxies, and all of them hold the version.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.connected > 0 && self.connected == self.acknowledged
    }
}

/// Why a server ended by itself.
pub type ServeError = tonic::transport::Error;

/// Snapshots of every cluster.
pub(crate) type Snapshots = BTreeMap<String, Arc<Snapshot>>;

/// A delta ADS server.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    snapshots: watch::Sender<Snapshots>,
    streams: Mutex<Streams>,
    events: mpsc::UnboundedSender<Event>,
    stopping: watch::Sender<bool>,
    /// How often connections that were made in TLS were ended.
    farewells: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, Arc<Mutex<Session>>>,
}

impl Server {
    /// Makes a server without any snapshot, and the receiver of its events.
    ///
    /// Events are never dropped: their receiver is to be drained. Their rate is bound to that of publications and
    /// connections.
    #[must_use]
    pub fn new(options: Options) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let shared = Shared {
            options,
            snapshots: watch::Sender::default(),
            streams: Mutex::default(),
            events,
            stopping: watch::Sender::default(),
            farewells: watch::Sender::default(),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            receiver,
        )
    }

    /// Replaces what the proxies of `cluster` are to hold, and returns the generation: a number that grows by each
    /// publication that changed something, and stays when nothing did.
    ///
    /// Proxies of a cluster that was never published wait without an answer. An empty publication takes everything
    /// away from them.
    ///
    /// # Errors
    ///
    /// Two resources of one type and name change nothing.
    pub fn publish(&self, cluster: &str, resources: impl IntoIterator<Item = Resource>) -> Result<u64, Duplicate> {
        let mut draft = Snapshot::new(0, resources)?;
        let mut generation = 0;
        self.shared.snapshots.send_if_modified(|snapshots| {
            let newest = snapshots
                .values()
                .map(|snapshot| snapshot.generation())
                .max()
                .unwrap_or(0);
            if let Some(current) = snapshots.get(cluster)
                && current.same_content(&draft)
            {
                generation = current.generation();
                return false;
            }
            generation = newest + 1;
            draft.number(generation);
            snapshots.insert(cluster.to_owned(), Arc::new(std::mem::take(&mut draft)));
            true
        });
        Ok(generation)
    }

    /// Returns the published version of a resource.
    #[must_use]
    pub fn version(&self, cluster: &str, type_url: &str, name: &str) -> Option<Arc<str>> {
        Some(Arc::clone(
            self.shared
                .snapshots
                .borrow()
                .get(cluster)?
                .get(type_url, name)?
                .version(),
        ))
    }

    /// Counts the connected proxies of `cluster`, and those that hold `version` of a resource.
    ///
    /// What a proxy says to hold when it connects counts: versions are made from content.
    #[must_use]
    pub fn acknowledgement(&self, cluster: &str, type_url: &str, name: &str, version: &str) -> Acknowledgement {
        let mut acknowledgement = Acknowledgement::default();
        self.shared.each_of(cluster, |session| {
            acknowledgement.connected += 1;
            let holds = session.held(type_url, name).is_some_and(|held| **held == *version);
            acknowledgement.acknowledged += usize::from(holds);
        });
        acknowledgement
    }

    /// Returns the connected proxies of `cluster`, in the order of their connections.
    #[must_use]
    pub fn proxies(&self, cluster: &str) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        self.shared.each_of(cluster, |session| {
            if let Some(node) = session.node() {
                proxies.push(Proxy {
                    node_id: node.id.clone(),
                    metadata: metadata(session),
                });
            }
        });
        proxies
    }

    /// Serves on `socket` until `shutdown` is ready; open streams end with `UNAVAILABLE` then, upon which Envoy keeps
    /// its configuration and reconnects.
    ///
    /// # Errors
    ///
    /// Whatever the transport cannot recover from.
    pub async fn serve(&self, socket: Socket, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        self.serve_connections(socket.into_connections(), shutdown).await
    }

    /// Does what [`Self::serve`] does, for proxies that prove which Gateway they are of: each gets that one's resources, and a
    /// stream that says to be of another one ends with `PERMISSION_DENIED`.
    ///
    /// # Errors
    ///
    /// Whatever the transport cannot recover from.
    pub async fn serve_tls(&self, listener: TlsListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let connections = listener.into_connections(self.shared.farewells.subscribe());
        self.serve_connections(connections, shutdown).await
    }

    /// Ends every connection that was made in TLS. Its proxy keeps its configuration and connects again, to whichever controller
    /// it reaches then.
    pub fn hang_up(&self) {
        self.shared
            .farewells
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn serve_connections<T>(
        &self,
        connections: impl Stream<Item = io::Result<Connection<T>>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Options {
            max_request,
            keepalive,
            keepalive_timeout,
            grace,
            ..
        } = self.shared.options;
        let stopping = async {
            shutdown.await;
            self.shared.stopping.send_replace(true);
        };
        let mut stopped = self.shared.stopping();
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(keepalive))
            .http2_keepalive_timeout(Some(keepalive_timeout))
            .max_concurrent_streams(4)
            .http2_max_header_list_size(16 << 10)
            .add_service(AggregatedDiscovery::new(Arc::clone(&self.shared), max_request))
            .serve_with_incoming_shutdown(connections, stopping);
        tokio::select! {
            served = serving => served,
            // A connection without a stream is not ended by ending streams.
            () = async {
                let _ = stopped.wait_for(|stopped| *stopped).await;
                tokio::time::sleep(grace).await;
            } => Ok(()),
        }
    }
}

impl Shared {
    pub(crate) fn snapshots(&self) -> watch::Receiver<Snapshots> {
        self.snapshots.subscribe()
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Registers a stream; it is gone when the result is dropped.
    pub(crate) fn open(self: &Arc<Self>, peer: &Peer) -> OpenStream {
        let session = Arc::new(Mutex::new(match peer {
            Peer::Owner => Session::new(),
            Peer::Gateway(cluster) => Session::only(cluster),
        }));
        let mut streams = lock(&self.streams);
        streams.last += 1;
        let id = streams.last;
        streams.open.insert(id, Arc::clone(&session));
        OpenStream {
            shared: Arc::clone(self),
            id,
            session,
            announced: false,
        }
    }

    fn each_of(&self, cluster: &str, mut visit: impl FnMut(&Session)) {
        // Cloned, so that no session is locked under the lock of all streams.
        let sessions: Vec<_> = lock(&self.streams).open.values().cloned().collect();
        for session in sessions {
            let session = lock(&session);
            if session.node().is_some_and(|node| node.cluster == cluster) {
                visit(&session);
            }
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens when the receiver is gone, which is the receiver's choice.
        let _ = self.events.send(event);
    }
}

/// A stream's place among the open ones.
#[derive(Debug)]
pub(crate) struct OpenStream {
    shared: Arc<Shared>,
    id: u64,
    session: Arc<Mutex<Session>>,
    announced: bool,
}

impl OpenStream {
    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// Says who connected, once the client has said so.
    pub(crate) fn announce(&mut self) {
        if self.announced {
            return;
        }
        let Some((cluster, node_id)) = self.names() else { return };
        self.announced = true;
        let metadata = metadata(&self.session());
        self.shared.tell(Event::Connected {
            cluster,
            node_id,
            metadata,
        });
    }

    pub(crate) fn tell(&self, reports: Vec<Report>) {
        let Some((cluster, node_id)) = self.names() else { return };
        for report in reports {
            let (cluster, node_id) = (cluster.clone(), node_id.clone());
            self.shared.tell(match report {
                Report::Acked {
                    type_url,
                    generation,
                    resources,
                } => Event::Acked {
                    cluster,
                    node_id,
                    type_url,
                    generation,
                    resources,
                },
                Report::Nacked {
                    type_url,
                    generation,
                    resource,
                    version,
                    message,
                } => Event::Nacked {
                    cluster,
                    node_id,
                    type_url,
                    generation,
                    resource,
                    version,
                    message,
                },
            });
        }
    }

    /// Returns the client's `node.cluster` and `node.id`.
    pub(crate) fn names(&self) -> Option<(String, String)> {
        self.session()
            .node()
            .map(|node| (node.cluster.clone(), node.id.clone()))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        lock(&self.shared.streams).open.remove(&self.id);
        if self.announced
            && let Some((cluster, node_id)) = self.names()
        {
            self.shared.tell(Event::Disconnected { cluster, node_id });
        }
    }
}

fn metadata(session: &Session) -> serde_json::Value {
    let metadata = session.node().and_then(|node| node.metadata.as_ref());
    metadata.map_or(serde_json::Value::Null, crate::wire::Struct::to_json)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
