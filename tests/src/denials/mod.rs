//! Every denial that a test provokes is explained: what the access log says of a request that the gateway answered by
//! itself is held against what `portcullis explain request` says of that request on the manifests of that moment.
//!
//! Nobody can forget it. The harness's clients hand in each answer that no backend gave, and refuse to talk to a gateway
//! that nobody watches. When a gateway ends, each line of its access log without a backend must belong to such a request,
//! and `explain request` must name its policy, rule, reason and stage; `settle.rs` says how.
//!
//! A gateway that does not run what its manifests say, because a test broke it or wrote its policies by hand, must be
//! declared so ([`Watched::beside_manifests`]). No manifest explains its denials; `portcullis explain reason` must still
//! know the code of each.

mod explanation;
mod settle;
mod versions;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use serde_json::Value;

pub use self::{
    explanation::{Question, Told, differences},
    settle::Summary,
};
use self::{settle::settle, versions::Versions};
use crate::{client::Connection, client::Request, http::Headers};

/// A request that was answered by the gateway itself.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Where it was sent to.
    pub to: SocketAddr,
    /// Where it came from, as the gateway sees its peer.
    pub from: IpAddr,
    /// The server name of the TLS greeting; none without TLS.
    pub server_name: Option<String>,
    /// The file of the certificate that the client showed.
    pub certificate: Option<PathBuf>,
    /// The method.
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The header lines.
    pub headers: Headers,
    /// The status of the answer.
    pub status: u16,
    /// When it was sent, in milliseconds since 1970.
    pub sent: u64,
    /// When its answer was there, in milliseconds since 1970.
    pub answered: u64,
}

/// How a gateway's denials are to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Behind {
    /// By the manifests of its folder.
    Manifests,
    /// By their codes alone, and why.
    Codes(&'static str),
    /// By nobody: what runs is no test.
    Nothing,
}

/// What is known of one gateway.
#[derive(Debug)]
struct Gateway {
    admin: Option<SocketAddr>,
    /// Its name, `namespace/name`, where its proxy knows it.
    name: Option<String>,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    behind: Behind,
    /// The port in the manifests of each bound one.
    ports: BTreeMap<u16, u16>,
    exchanges: Vec<Exchange>,
    versions: Option<Versions>,
    /// Between the client and the gateway addresses are changed: the access log alone knows the peer's.
    translated: bool,
}

/// Everything that is watched in this test program.
#[derive(Debug)]
struct Ledger {
    /// The folders of manifests and of state, by the scratch folder of the controller that reads them.
    places: BTreeMap<PathBuf, (PathBuf, PathBuf)>,
    gateways: Vec<Arc<Gateway>>,
}

static LEDGER: Mutex<Ledger> = Mutex::new(Ledger {
    places: BTreeMap::new(),
    gateways: Vec::new(),
});

/// A gateway whose denials are explained when it ends.
#[derive(Debug)]
pub struct Watched {
    gateway: Arc<Gateway>,
}

impl Watched {
    /// Watches an Envoy, which was started in `scratch` with `bootstrap` and writes its access log to `log`.
    pub(crate) fn envoy(scratch: &Path, bootstrap: &Value, admin: SocketAddr, log: &Path) -> Self {
        let place = lock(&LEDGER).places.get(scratch).cloned();
        let name = bootstrap["node"]["cluster"].as_str().filter(|name| name.contains('/'));
        Self::new(Gateway {
            admin: Some(admin),
            name: name.map(str::to_owned),
            log: log.to_path_buf(),
            state: Mutex::new(State {
                behind: Behind::Manifests,
                ports: BTreeMap::new(),
                exchanges: Vec::new(),
                versions: place.map(|(folder, state)| Versions::new(&folder, &state)),
                translated: false,
            }),
        })
    }

    /// Watches a gateway that something else runs: `ports` has the port in the manifests of each port that clients use.
    #[must_use]
    pub fn other(ports: &[(u16, u16)], folder: &Path, state: &Path, log: &Path) -> Self {
        Self::new(Gateway {
            admin: None,
            name: None,
            log: log.to_path_buf(),
            state: Mutex::new(State {
                behind: Behind::Manifests,
                ports: ports.iter().copied().collect(),
                exchanges: Vec::new(),
                versions: Some(Versions::new(folder, state)),
                translated: false,
            }),
        })
    }

