//! What the controller costs in a cluster: a thousand routes, each with its own policy and Secret, from an API server to Envoy.

use std::{fs, net::SocketAddr, time::Instant};

use portcullis_e2e::{
    api::{self, Api},
    artefacts,
    cluster::Cluster,
    controller,
    envoy::Envoy,
    manifests,
    replica::Replica,
    wait,
};
use serde_json::{Value, json};

use crate::{
    control::{self, megabytes, milliseconds},
    load::cpu_nanoseconds,
    spread::{Spread, percentile},
};

/// The goal for 99 of 100 edits, milliseconds.
const BUDGET: f64 = 150.0;
/// Between these lines `docs/performance.md` has what was measured last.
const MARKS: [&str; 2] = ["<!-- make bench-scale -->", "<!-- end of make bench-scale -->"];
/// The shares of all edits that are told.
const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// What was measured.
#[derive(Debug)]
pub(crate) struct InCluster {
    routes: usize,
    edits: usize,
    /// From the controller's start until it is ready, milliseconds.
    ready: Vec<f64>,
    /// From Envoy's start until the last route is guarded, its own start included, milliseconds.
    guarded: Vec<f64>,
    /// From the request to the API server until Envoy answers anew, milliseconds, sorted.
    live: Vec<f64>,
    /// From the request to the API server until its answer, milliseconds, sorted.
    stored: Vec<f64>,
    /// Processor time of one edit, milliseconds: the controller's and Envoy's.
    cpu: [f64; 2],
    /// What one edit took by the controller's own measures, milliseconds: its evaluation, and until Envoy held it.
    parts: [f64; 2],
    /// Of the controller, bytes: resident at the end, and at most.
    memory: [u64; 2],
}

/// Measures `starts` starts and then `edits` edits.
pub(crate) fn measure(routes: usize, starts: usize, edits: usize, upstream: SocketAddr) -> InCluster {
    let cluster = Cluster::installed("standard");
    let mut api = Api::new(&cluster);
    let port = controller::free_port();
    let common = control::common(port, upstream);
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let all = [namespace("edge"), namespace("shop")].into_iter().chain(common.clone());
    for object in all.chain((0..routes).flat_map(|route| control::one(route, "Allow"))) {
        let _ = api.create(&object).object();
    }
    let manifests = manifests::file(&common);
    let (mut ready, mut guarded) = (Vec::new(), Vec::new());
    let mut running: Option<(Replica, Envoy)> = None;
    for _ in 0..starts {
        if let Some((mut replica, _envoy)) = running.take() {
            replica.stop();
        }
        let begin = Instant::now();
        let replica = Replica::ready(&cluster, "bench");
        ready.push(milliseconds(begin));
        let (until, _, envoy) = control::guard(&replica.bootstrap(&manifests), port, routes);
        guarded.push(until);
        running = Some((replica, envoy));
    }
    let (replica, envoy) = running.expect("there is at least one start");
    until_told(&replica, routes);
    let pids = [replica.pid(), envoy.pid()];
    let before = (pids.map(cpu_nanoseconds), Sums::of(&replica));
    let mut stored = Vec::new();
    let live = control::edits(port, routes, edits, |route, action| {
        let [_, _, policy] = control::one(route, action);
        let patch = json!({"spec": {"authorization": policy["spec"]["authorization"]}});
        let begin = Instant::now();
        let _ = api.merge(&api::path(&policy), &patch).object();
        stored.push(milliseconds(begin));
    });
    let after = (pids.map(cpu_nanoseconds), Sums::of(&replica));
    stored.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "some hundred edits")]
    let cpu = [0, 1].map(|program| (after.0[program] - before.0[program]) / 1_000_000.0 / edits as f64);
    InCluster {
        routes,
        edits,
        ready,
        guarded,
        live,
        stored,
        cpu,
        parts: after.1.since(&before.1),
        memory: ["VmRSS", "VmHWM"].map(|measure| control::memory(pids[0], measure)),
    }
}

/// Waits until the statuses of all policies are written: a start has thousands to write, and an edit a few.
fn until_told(replica: &Replica, routes: usize) {
    let enforced = format!("portcullis_policies{{state=\"enforced\"}} {routes}\n");
    let written = || metric(replica, "portcullis_status_writes_total{result=\"written\"}");
    let mut last = (Instant::now(), 0.0);
    wait::until("all statuses are written", portcullis_e2e::cluster::PATIENCE, || {
        if !replica.get("/metrics").1.contains(&enforced) {
            return None;
        }
        let written = written();
        if (written - last.1).abs() > f64::EPSILON {
            last = (Instant::now(), written);
        }
        (last.0.elapsed().as_secs() >= 5).then_some(())
    });
}

