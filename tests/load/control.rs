//! What the controller costs: a thousand routes, each with its own policy, from a folder to Envoy.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use portcullis_e2e::{
    client::{Connection, Request},
    controller::{self, Controller, Place},
    envoy::Envoy,
    manifests,
    scratch::{self, Scratch},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

use crate::{
    load::cpu_nanoseconds,
    spread::{Spread, percentile},
};

/// Routes of one hostname.
const ROUTES_OF_A_HOST: usize = 10;
/// How often an edit is looked for: the measured times are at most this much too long.
const GLANCE: Duration = Duration::from_micros(500);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Control {
    routes: usize,
    edits: usize,
    starts: Vec<Start>,
    live: Vec<f64>,
    /// Processor time of one edit, milliseconds: the controller's and Envoy's.
    cpu: [f64; 2],
    controller_rss: u64,
    envoy_rss: u64,
    empty_envoy_rss: u64,
}

/// One start, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// From the controller's start until it serves.
    ready: f64,
    /// From Envoy's start until the last route is guarded, Envoy's own start included.
    pushed: f64,
    /// Envoy's own start: until its admin interface answers.
    envoy: f64,
}

/// Measures `starts` starts and then `edits` edits.
pub(crate) fn measure(routes: usize, starts: usize, edits: usize, upstream: SocketAddr) -> Control {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    let port = controller::free_port();
    scratch::write(&folder.join("gateway.yaml"), &manifests::file(&common(port, upstream)));
    let write =
        |route: usize, action: &str| scratch::write(&file(&scratch, route), &manifests::file(&one(route, action)));
    for route in 0..routes {
        write(route, "Allow");
    }
    let place = Place::new(&scratch, &folder);
    let mut all = Vec::new();
    let mut running = None;
    for _ in 0..starts {
        drop(running.take());
        let (start, pair) = self::start(&place, port, routes);
        all.push(start);
        running = Some(pair);
    }
    let (controller, envoy) = running.expect("there is at least one start");
    let pids = [controller.pid(), envoy.pid()];
    let before = pids.map(cpu_nanoseconds);
    let live = self::edits(port, routes, edits, write);
    let after = pids.map(cpu_nanoseconds);
    #[expect(clippy::cast_precision_loss, reason = "some hundred edits")]
    let cpu = [0, 1].map(|program| (after[program] - before[program]) / 1_000_000.0 / edits as f64);
    Control {
        routes,
        edits,
        starts: all,
        live,
        cpu,
        controller_rss: rss(controller.pid()),
        envoy_rss: rss(envoy.pid()),
        empty_envoy_rss: empty_envoy(),
    }
}

fn start(place: &Place, port: u16, routes: usize) -> (Start, (Controller, Envoy)) {
    let bootstrap = place.bootstrap();
    let begin = Instant::now();
    let controller = Controller::start(place);
    let ready = milliseconds(begin);
    let (pushed, admin, envoy) = guard(&bootstrap, port, routes);
    let start = Start {
        ready,
        pushed,
        envoy: admin,
    };
    (start, (controller, envoy))
}

/// Starts an Envoy; the milliseconds until it guards the last route, those of its own start alone, and the Envoy.
pub(crate) fn guard(bootstrap: &Value, port: u16, routes: usize) -> (f64, f64, Envoy) {
    let begin = Instant::now();
    let folder = Scratch::new();
    let envoy = Envoy::launch(&folder, bootstrap, 2).unwatched();
    let admin = milliseconds(begin);
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    let last = request(routes - 1);
    wait::until("the last route is there", PATIENCE, || {
        let mut connection = Connection::try_open(gateway).ok()?;
        (connection.try_send(&last).ok()?.status == 200).then_some(())
    });
    let guarded = milliseconds(begin);
    // Without a key nobody gets in: what is measured is a guarded route.
    let mut connection = Connection::open(gateway);
    let (host, path) = address(routes - 1);
    assert_eq!(
        connection.send(&Request::get(&host, &path)).status,
        401,
        "the last route is guarded"
    );
    (guarded, admin, envoy)
}

/// Edits one policy after the other; gives the time until Envoy's answer is the new one, milliseconds, sorted. `write` makes the
/// policy of a route allow (`Allow`) or refuse (`Deny`).
pub(crate) fn edits(port: u16, routes: usize, edits: usize, mut write: impl FnMut(usize, &str)) -> Vec<f64> {
    let mut connection = Connection::open(SocketAddr::from(([127, 0, 0, 1], port)));
    let mut times: Vec<f64> = (0..edits)
        .map(|edit| {
            eprint!("\redit {} of {edits}", edit + 1);
            // Far from each other, and every route twice: there and back.
            let (route, action, status) = match edit % 2 {
                0 => (edit / 2 * 37 % routes, "Deny", 403),
                _ => (edit / 2 * 37 % routes, "Allow", 200),
            };
            let request = request(route);
            let begin = Instant::now();
            write(route, action);
            loop {
                if connection.send(&request).status == status {
                    break;
                }
                assert!(
                    begin.elapsed() < PATIENCE,
                    "the edit of route {route} is not live after {PATIENCE:?}"
                );
                std::thread::sleep(GLANCE);
            }
            let time = milliseconds(begin);
            // The next edit is one of its own, not one that is debounced with this one.
            std::thread::sleep(Duration::from_millis(100));
            time
        })
        .collect();
    eprintln!();
    times.sort_by(f64::total_cmp);
    times
}

/// The time since then.
pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn request(route: usize) -> Request {
    let (host, path) = address(route);
    Request::get(&host, &path).header("x-api-key", format!("key-of-client-{route}"))
}

