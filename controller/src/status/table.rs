//! Conditions as a table: the worst first.

use portcullis_attachment::status::ConditionStatus;

use crate::{
    failure::Failure,
    print::{self, Style, Tone},
};

/// Conditions of one place of an object.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) kind: String,
    /// Empty for a cluster-scoped kind.
    pub(super) namespace: String,
    pub(super) name: String,
    /// A listener, a parent or an ancestor; empty for the object itself.
    pub(super) place: String,
    pub(super) conditions: Vec<Stated>,
}

/// One condition.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    pub(super) r#type: String,
    pub(super) status: ConditionStatus,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether it is about a generation that is no longer the object's.
    pub(super) stale: bool,
}

/// How bad a condition is; the order of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Badness {
    Bad,
    Odd,
    Good,
}

/// Judges a condition: some say what is right when they hold, others what is wrong.
fn badness(condition: &Stated) -> Badness {
    let holds = condition.status == ConditionStatus::True;
    if condition.stale {
        return Badness::Odd;
    }
    match (condition.r#type.as_str(), condition.reason.as_str()) {
        ("Conflicted" | "PartiallyInvalid", _) if holds => Badness::Bad,
        ("Overridden" | "Aggregated" | "Degraded" | "Warning", _) if holds => Badness::Odd,
        (
            "Conflicted"
            | "PartiallyInvalid"
            | "Overridden"
            | "Aggregated"
            | "Degraded"
            | "Warning"
            | "OverlappingTLSConfig",
            _,
        ) => Badness::Good,
        _ if holds => Badness::Good,
        ("BackendsAvailable", _) | ("Enforced", "Overridden" | "Shadow") => Badness::Odd,
        _ if condition.status == ConditionStatus::Unknown => Badness::Odd,
        _ => Badness::Bad,
    }
}

/// One line.
struct Row {
    badness: Badness,
    cells: [String; 6],
}

const TITLES: [&str; 6] = ["KIND", "NAME", "ANCESTOR", "CONDITION", "REASON", "MESSAGE"];

/// All lines.
pub(super) struct Table(Vec<Row>);

impl Table {
    /// A line for each condition that is not as it should be, and one for each place where all are.
    pub(super) fn new(told: &[Told]) -> Self {
        let mut rows = Vec::new();
        for told in told {
            let name = if told.namespace.is_empty() {
                told.name.clone()
            } else {
                format!("{}/{}", told.namespace, told.name)
            };
            let mut add = |badness: Badness, condition: &Stated| {
                let stated = match condition.status {
                    ConditionStatus::True => condition.r#type.clone(),
                    ConditionStatus::False => format!("{}=False", condition.r#type),
                    ConditionStatus::Unknown => format!("{}=Unknown", condition.r#type),
                };
                let message = condition.message.replace('\n', " ");
                rows.push(Row {
                    badness,
                    cells: [
                        told.kind.clone(),
                        name.clone(),
                        told.place.clone(),
                        stated,
                        condition.reason.clone(),
                        if condition.stale {
                            format!("(of an earlier generation) {message}")
                        } else {
                            message
                        },
                    ],
                });
            };
            let odd: Vec<_> = told
                .conditions
                .iter()
                .map(|condition| (badness(condition), condition))
                .filter(|(badness, _)| *badness != Badness::Good)
                .collect();
            for (badness, condition) in &odd {
                add(*badness, condition);
            }
            let of_type = |r#type: &str| told.conditions.iter().find(|condition| condition.r#type == r#type);
            // What is enforced is accepted.
            let good = of_type("Enforced").or_else(|| of_type("Accepted"));
            if let Some(condition) = good.filter(|_| odd.is_empty()) {
                add(Badness::Good, condition);
            }
        }
        rows.sort_by(|one, other| {
            one.badness
                .cmp(&other.badness)
                .then_with(|| one.cells.cmp(&other.cells))
        });
        Self(rows)
    }

    /// Whether something is wrong.
    pub(super) fn is_bad(&self) -> bool {
        self.0.iter().any(|row| row.badness == Badness::Bad)
    }

    pub(super) fn print(&self, style: &Style) -> Result<(), Failure> {
        let rows = &self.0;
        let titles = TITLES.map(str::to_owned);
        let widths: Vec<usize> = (0..TITLES.len())
            .map(|column| {
                let cells = rows.iter().map(|row| &row.cells).chain([&titles]);
                let lengths = cells
                    .filter_map(|cells| cells.get(column))
                    .map(|cell| cell.chars().count());
                lengths.max().unwrap_or_default()
            })
            .collect();
        let line = |cells: &[String; 6], tone: Tone| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                // The condition and its reason carry the colour.
                let cell = if matches!(column, 3 | 4) {
                    style.paint(tone, cell)
                } else {
                    cell.clone()
                };
                format!("{cell}{padding}")
            });
            let cells: Vec<String> = padded.collect();
            print::line(cells.join("  ").trim_end())
        };
        line(&titles, Tone::Faint)?;
        for row in rows {
            let tone = match row.badness {
                Badness::Bad => Tone::Bad,
                Badness::Odd => Tone::Warning,
                Badness::Good => Tone::Good,
            };
            line(&row.cells, tone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_bad_where_it_says_what_is_wrong() {
        let judge = |r#type: &str, status: ConditionStatus| {
            badness(&Stated {
                r#type: r#type.to_owned(),
                status,
                reason: "X".to_owned(),
                message: String::new(),
                stale: false,
            })
        };
        assert_eq!(judge("Accepted", ConditionStatus::True), Badness::Good);
        assert_eq!(judge("Accepted", ConditionStatus::False), Badness::Bad);
        assert_eq!(judge("Conflicted", ConditionStatus::False), Badness::Good);
        assert_eq!(judge("Conflicted", ConditionStatus::True), Badness::Bad);
        assert_eq!(judge("Overridden", ConditionStatus::True), Badness::Odd);
        assert_eq!(judge("Enforced", ConditionStatus::Unknown), Badness::Odd);
    }
}
