//! How far measurements lie apart.

use std::fmt;

use serde_json::{Value, json};

/// Minimum, median and maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// The smallest.
    pub(crate) min: f64,
    /// The middle one.
    pub(crate) median: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            min: values[0],
            median: values[values.len() / 2],
            max: values[values.len() - 1],
        }
    }

    /// For the summary.
    pub(crate) fn json(self) -> Value {
        json!({"min": rounded(self.min), "median": rounded(self.median), "max": rounded(self.max)})
    }
}

/// What one thing costs over another, both measured in the same rounds.
///
/// The quotient of the medians: in a single round the smaller cost can come out near zero, and the round's own quotient
/// without bound. The middle half of those tells how steady the machine was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotient {
    /// The quotient of the medians.
    pub(crate) value: f64,
    /// Below it lies a quarter of the rounds' own quotients.
    pub(crate) low: f64,
    /// Above it lies a quarter of them.
    pub(crate) high: f64,
}

impl Quotient {
    /// The quotient of two costs, by round.
    pub(crate) fn of(these: &[f64], those: &[f64]) -> Self {
        let mut each: Vec<f64> = these.iter().zip(those).map(|(this, that)| this / that).collect();
        each.sort_by(f64::total_cmp);
        Self {
            value: Spread::of(these.to_vec()).median / Spread::of(those.to_vec()).median,
            low: percentile(&each, 0.25),
            high: percentile(&each, 0.75),
        }
    }

    /// For the summary.
    pub(crate) fn json(self) -> Value {
        json!({"value": rounded(self.value), "quartiles": [rounded(self.low), rounded(self.high)]})
    }
}

impl fmt::Display for Quotient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6.2} x ({:.2} to {:.2})", self.value, self.low, self.high)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The value below which a share of the sorted values lies.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among some hundred values"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