fn address(route: usize) -> (String, String) {
    (
        format!("host-{}.example.com", route / ROUTES_OF_A_HOST),
        format!("/route-{route}"),
    )
}

fn file(scratch: &Scratch, route: usize) -> std::path::PathBuf {
    scratch.join(&format!("manifests/route-{route:04}.yaml"))
}

/// What all routes share.
pub(crate) fn common(port: u16, upstream: SocketAddr) -> [Value; 3] {
    [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("upstream", upstream),
    ]
}

/// A route, its keys, and its policy, which allows or refuses those that have one.
pub(crate) fn one(route: usize, action: &str) -> [Value; 3] {
    let name = format!("route-{route}");
    let (host, path) = address(route);
    let key = format!("key-of-client-{route}");
    let spec = json!({
        "cors": {"allowOrigins": [format!("https://{host}")], "allowMethods": ["GET", "POST"], "maxAge": "10m"},
        "apiKeyAuth": manifests::api_key_auth(&name),
        "authorization": {"defaultAction": "Deny", "rules": [
            {"name": "office", "action": action, "principal": {"clientCIDRs": ["127.0.0.0/8", format!("10.{}.{}.0/24", route / 256, route % 256)]}},
        ]},
    });
    [
        manifests::route(&name, &[&host], &path, "upstream"),
        manifests::secret("shop", &name, &[("client", &key)]),
        manifests::policy(&name, spec),
    ]
}

/// What an Envoy of the same chain takes without a single route.
fn empty_envoy() -> u64 {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    let port = controller::free_port();
    let upstream = SocketAddr::from(([127, 0, 0, 1], 9));
    scratch::write(&folder.join("gateway.yaml"), &manifests::file(&common(port, upstream)));
    let place = Place::new(&scratch, &folder);
    let _controller = Controller::start(&place);
    let envoy = Envoy::start(&scratch, &place.bootstrap()).unwatched();
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    wait::until("the gateway's port is open", PATIENCE, || {
        let answer = Connection::try_open(gateway)
            .ok()?
            .try_send(&Request::get("host", "/"))
            .ok()?;
        (answer.status == 404).then_some(())
    });
    rss(envoy.pid())
}

/// Resident memory, bytes.
fn rss(pid: u32) -> u64 {
    memory(pid, "VmRSS")
}

/// One of the kernel's measures of a program's memory, bytes.
pub(crate) fn memory(pid: u32, measure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the program runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(measure)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.expect("the kernel tells the memory") * 1024
}

/// What a part of a start is called, and how long it took.
type Phase = (&'static str, fn(&Start) -> f64);

impl Control {
    /// Prints what was measured.
    pub(crate) fn print(&self) {
        println!("\n{} routes, each with its own policy, file and keys\n", self.routes);
        println!("{:<52} {:>9} {:>9} {:>9}", "milliseconds", "min", "median", "max");
        for (title, pick) in Self::PHASES {
            let Spread { min, median, max } = self.phase(*pick);
            println!("{title:<52} {min:>9.0} {median:>9.0} {max:>9.0}");
        }
        println!(
            "{:<52} {:>9} {:>9} {:>9}",
            format!("one edit to Envoy's new answer ({} edits)", self.edits),
            "p50",
            "p99",
            "max"
        );
        let [p50, p99, max] = self.live();
        println!("{:<52} {p50:>9.0} {p99:>9.0} {max:>9.0}", "");
        println!(
            "processor time of one edit, milliseconds: controller {:.1}, Envoy {:.1}",
            self.cpu[0], self.cpu[1]
        );
        println!(
            "\nresident memory, MB: controller {:.0}, Envoy {:.0} (without a route {:.0})",
            megabytes(self.controller_rss),
            megabytes(self.envoy_rss),
            megabytes(self.empty_envoy_rss)
        );
        if p99 > BUDGET {
            println!("over the budget of {BUDGET} ms for 99 of 100 edits");
        }
    }

    /// What goes into the summary.
    pub(crate) fn json(&self) -> Value {
        let [p50, p99, max] = self.live();
        json!({
            "routes": self.routes,
            "start_ms": Self::PHASES.iter().map(|(title, pick)| ((*title).to_owned(), self.phase(*pick).json())).collect::<serde_json::Map<_, _>>(),
            "edit_ms": {"edits": self.edits, "p50": p50.round(), "p99": p99.round(), "max": max.round(),
                "cpu_controller": self.cpu[0], "cpu_envoy": self.cpu[1]},
            "rss_mb": {
                "controller": megabytes(self.controller_rss).round(),
                "envoy": megabytes(self.envoy_rss).round(),
                "envoy_without_routes": megabytes(self.empty_envoy_rss).round(),
            },
        })
    }

    const PHASES: &'static [Phase] = &[
        ("controller: start until it serves", |start| start.ready),
        ("Envoy: start until the last route is guarded", |start| start.pushed),
        ("  of it Envoy's own start", |start| start.envoy),
        ("start to first full push, both started in turn", |start| {
            start.ready + start.pushed
        }),
    ];

    fn phase(&self, pick: fn(&Start) -> f64) -> Spread {
        Spread::of(self.starts.iter().map(pick).collect())
    }

    fn live(&self) -> [f64; 3] {
        [0.5, 0.99, 1.0].map(|share| percentile(&self.live, share))
    }
}

/// The goal for 99 of 100 edits, milliseconds.
const BUDGET: f64 = 100.0;

/// Bytes as MB.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / 1_048_576.0
}
