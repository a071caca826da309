//! Rounds to a table and a summary.

use std::{fs, path::Path};

use serde_json::json;

use crate::{load::Round, variants::Variant};

/// Every round of every variant.
#[derive(Debug)]
pub(crate) struct Report {
    requests: u32,
    rounds: Vec<Vec<(Variant, Round)>>,
}

/// Minimum, median and maximum.
#[derive(Clone, Copy, Debug)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Report {
    /// Starts an empty report.
    pub(crate) fn new(requests: u32) -> Self {
        Self {
            requests,
            rounds: Vec::new(),
        }
    }

    /// Adds one interleaved round.
    pub(crate) fn add(&mut self, round: Vec<(Variant, Round)>) {
        self.rounds.push(round);
    }

    /// What Portcullis adds to a bare proxy, over what Envoy's own filters add: the median of the rounds' own ratios.
    pub(crate) fn ratio(&self) -> f64 {
        self.ratios().median
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!(
            "{} rounds of {} requests, processor time of Envoy in microseconds per request\n",
            self.rounds.len(),
            self.requests
        );
        println!(
            "{:<24} {:>8} {:>8} {:>8}   {:>18}",
            "", "min", "median", "max", "over no filter"
        );
        let bare = self.spread(Variant::NoFilter);
        for variant in Variant::ALL {
            let Spread { min, median, max } = self.spread(*variant);
            let over = match variant {
                Variant::NoFilter => String::new(),
                _ => format!("{:+.2} ({:+.2})", min - bare.min, median - bare.median),
            };
            println!(
                "{:<24} {min:>8.2} {median:>8.2} {max:>8.2}   {over:>18}",
                variant.title()
            );
        }
        let ratio = self.ratios();
        println!(
            "\nPortcullis over Envoy's own filters, both over no filter: {:.2}x (rounds: {:.2} to {:.2})",
            ratio.median, ratio.min, ratio.max
        );
    }

    /// Writes the summary.
    pub(crate) fn write(&self, path: &Path) {
        let variants: serde_json::Map<_, _> = Variant::ALL
            .iter()
            .map(|variant| (variant.key().to_owned(), self.spread(*variant).json()))
            .collect();
        let summary = json!({
            "policy": "api key + cors + 16 CIDRs",
            "requests_per_round": self.requests,
            "rounds": self.rounds.len(),
            "cpu_us_per_request": variants,
            "ratio_over_no_filter": {"portcullis_to_native": self.ratios().json()},
        });
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, format!("{summary:#}\n")).expect("the summary can be written");
    }

    fn ratios(&self) -> Spread {
        let ratios = self.rounds.iter().map(|round| {
            let cpu = |wanted| {
                round
                    .iter()
                    .find(|(variant, _)| *variant == wanted)
                    .expect("every round has every variant")
                    .1
                    .cpu
            };
            let bare = cpu(Variant::NoFilter);
            (cpu(Variant::Portcullis) - bare) / (cpu(Variant::Native) - bare)
        });
        Spread::of(ratios.collect())
    }

    fn spread(&self, wanted: Variant) -> Spread {
        let all = self.rounds.iter().flatten().filter(|(variant, _)| *variant == wanted);
        Spread::of(all.map(|(_, round)| round.cpu).collect())
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            min: values[0],
            median: values[values.len() / 2],
            max: values[values.len() - 1],
        }
    }

    fn json(self) -> serde_json::Value {
        let round = |value: f64| (value * 1_000.0).round() / 1_000.0;
        json!({"min": round(self.min), "median": round(self.median), "max": round(self.max)})
    }
}
