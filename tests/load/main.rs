//! What a decision costs: the same requests through the same Envoy configuration with no filter, with Envoy's own filters
//! in Envoy Gateway's order, and with Portcullis; interleaved, so that the machine's noise falls on all alike. And what
//! the controller costs with a thousand routes, in a folder or, as a part of its own (`BENCH_PART=cluster`), in a cluster.
//!
//! Prints tables with the spread and writes `target/bench/summary.json`. A number of the first part is a ratio or is not
//! trusted: machines drift, and all chains drift together. `BENCH=quick` shows in a minute that everything runs.

mod chain;
mod cluster;
mod control;
mod load;
mod native;
mod report;
mod scenarios;
mod spread;
mod tokens;

use std::{env, fs, path::PathBuf};

use portcullis_e2e::{artefacts, envoy::Envoy, scratch::Scratch};
use serde_json::json;

use crate::{chain::Chain, load::measure, report::Report, scenarios::Scenario};

/// How much is measured.
struct Size {
    /// Rounds of the first scenario, and requests of one round of one chain.
    first: (u32, u32),
    /// The same of the others.
    others: (u32, u32),
    /// The same where each request has a token of its own, which takes a while to sign.
    fresh: (u32, u32),
    /// Requests before the first round, so that every connection, cache and virtual machine is warm.
    warm_up: u32,
    /// Routes, starts and edits of the controller, in a folder and in a cluster.
    control: (usize, usize, usize),
}

const FULL: Size = Size {
    first: (11, 20_000),
    others: (7, 8_000),
    fresh: (7, 2_000),
    warm_up: 1_000,
    control: (1_000, 3, 200),
};

const QUICK: Size = Size {
    first: (2, 1_000),
    others: (2, 1_000),
    fresh: (2, 200),
    warm_up: 200,
    control: (100, 1, 20),
};

/// What can be measured alone.
const PARTS: [&str; 3] = ["decisions", "controller", "cluster"];

fn main() {
    let size = match env::var("BENCH").as_deref() {
        Ok("quick") => QUICK,
        Ok(other) => panic!("BENCH is `{other}`; only `quick` is known"),
        Err(_) => FULL,
    };
    let upstream_scratch = Scratch::new();
    let upstream = Envoy::start(&upstream_scratch, &chain::upstream()).unwatched();
    let part = env::var("BENCH_PART").ok();
    // A cluster must have been built for it.
    let whole = part.is_none();
    let is = |name: &str| part.as_deref() == Some(name);
    if let Some(other) = part.as_deref().filter(|part| !PARTS.contains(part)) {
        panic!("BENCH_PART is `{other}`; only these are known: {PARTS:?}");
    }
    let decisions = (whole || is("decisions")).then(|| decisions(&size, &upstream));
    let (routes, starts, edits) = size.control;
    let control = (whole || is("controller")).then(|| control::measure(routes, starts, edits, upstream.listener()));
    let cluster = is("cluster").then(|| cluster::measure(routes, starts, edits, upstream.listener()));

    if let Some(report) = &decisions {
        report.print();
    }
    if let Some(control) = &control {
        control.print();
    }
    if let Some(cluster) = &cluster {
        cluster.print();
        if routes == FULL.control.0 {
            cluster.keep();
        }
    }
    let summary = json!({
        "decisions": decisions.as_ref().map(Report::json),
        "controller": control.as_ref().map(control::Control::json),
        "cluster": cluster.as_ref().map(cluster::InCluster::json),
    });
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| artefacts::root().join("target"), PathBuf::from);
    let path = folder.join("bench/summary.json");
    fs::create_dir_all(folder.join("bench")).expect("the folder can be made");
    fs::write(&path, format!("{summary:#}\n")).expect("the summary can be written");
    println!("\nwritten to {}", path.display());
    if decisions.is_some_and(|report| report.ratio() > 1.0) {
        println!("over the budget of 1.0x of what Envoy's own filters cost for the same policy");
    }
}

fn decisions(size: &Size, upstream: &Envoy) -> Report {
    let scratch = Scratch::new();
    let mut scenarios = scenarios::all();
    if let Ok(only) = env::var("BENCH_ONLY") {
        scenarios.retain(|scenario| only.split(',').any(|key| key == scenario.key));
    }
    let rendered = chain::render(&scratch, upstream.listener(), &scenarios);
    let empty = scratch.join("empty.wasm");
    fs::write(&empty, chain::empty_module()).expect("the empty module can be written");
    let folders: Vec<_> = Chain::ALL.iter().map(|_| Scratch::new()).collect();
    let running: Vec<_> = Chain::ALL
        .iter()
        .zip(&folders)
        .map(|(chain, folder)| {
            (
                *chain,
                Envoy::start(folder, &chain.configure(&rendered, &scenarios, &empty)).unwatched(),
            )
        })
        .collect();
    let measured = |scenario: &Scenario| -> Vec<_> {
        let scenario = scenario.clone();
        running
            .iter()
            .filter(move |(chain, _)| chain.measures(&scenario))
            .collect()
    };
    for scenario in &scenarios {
        for (chain, envoy) in measured(scenario) {
            chain.prove(scenario, envoy.listener());
            measure(envoy, scenario, size.warm_up, &Vec::new());
        }
    }
    let sized: Vec<_> = scenarios
        .iter()
        .enumerate()
        .map(|(index, scenario)| {
            let amount = match index {
                0 => size.first,
                _ if scenario.fresh => size.fresh,
                _ => size.others,
            };
            (scenario.clone(), amount)
        })
        .collect();
    let requests: Vec<_> = sized
        .iter()
        .map(|(scenario, (_, requests))| (scenario.clone(), *requests))
        .collect();
    let mut report = Report::new(&requests);
    let rounds = size.first.0.max(size.others.0);
    for round in 0..rounds {
        eprint!("\rround {} of {rounds}", round + 1);
        for (index, (scenario, (rounds, requests))) in sized.iter().enumerate() {
            if round < *rounds {
                // Each chain has a cache of its own, so that what is new is new to all.
                let fresh = if scenario.fresh {
                    tokens::fresh(round, *requests)
                } else {
                    Vec::new()
                };
                let all = measured(scenario).into_iter();
                report.add(
                    index,
                    all.map(|(chain, envoy)| (*chain, measure(envoy, scenario, *requests, &fresh)))
                        .collect(),
                );
            }
        }
    }
    eprintln!();
    report
}
