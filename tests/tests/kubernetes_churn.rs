//! Controllers of a real API server that are killed again and again, while policies, keys and routes change and requests come.
//!
//! Every version of a key and of a policy can be told from all others by the answer: a key is another one in each version, and a
//! policy tells the backend its generation. So each answer says what it was decided by.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    api::{self, Api},
    backend::Backend,
    client::{self, Connection, Request},
    cluster::Cluster,
    controller::free_port,
    envoy::Envoy,
    manifests,
    replica::Replica,
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

const OURS: &str = "portcullis.dev/gateway-controller";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const POLICIES: &str = "/apis/gateway.envoyproxy.io/v1alpha1/namespaces/shop/securitypolicies";
const GENERATION: &str = "x-generation-";
/// Routes that are there all the time, each with a policy and a Secret of its own.
const ROUTES: usize = 6;
/// How many of the routes that come and go are there at a time.
const GUESTS: usize = 8;
/// How often a controller is killed.
const KILLS: u64 = 4;
/// How long one worker of Envoy may go on with what another one has left behind.
const GRACE: Duration = Duration::from_millis(250);
/// What a replica has reported counts for 30 s, and its Lease for 15 s, whatever becomes of it.
const CONVERGENCE: Duration = Duration::from_secs(60);

fn name(route: usize) -> String {
    format!("r{route}")
}

fn key(route: usize, version: usize) -> String {
    format!("key-{version}-of-{route}")
}

fn secret(route: usize, version: usize) -> Value {
    manifests::secret("shop", &name(route), &[("alice", &key(route, version))])
}

fn policy(route: usize, generation: usize) -> Value {
    let mut auth = manifests::api_key_auth(&name(route));
    auth["forwardClientIDHeader"] = format!("{GENERATION}{generation}").into();
    manifests::policy(&name(route), json!({"apiKeyAuth": auth}))
}

fn route(name: &str) -> Value {
    manifests::route(name, &[&host(name)], "/", "echo")
}

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

/// The policy of a route that comes and goes: the key of `r0`'s first version, which a Secret of its own has.
fn guest(name: &str) -> Value {
    manifests::policy(name, json!({"apiKeyAuth": manifests::api_key_auth("guests")}))
}

/// What was written of one route, and what of it was seen in force.
#[derive(Debug, Default)]
struct Written {
    /// When the write of each version of its key began.
    keys: Vec<Instant>,
    /// When the write of each generation of its policy began.
    generations: Vec<Instant>,
    /// When an answer that each version, or a later one, had decided was there at last: key and generation.
    seen: [Vec<(usize, Instant)>; 2],
}

/// The test's own knowledge, by which answers are judged.
#[derive(Debug, Default)]
struct Ledger {
    routes: Vec<Mutex<Written>>,
    /// The latest routes that came, those that have gone since included.
    guests: Mutex<VecDeque<String>>,
    stop: AtomicBool,
    admitted: AtomicUsize,
    refused: AtomicUsize,
}

/// How a request for a route shows itself.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nothing,
    /// A key that no Secret ever had.
    Never,
    Key(usize),
}

impl Ledger {
    fn new() -> Self {
        Self {
            routes: (0..ROUTES).map(|_| Mutex::default()).collect(),
            ..Self::default()
        }
    }

