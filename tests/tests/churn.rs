//! Two hundred policy edits under load, with the controller killed in the middle.
//!
//! Each edit changes the name of the header that carries the client's id, so that the backend itself records which
//! generation of the policy decided each request.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    backend::{Backend, Received},
    client::{Connection, Request},
    controller::{self, Controller, Place},
    live::Live,
    manifests,
    scratch::{self, Scratch},
    stats::Stats,
    tables,
    wait::{self, PATIENCE},
};
use portcullis_engine::seal;
use serde_json::json;

const EDITS: usize = 200;
const CONNECTIONS: usize = 50;
const REQUESTS: usize = 20_000;
/// How long a worker may go on with the policy before the acknowledged one.
const GRACE: Duration = Duration::from_millis(250);
const GENERATION: &str = "x-generation-";

fn policy(generation: usize) -> String {
    let mut auth = manifests::api_key_auth("clients");
    auth["forwardClientIDHeader"] = format!("{GENERATION}{generation}").into();
    manifests::file(&[manifests::policy("orders", json!({"apiKeyAuth": auth}))])
}

fn gateway(port: u16, backend: &Backend) -> String {
    manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", "key-of-alice")]),
        manifests::route("orders", &[], "/orders", "echo"),
    ])
}

/// A request as its client saw it.
struct Sent {
    at: Instant,
    generation: usize,
}

/// Fifty clients that keep their connections until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<io::Result<Vec<Sent>>>>,
}

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || {
                let request = Request::get("shop.example.com", "/orders/1").header("x-api-key", "key-of-alice");
                let mut connection = Connection::try_open(gateway)?;
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let response = connection.try_send(&request)?;
                    count.fetch_add(1, Ordering::Relaxed);
                    if response.status != 200 {
                        return Err(io::Error::other(format!("status {}", response.status)));
                    }
                    let generation = generation_in(&response.text()).ok_or(io::ErrorKind::InvalidData)?;
                    sent.push(Sent { at, generation });
                    // A steady load that leaves the machine to Envoy.
                    thread::sleep(Duration::from_millis(40));
                }
                Ok(sent)
            })
        };
        let threads = (0..CONNECTIONS).map(client).collect();
        Self { stop, count, threads }
    }

    /// Stops the clients; a connection that was cut, or any answer but 200, is a failure.
    fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let all = self
            .threads
            .into_iter()
            .map(|thread| thread.join().expect("a client does not panic"));
        all.flat_map(|sent| sent.expect("no connection is cut and nobody is refused"))
            .collect()
    }
}

fn generation_in(headers: &str) -> Option<usize> {
    let line = headers.lines().find_map(|line| line.strip_prefix(GENERATION))?;
    line.split_once(':')?.0.parse().ok()
}

/// Watches Envoy's counter of accepted route tables.
struct Acknowledgements {
    admin: Connection,
    seen: u64,
}

impl Acknowledgements {
    fn new(admin: SocketAddr) -> Self {
        let mut admin = Connection::open(admin);
        let seen = accepted(&mut admin);
        Self { admin, seen }
    }

    /// Waits for the next one; gives the last moment at which it was not there yet, which is never too late.
    fn next(&mut self) -> Instant {
        wait::until("Envoy accepts the route table", PATIENCE, || {
            let before = Instant::now();
            let accepted = accepted(&mut self.admin);
            (accepted > self.seen).then(|| {
                assert_eq!(accepted, self.seen + 1, "one edit is one update");
                self.seen = accepted;
                before
            })
        })
    }
}

fn accepted(admin: &mut Connection) -> u64 {
    let text = admin
        .send(&Request::get("admin", "/stats?filter=rds.*update_success"))
        .text();
    Stats::parse(&text).sum("http.", ".update_success")
}

