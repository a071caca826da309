//! Rounds to tables and a summary.

use serde_json::{Value, json};

use crate::{
    chain::Chain,
    scenarios::Scenario,
    spread::{Quotient, Spread},
};

/// Processor time of Envoy in microseconds per request: by round, the chains of one scenario.
pub(crate) type Rounds = Vec<Vec<(Chain, f64)>>;

/// Every scenario with its rounds.
#[derive(Debug)]
pub(crate) struct Report {
    measured: Vec<(Scenario, u32, Rounds)>,
}

impl Report {
    /// An empty report of these scenarios, each with the requests of one of its rounds.
    pub(crate) fn new(scenarios: &[(Scenario, u32)]) -> Self {
        let empty = scenarios
            .iter()
            .map(|(scenario, requests)| (scenario.clone(), *requests, Vec::new()));
        Self {
            measured: empty.collect(),
        }
    }

    /// Adds one interleaved round of scenario number `index`.
    pub(crate) fn add(&mut self, index: usize, round: Vec<(Chain, f64)>) {
        self.measured[index].2.push(round);
    }

    /// What Portcullis adds to a bare proxy, over what Envoy's own filters add for the first scenario.
    pub(crate) fn ratio(&self) -> f64 {
        let (scenario, _, rounds) = &self.measured[0];
        ratio(rounds, reference(scenario)).value
    }

    /// Prints the tables.
    pub(crate) fn print(&self) {
        println!("processor time of Envoy in microseconds per request, spread over the rounds\n");
        println!(
            "{:<42} {:<22} {:>7} {:>7} {:>7} {:>15}",
            "", "", "min", "median", "max", "over no filter"
        );
        for (scenario, requests, rounds) in &self.measured {
            let count = format!("{} rounds of {requests} requests", rounds.len());
            let mut labels = [scenario.title, &count, "", ""].into_iter();
            for chain in Chain::ALL.iter().filter(|chain| chain.measures(scenario)) {
                let Spread { min, median, max } = Spread::of(times(rounds, *chain));
                let over = match chain {
                    Chain::NoFilter => String::new(),
                    _ => format!("{:+.2}", Spread::of(over(rounds, *chain)).median),
                };
                let label = labels.next().unwrap_or_default();
                println!(
                    "{label:<42} {:<22} {min:>7.2} {median:>7.2} {max:>7.2} {over:>15}",
                    chain.title()
                );
            }
        }
        println!(
            "\nPortcullis over what it is held against, both over no filter: quotient of the medians (middle half of the rounds)"
        );
        for (scenario, _, rounds) in &self.measured {
            let against = reference(scenario).title();
            println!(
                "{:<42} {} {against}",
                scenario.title,
                ratio(rounds, reference(scenario))
            );
        }
        for (few, many) in self.scales() {
            println!("{many} over {few}: {}", self.growth(few, many));
        }
    }

    /// The summary.
    pub(crate) fn json(&self) -> Value {
        let scenarios = self.measured.iter().map(|(scenario, requests, rounds)| {
            let chains = Chain::ALL.iter().filter(|chain| chain.measures(scenario));
            let chains = chains.map(|chain| (chain.key().to_owned(), Spread::of(times(rounds, *chain)).json()));
            let reference = reference(scenario);
            let value = json!({
                "policy": scenario.title,
                "rounds": rounds.len(),
                "requests_per_round": requests,
                "cpu_us_per_request": chains.collect::<serde_json::Map<_, _>>(),
                "ratio_over_no_filter": {format!("portcullis_to_{}", reference.key()): ratio(rounds, reference).json()},
            });
            (scenario.key.to_owned(), value)
        });
        let growth = self
            .scales()
            .map(|(few, many)| (format!("{many}_to_{few}"), self.growth(few, many).json()));
        json!({
            "scenarios": scenarios.collect::<serde_json::Map<_, _>>(),
            "growth_of_portcullis_over_no_filter": growth.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// The pairs of which both were measured.
    fn scales(&self) -> impl Iterator<Item = &(&'static str, &'static str)> {
        let measured = |key: &str| self.measured.iter().any(|(scenario, _, _)| scenario.key == key);
        SCALES.iter().filter(move |(few, many)| measured(few) && measured(many))
    }

    /// What a larger policy costs over a smaller one of the same kind, both over no filter, in the same round.
    fn growth(&self, few: &str, many: &str) -> Quotient {
        let of = |key: &str| {
            let (_, _, rounds) = self
                .measured
                .iter()
                .find(|(scenario, _, _)| scenario.key == key)
                .expect("a scenario");
            over(rounds, Chain::Portcullis)
        };
        Quotient::of(&of(many), &of(few))
    }
}

/// Pairs of scenarios of which the second has more to decide: what that adds.
const SCALES: &[(&str, &str)] = &[
    ("ranges-10", "ranges-1000"),
    ("keys-10", "keys-2000"),
    ("jwt", "claims"),
    ("jwt", "cel"),
];

fn reference(scenario: &Scenario) -> Chain {
    if scenario.native.is_some() {
        Chain::Native
    } else {
        Chain::EmptyWasm
    }
}

fn ratio(rounds: &Rounds, reference: Chain) -> Quotient {
    Quotient::of(&over(rounds, Chain::Portcullis), &over(rounds, reference))
}

/// What a chain adds to no filter, by round.
fn over(rounds: &Rounds, chain: Chain) -> Vec<f64> {
    let bare = times(rounds, Chain::NoFilter);
    times(rounds, chain)
        .iter()
        .zip(bare)
        .map(|(time, bare)| time - bare)
        .collect()
}

fn times(rounds: &Rounds, wanted: Chain) -> Vec<f64> {
    let all = rounds.iter().flatten().filter(|(chain, _)| *chain == wanted);
    all.map(|(_, time)| *time).collect()
}
