//! What a decision costs: the same requests through the same Envoy configuration with no filter, with Envoy's own filters
//! in Envoy Gateway's order, and with Portcullis; interleaved, so that the machine's noise falls on all three alike.
//!
//! Prints a table with the spread and writes `target/bench/summary.json`. A number here is a ratio or is not trusted:
//! machines drift, and all three variants drift together.

mod load;
mod report;
mod variants;

use std::{env, path::PathBuf};

use portcullis_e2e::{envoy::Envoy, scratch::Scratch};

use crate::{
    load::{Round, measure},
    report::Report,
    variants::Variant,
};

/// Requests of one round of one variant.
const REQUESTS: u32 = 20_000;
/// Requests before the first round, so that every connection, cache and VM is warm.
const WARM_UP: u32 = 2_000;

fn main() {
    let rounds = number("BENCH_ROUNDS", 11);
    let requests = number("BENCH_REQUESTS", REQUESTS);
    let scratch = Scratch::new();
    let upstream_scratch = Scratch::new();
    let upstream = Envoy::start(&upstream_scratch, &variants::upstream());
    let rendered = variants::render(&scratch, upstream.listener());

    let folders: Vec<_> = Variant::ALL.iter().map(|_| Scratch::new()).collect();
    let running: Vec<_> = Variant::ALL
        .iter()
        .zip(&folders)
        .map(|(variant, folder)| (*variant, Envoy::start(folder, &variant.configure(&rendered))))
        .collect();

    for (variant, envoy) in &running {
        variants::prove(*variant, envoy.listener());
        measure(envoy, WARM_UP);
    }
    let mut report = Report::new(requests);
    for round in 1..=rounds {
        eprint!("\rround {round} of {rounds}");
        let measured: Vec<(Variant, Round)> = running
            .iter()
            .map(|(variant, envoy)| (*variant, measure(envoy, requests)))
            .collect();
        report.add(measured);
    }
    eprintln!();
    report.print();
    let folder =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| portcullis_e2e::artefacts::root().join("target"), PathBuf::from);
    let path = folder.join("bench/summary.json");
    report.write(&path);
    println!("\nwritten to {}", path.display());
    let ratio = report.ratio();
    if ratio > 1.0 {
        println!("over the budget of 1.0x of what Envoy's own filters cost for the same policy");
    }
}

fn number(name: &str, default: u32) -> u32 {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")),
        Err(_) => default,
    }
}