/// Counters that grow with every xDS response.
fn xds_updates(stats: &Stats) -> BTreeMap<String, u64> {
    let suffixes = [".update_success", ".update_rejected", ".config_reload"];
    let all = suffixes.iter().flat_map(|suffix| stats.matching("", suffix));
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn two_hundred_edits_under_load() {
    let backend = Backend::start();
    let port = controller::free_port();
    let files = [("gateway.yaml", gateway(port, &backend)), ("policy.yaml", policy(0))];
    let mut live = Live::start(&files, &[port]);
    let mut acknowledgements = Acknowledgements::new(live.envoy.admin());
    let start = Instant::now();
    let load = Load::start(SocketAddr::from(([127, 0, 0, 1], port)));

    let mut acknowledged = vec![start];
    for generation in 1..=EDITS {
        live.edit("policy.yaml", &policy(generation));
        acknowledged.push(acknowledgements.next());
        if generation == EDITS / 2 {
            kill_and_restart(&mut live, &load);
        }
        // The edits are spread over the requests.
        wait::until("enough requests were sent", PATIENCE, || {
            (load.count.load(Ordering::Relaxed) >= REQUESTS * generation / EDITS).then_some(())
        });
    }
    let sent = load.finish();
    assert!(sent.len() >= REQUESTS, "{} requests", sent.len());

    assert_never_late(&sent, &acknowledged);
    assert_policies_are_the_rendered_ones(&live, &backend);
    let stats = live.envoy.stats();
    live.assert_listeners_untouched();
    let connections = stats.sum("http.", ".downstream_cx_destroy_local");
    assert_eq!(
        connections - stats.get("http.admin.downstream_cx_destroy_local"),
        0,
        "Envoy cut a connection"
    );
    live.envoy.assert_running();
}

/// Nothing changes for traffic while the controller is gone, and its successor has nothing to say.
fn kill_and_restart(live: &mut Live, load: &Load) {
    live.controller.kill();
    let before = load.count.load(Ordering::Relaxed);
    wait::until("traffic goes on without the controller", PATIENCE, || {
        (load.count.load(Ordering::Relaxed) > before + 200).then_some(())
    });
    let updates = xds_updates(&live.envoy.stats());
    let place = live.controller.place().clone();
    live.controller = Controller::start(&place);
    wait::until("Envoy is connected again", PATIENCE, || {
        (live.envoy.stats().get("control_plane.connected_state") == 1).then_some(())
    });
    let before = load.count.load(Ordering::Relaxed);
    wait::until("some traffic has passed", PATIENCE, || {
        (load.count.load(Ordering::Relaxed) > before + 500).then_some(())
    });
    assert_eq!(
        xds_updates(&live.envoy.stats()),
        updates,
        "nothing that is unchanged is sent again"
    );
}

/// No request sent later than the grace after the acknowledgement of a generation was decided by the one before.
fn assert_never_late(sent: &[Sent], acknowledged: &[Instant]) {
    let mut used = BTreeSet::new();
    for request in sent {
        used.insert(request.generation);
        let due = acknowledged
            .partition_point(|at| *at + GRACE < request.at)
            .saturating_sub(1);
        assert!(
            request.generation >= due,
            "sent {:?} after the acknowledgement of {due}, decided by {}",
            request.at - acknowledged[due],
            request.generation
        );
    }
    assert!(
        used.len() > EDITS * 9 / 10,
        "the load saw the edits: {} generations",
        used.len()
    );
}

/// What the backend received was sealed with exactly the policy that its generation renders to.
fn assert_policies_are_the_rendered_ones(live: &Live, backend: &Backend) {
    let rendered = rendered(live);
    let sealed: BTreeMap<String, String> = wait::until("the access log is complete", PATIENCE, || {
        let entries = live.envoy.entries();
        let pairs = entries
            .iter()
            .filter_map(|entry| Some((entry.get("request_id")?, entry.get("h")?)));
        Some(pairs.collect::<BTreeMap<_, _>>()).filter(|sealed| sealed.len() >= backend.count())
    });
    for received in backend.received() {
        let generation = generation_of(&received).expect("the backend sees a generation");
        let id = received.header("x-request-id").expect("Envoy numbers requests");
        assert_eq!(sealed.get(&id), Some(&rendered[generation]), "generation {generation}");
    }
}

fn generation_of(received: &Received) -> Option<usize> {
    let names: Vec<usize> = received
        .headers
        .iter()
        .filter_map(|(name, _)| name.strip_prefix(GENERATION)?.parse().ok())
        .collect();
    assert!(names.len() <= 1, "one policy decides a request: {names:?}");
    names.first().copied()
}

/// The hash of each generation's policy: what `render` prints for the first one with the name of its header exchanged,
/// held against `render` itself for some.
fn rendered(live: &Live) -> Vec<String> {
    let policy_of = |generation: usize| {
        live.edit("policy.yaml", &policy(generation));
        let mut snippet = live.snippet();
        let hash = tables::hash(tables::route(&mut snippet, "/orders"));
        let (document, secrets) = tables::delivered(&mut snippet, &hash);
        (hash, document, secrets)
    };
    let (_, document, secrets) = policy_of(0);
    let name = |generation: usize| format!("\"{GENERATION}{generation}\"");
    assert!(document.contains(&name(0)), "{document}");
    let derived = |generation: usize| {
        seal::hash(
            document.replace(&name(0), &name(generation)).as_bytes(),
            secrets.as_bytes(),
        )
    };
    for generation in [0, 1, EDITS / 2, EDITS] {
        assert_eq!(derived(generation), policy_of(generation).0, "generation {generation}");
    }
    (0..=EDITS).map(derived).collect()
}

#[test]
fn render_names_policies_as_run_does() {
    // What the comparison above rests on, by itself: the same state gives the same names, another state others.
    let backend = Backend::start();
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    scratch::write(&folder.join("all.yaml"), &(gateway(18080, &backend) + &policy(0)));
    let hashes = |state: &Scratch| tables::hashes(&Place::new(state, &folder).snippet(state));
    let other = Scratch::new();
    assert_eq!(hashes(&scratch), hashes(&scratch));
    assert!(
        hashes(&scratch).iter().all(|hash| !hashes(&other).contains(hash)),
        "another key, other names"
    );
}