    fn new(gateway: Gateway) -> Self {
        let gateway = Arc::new(gateway);
        lock(&LEDGER).gateways.push(Arc::clone(&gateway));
        Self { gateway }
    }

    /// Declares that it does not run what its manifests say, and why: its denials are explained by their codes alone.
    pub fn beside_manifests(&self, why: &'static str) {
        lock(&self.gateway.state).behind = Behind::Codes(why);
    }

    /// Declares that it is no test's.
    pub fn ignore(&self) {
        lock(&self.gateway.state).behind = Behind::Nothing;
    }

    /// Declares that the peer's address is known to the access log alone.
    pub fn translated(&self) {
        lock(&self.gateway.state).translated = true;
    }

    /// Explains everything so far.
    ///
    /// # Panics
    /// If something is not explained, or otherwise than the access log has it.
    #[must_use]
    pub fn explained(&self) -> Summary {
        self.gateway.look();
        let state = lock(&self.gateway.state);
        settle(&self.gateway, &state).unwrap_or_else(|failures| {
            panic!(
                "{} denials are not explained as they happened:\n{}",
                failures.len(),
                failures.join("\n")
            )
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&LEDGER)
            .gateways
            .retain(|other| !Arc::ptr_eq(other, &self.gateway));
        if !thread::panicking() {
            self.explained().print();
        }
    }
}

impl Gateway {
    /// Looks at the manifests as they are now.
    fn look(&self) {
        if let Some(versions) = &mut lock(&self.state).versions {
            versions.look();
        }
    }

    fn owns(&self, address: SocketAddr) -> bool {
        if lock(&self.state).ports.contains_key(&address.port()) {
            return true;
        }
        // Its listeners come and go.
        let Some(text) = self.admin.and_then(listeners) else {
            return false;
        };
        let statuses: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut state = lock(&self.state);
        for status in statuses["listener_statuses"].as_array().into_iter().flatten() {
            let port = status["local_address"]["socket_address"]["port_value"].as_u64();
            let Some(bound) = port.and_then(|port| u16::try_from(port).ok()) else {
                continue;
            };
            // A listener's name ends in the port of the manifests, whatever it is bound to here.
            let name = status["name"].as_str().unwrap_or_default();
            let port = name.rsplit('-').next().and_then(|port| port.parse().ok());
            state.ports.insert(bound, port.unwrap_or(bound));
        }
        state.ports.contains_key(&address.port())
    }
}

fn listeners(admin: SocketAddr) -> Option<String> {
    let mut connection = Connection::try_open(admin).ok()?;
    let request = Request::get("admin", "/listeners?format=json");
    Some(connection.try_send(&request).ok()?.text())
}

/// Makes known that the controllers and Envoys of a scratch folder serve a folder of manifests.
pub(crate) fn place(scratch: &Path, folder: &Path, state: &Path) {
    let place = (folder.to_path_buf(), state.to_path_buf());
    lock(&LEDGER).places.insert(scratch.to_path_buf(), place);
}

/// Looks at a folder of manifests as it is now; to be called before and after it is edited.
pub(crate) fn look(folder: &Path) {
    for gateway in gateways() {
        let mut state = lock(&gateway.state);
        if let Some(versions) = state.versions.as_mut().filter(|versions| versions.are_of(folder)) {
            versions.look();
        }
    }
}

/// Remembers an answer that no backend gave; what Envoy's admin interface answers is not a gateway's.
///
/// # Panics
/// If nobody watches the gateway.
pub fn record(exchange: Exchange) {
    let gateways = gateways();
    if gateways.iter().any(|gateway| gateway.admin == Some(exchange.to)) {
        return;
    }
    let gateway = gateways.iter().find(|gateway| gateway.owns(exchange.to));
    let gateway = gateway.unwrap_or_else(|| {
        panic!(
            "{} refused a request, and nobody watches it: start it by Envoy, Live or Run, or see denials::Watched",
            exchange.to
        )
    });
    let mut state = lock(&gateway.state);
    if let Some(versions) = &mut state.versions {
        versions.glance();
    }
    state.exchanges.push(exchange);
}

fn gateways() -> Vec<Arc<Gateway>> {
    lock(&LEDGER).gateways.clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