    fn route(&self, route: usize) -> MutexGuard<'_, Written> {
        lock(&self.routes[route])
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Sends one request and judges its answer.
    fn judge(&self, connection: &mut Connection, route: usize, shown: Shown) {
        let request = Request::get(&host(&name(route)), "/");
        let request = match shown {
            Shown::Nothing => request,
            Shown::Never => request.header("x-api-key", format!("key-of-{route}")),
            Shown::Key(version) => request.header("x-api-key", key(route, version)),
        };
        let sent = Instant::now();
        let response = connection.send(&request);
        let answered = Instant::now();
        let what = format!("route {route}, {shown:?}");
        if response.status != 200 {
            assert_eq!(response.status, 401, "{what}");
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Shown::Key(version) = shown else {
            panic!("{what}: admitted");
        };
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let generation = generation_in(&response.text()).unwrap_or_else(|| panic!("{what}: the policy is not told"));
        let mut written = self.route(route);
        let Written {
            keys,
            generations,
            seen: [seen_keys, seen_generations],
        } = &mut *written;
        for (what_of, number, begun, seen) in [
            ("key", version, keys, seen_keys),
            ("generation", generation, generations, seen_generations),
        ] {
            let what = format!("{what}: {what_of} {number}");
            let begun = begun.get(number);
            assert!(
                begun.is_some_and(|begun| *begun <= answered),
                "{what} was never applied"
            );
            let later = seen.iter().find(|(later, at)| *later > number && *at + GRACE < sent);
            if let Some((later, at)) = later {
                panic!("{what} decides {:?} after {later} was in force", sent - *at);
            }
            // One entry a number, from the lowest on: the first answer by each counts.
            if seen.last().is_none_or(|(last, _)| *last < number) {
                seen.push((number, answered));
            }
        }
    }

    /// Asks for one route in all ways, one after the other.
    fn load(&self, gateway: SocketAddr, route: usize) {
        let mut connection = Connection::open(gateway);
        let mut turn = 0_usize;
        while self.goes_on() {
            let last = self.route(route).keys.len() - 1;
            let shown = match turn % 6 {
                0 => Shown::Nothing,
                1 => Shown::Never,
                // Not written yet, or at this moment.
                2 => Shown::Key(last + 1),
                3 => Shown::Key(last.saturating_sub(1 + turn / 6 % 5)),
                _ => Shown::Key(last),
            };
            self.judge(&mut connection, route, shown);
            turn += 1;
            thread::sleep(Duration::from_millis(8));
        }
    }

    /// Asks for the routes that come and go, without showing anything.
    fn knock(&self, gateway: SocketAddr) {
        let mut connection = Connection::open(gateway);
        while self.goes_on() {
            let guests = lock(&self.guests).clone();
            for name in guests {
                let status = connection.send(&Request::get(&host(&name), "/")).status;
                assert!([401, 404].contains(&status), "{name}: {status} without a key");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Changes everything, one write after the other.
    fn churn(&self, cluster: &Cluster) {
        let mut api = Api::new(cluster);
        let mut turn = 0;
        while self.goes_on() {
            let route = turn % ROUTES;
            self.write_key(&mut api, route);
            self.write_policy(&mut api, (route + ROUTES / 2) % ROUTES);
            self.exchange_guests(&mut api, turn);
            turn += 1;
            thread::sleep(Duration::from_millis(15));
        }
    }

    fn write_key(&self, api: &mut Api, route: usize) {
        let version = begin(&mut self.route(route).keys);
        let _ = api.apply(&secret(route, version)).object();
    }

    fn write_policy(&self, api: &mut Api, route: usize) {
        let generation = begin(&mut self.route(route).generations);
        let _ = api.apply(&policy(route, generation)).object();
    }

    /// One comes, its policy first, and one goes, its policy last: no route is ever without.
    fn exchange_guests(&self, api: &mut Api, number: usize) {
        let name = format!("guest-{number}");
        let gone = {
            let mut guests = lock(&self.guests);
            guests.push_back(name.clone());
            if guests.len() > GUESTS * 2 {
                guests.pop_front();
            }
            let gone = guests.len().checked_sub(GUESTS + 1);
            gone.map(|index| guests[index].clone())
        };
        for object in [guest(&name), self::route(&name)] {
            let _ = api.apply(&object).object();
        }
        for object in gone.iter().flat_map(|gone| [self::route(gone), guest(gone)]) {
            let _ = api.delete(&api::path(&object)).object();
        }
    }

    /// Waits until what is written from now on is in force: the controllers follow again.
    fn until_followed(&self) {
        for route in 0..ROUTES {
            let next = self.route(route).generations.len();
            wait::until("a policy that was written now is in force", PATIENCE, || {
                let written = self.route(route);
                let last = written.seen[1].last().map(|(number, _)| *number);
                last.is_some_and(|last| last >= next).then_some(())
            });
        }
    }

    /// Nothing changes any more: each route knows its last key and no other one.
    fn assert_settled(&self, gateway: SocketAddr) {
        let status = |host: &str, key: &str| {
            let request = Request::get(host, "/").header("x-api-key", key);
            client::once(gateway, &request).status
        };
        for route in 0..ROUTES {
            let (keys, host) = (self.route(route).keys.len(), host(&name(route)));
            wait::until("the last key is in force", PATIENCE, || {
                (status(&host, &key(route, keys - 1)) == 200).then_some(())
            });
            for version in 0..keys - 1 {
                assert_eq!(status(&host, &key(route, version)), 401, "key {version} of {keys}");
            }
            assert_eq!(client::once(gateway, &Request::get(&host, "/")).status, 401);
        }
        let guests = lock(&self.guests).clone();
        for (index, name) in guests.iter().rev().enumerate() {
            let here = index < GUESTS;
            wait::until("who came is there, and who went is gone", PATIENCE, || {
                (status(&host(name), "key-of-guests") == if here { 200 } else { 404 }).then_some(())
            });
        }
    }
}

fn begin(begun: &mut Vec<Instant>) -> usize {
    begun.push(Instant::now());
    begun.len() - 1
}

fn generation_in(headers: &str) -> Option<usize> {
    let line = headers.lines().find_map(|line| line.strip_prefix(GENERATION))?;
    line.split_once(':')?.0.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One failure is told, and not that others cannot go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cluster with all routes and no controller.
struct Place {
    cluster: Cluster,
    gateway: SocketAddr,
    manifests: String,
    ledger: Ledger,
}

impl Place {
    fn new() -> Self {
        let (backend, port, ledger) = (Backend::start(), free_port(), Ledger::new());
        let cluster = Cluster::installed("standard");
        let mut api = Api::new(&cluster);
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let common = [
            manifests::gateway_class(),
            manifests::gateway(&[manifests::http_listener("http", port, None)]),
            manifests::backend("echo", backend.address()),
        ];
        let guests = manifests::secret("shop", "guests", &[("guest", "key-of-guests")]);
        let first = [namespace("edge"), namespace("shop"), guests];
        for object in first.iter().chain(&common) {
            let _ = api.apply(object).object();
        }
        for route in 0..ROUTES {
            ledger.write_key(&mut api, route);
            ledger.write_policy(&mut api, route);
            let _ = api.apply(&self::route(&name(route))).object();
        }
        Self {
            cluster,
            gateway: SocketAddr::from(([127, 0, 0, 1], port)),
            manifests: manifests::file(&common),
            ledger,
        }
    }

    /// Waits until the first configuration is there, then disturbs the controllers under load.
    fn under_load(&self, disturb: impl FnOnce()) {
        let ledger = &self.ledger;
        for route in 0..ROUTES {
            let request = Request::get(&host(&name(route)), "/").header("x-api-key", key(route, 0));
            wait::until("the route is there", PATIENCE, || {
                let answer = Connection::try_open(self.gateway).ok()?.try_send(&request);
                (answer.ok()?.status == 200).then_some(())
            });
        }
        thread::scope(|scope| {
            let mut threads = vec![
                scope.spawn(|| ledger.churn(&self.cluster)),
                scope.spawn(|| ledger.knock(self.gateway)),
            ];
            threads.extend((0..ROUTES).map(|route| scope.spawn(move || ledger.load(self.gateway, route))));
            let ended = Ended(&ledger.stop);
            disturb();
            drop(ended);
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        let (admitted, refused) = (&ledger.admitted, &ledger.refused);
        let (admitted, refused) = (admitted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
        println!("{admitted} requests admitted, {refused} refused");
        assert!(admitted > 300 && refused > 300, "the load was one");
        let written: usize = (0..ROUTES).map(|route| ledger.route(route).generations.len()).sum();
        assert!(written > 10 * ROUTES, "the churn was one");
    }

    fn holder(&self) -> String {
        let leases = Api::new(&self.cluster).list(LEASES);
        let holder = leases
            .first()
            .and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        holder.unwrap_or_default().to_owned()
    }

    /// Every policy is accepted and enforced in its last generation, as the holder of the Lease tells, who is not the first one.
    fn assert_converged(&self, first_holder: &str) {
        self.ledger.assert_settled(self.gateway);
        let mut api = Api::new(&self.cluster);
        let mut untold = Vec::new();
        let deadline = Instant::now() + CONVERGENCE;
        while Instant::now() < deadline {
            let policies = api.list(POLICIES);
            assert_eq!(policies.len(), ROUTES + GUESTS);
            untold = policies.into_iter().filter(|policy| !is_told(policy)).collect();
            if untold.is_empty() {
                let holder = self.holder();
                assert!(
                    !holder.is_empty() && holder != first_holder,
                    "{first_holder}, then {holder}"
                );
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{} policies, one of them: {:#}", untold.len(), untold[0]);
    }
}

/// Ends the load even if the test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_told(policy: &Value) -> bool {
    let ancestors = policy["status"]["ancestors"].as_array();
    let own = ancestors
        .into_iter()
        .flatten()
        .find(|entry| entry["controllerName"] == OURS);
    let conditions = own.and_then(|own| own["conditions"].as_array());
    ["Accepted", "Enforced"].iter().all(|kind| {
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| {
            condition["type"] == *kind
                && condition["status"] == "True"
                && condition["observedGeneration"] == policy["metadata"]["generation"]
        })
    })
}

/// Both at once: most of the time is spent waiting until nobody counts on a replica that is gone.
#[test]
fn controllers_that_are_killed_again_and_again_let_nobody_in_and_come_back() {
    thread::scope(|scope| {
        let two = scope.spawn(either_of_two_is_killed);
        the_only_one_is_killed();
        if let Err(panic) = two.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn the_only_one_is_killed() {
    let place = Place::new();
    let mut replica = Replica::ready(&place.cluster, "one");
    let mut envoy: Envoy = replica.envoy(&place.manifests, |_| ());
    let holder = wait::until("it leads", PATIENCE, || {
        Some(place.holder()).filter(|holder| !holder.is_empty())
    });
    place.under_load(|| {
        for kill in 0..KILLS {
            place.ledger.until_followed();
            // At another moment of its work each time.
            thread::sleep(Duration::from_millis(100 + 37 * kill));
            replica.kill();
            thread::sleep(Duration::from_millis(300));
            replica.restart(&place.cluster);
        }
        replica.until_ready();
        place.ledger.until_followed();
    });
    place.assert_converged(&holder);
    envoy.assert_running();
}

fn either_of_two_is_killed() {
    let place = Place::new();
    let mut replicas = [
        Replica::ready(&place.cluster, "first"),
        Replica::ready(&place.cluster, "second"),
    ];
    let other = replicas[1].socket();
    let mut envoy = replicas[0].envoy(&place.manifests, |bootstrap| also_at(bootstrap, &other));
    let holder = wait::until("one of them leads", PATIENCE, || {
        Some(place.holder()).filter(|holder| !holder.is_empty())
    });
    place.under_load(|| {
        for kill in 0..KILLS {
            place.ledger.until_followed();
            thread::sleep(Duration::from_millis(100 + 37 * kill));
            let killed = &mut replicas[usize::from(kill % 2 == 1)];
            killed.kill();
            // The other one goes on.
            place.ledger.until_followed();
            killed.restart(&place.cluster);
            killed.until_ready();
        }
        place.ledger.until_followed();
    });
    place.assert_converged(&holder);
    envoy.assert_running();
}

/// Makes known to an Envoy that another controller listens on this socket.
fn also_at(bootstrap: &mut Value, socket: &std::path::Path) {
    let clusters = bootstrap["static_resources"]["clusters"]
        .as_array_mut()
        .expect("clusters");
    let endpoints = clusters
        .iter_mut()
        .filter_map(|cluster| {
            cluster
                .pointer_mut("/load_assignment/endpoints/0/lb_endpoints")?
                .as_array_mut()
        })
        .find(|endpoints| endpoints[0].pointer("/endpoint/address/pipe").is_some())
        .expect("a controller on a socket");
    let mut second = endpoints[0].clone();
    second["endpoint"]["address"]["pipe"]["path"] = socket.to_str().expect("the path is a text").into();
    endpoints.push(second);
}