fn metric(replica: &Replica, name: &str) -> f64 {
    let metrics = replica.get("/metrics").1;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// What the controller has measured of its own work since its start: times in seconds, and how many.
#[derive(Clone, Copy, Debug)]
struct Sums([(f64, f64); 2]);

impl Sums {
    fn of(replica: &Replica) -> Self {
        Self(["reconcile", "push"].map(|part| {
            let of = |what: &str| metric(replica, &format!("portcullis_{part}_seconds_{what}"));
            (of("sum"), of("count"))
        }))
    }

    /// The means of what came since, milliseconds.
    fn since(self, before: &Self) -> [f64; 2] {
        [0, 1].map(|part| {
            let (sum, count) = self.0[part];
            let (former_sum, former_count) = before.0[part];
            (sum - former_sum) / (count - former_count).max(1.0) * 1_000.0
        })
    }
}

impl InCluster {
    /// Prints what was measured.
    pub(crate) fn print(&self) {
        println!("\nin a cluster:\n\n{}", self.tables());
        let [_, _, p99, _] = shares(&self.live);
        if p99 > BUDGET {
            println!("over the budget of {BUDGET} ms for 99 of 100 edits");
        }
    }

    /// Keeps it in `docs/performance.md`, between the marks.
    pub(crate) fn keep(&self) {
        let file = artefacts::root().join("docs/performance.md");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let [begin, end] = MARKS;
        let parts = text.split_once(begin).zip(text.split_once(end));
        let ((before, _), (_, after)) = parts.unwrap_or_else(|| panic!("{}: no {begin} and {end}", file.display()));
        let text = format!("{before}{begin}\n{}\n{end}{after}", self.tables());
        fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        println!("\nkept in {}", file.display());
    }

    /// What goes into the summary.
    pub(crate) fn json(&self) -> Value {
        let named = |sorted: &[f64]| {
            let [p50, p90, p99, max] = shares(sorted).map(f64::round);
            json!({"p50": p50, "p90": p90, "p99": p99, "max": max})
        };
        json!({
            "routes": self.routes,
            "start_ms": {"ready": Spread::of(self.ready.clone()).json(), "guarded": Spread::of(self.guarded.clone()).json()},
            "edits": self.edits,
            "edit_ms": named(&self.live),
            "stored_ms": named(&self.stored),
            "mean_ms": {"evaluated": self.parts[0], "held": self.parts[1]},
            "cpu_ms": {"controller": self.cpu[0], "envoy": self.cpu[1]},
            "memory_mb": {"resident": megabytes(self.memory[0]).round(), "most": megabytes(self.memory[1]).round()},
        })
    }

    /// Two tables of Markdown.
    fn tables(&self) -> String {
        let row = |title: &str, sorted: &[f64]| {
            let [p50, p90, p99, max] = shares(sorted);
            format!("| {title} | {p50:.0} | {p90:.0} | {p99:.0} | {max:.0} |\n")
        };
        let spread = |title: &str, values: &[f64]| {
            let Spread { min, median, max } = Spread::of(values.to_vec());
            format!("| {title} | {min:.0} | {median:.0} | {max:.0} |\n")
        };
        let both: Vec<f64> = self
            .ready
            .iter()
            .zip(&self.guarded)
            .map(|(ready, guarded)| ready + guarded)
            .collect();
        let [evaluated, held] = self.parts;
        let [controller, envoy] = self.cpu;
        let [resident, most] = self.memory.map(megabytes);
        format!(
            "| {} edits, ms | median | 90 % | 99 % | max |\n| --- | --- | --- | --- | --- |\n{}{}\n\
             | {} starts, ms | min | median | max |\n| --- | --- | --- | --- |\n{}{}{}\n\
             Of one edit, on average: {evaluated:.0} ms until it was evaluated and published, {held:.0} ms more until Envoy held it; \
             processor time {controller:.0} ms of the controller and {envoy:.0} ms of Envoy. \
             The controller's resident memory: {resident:.0} MB, {most:.0} MB at most.",
            self.edits,
            row(
                "from the request to the API server until Envoy answers anew",
                &self.live
            ),
            row("of it until the API server has answered", &self.stored),
            self.ready.len(),
            spread("controller: start until it is ready", &self.ready),
            spread(
                "Envoy, started then: start until the last route is guarded",
                &self.guarded
            ),
            spread("both in turn", &both),
        )
    }
}

fn shares(sorted: &[f64]) -> [f64; 4] {
    SHARES.map(|share| percentile(sorted, share))
}
