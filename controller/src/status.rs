//! `portcullis status`: what the controller would write into the statuses of the objects, computed from their files.

use portcullis_attachment::{
    object::{GATEWAY_GROUP, POLICY_GROUP},
    status::{Condition, ConditionStatus, ObjectStatus, ParentRef, Scope},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Answer, check,
    cli::{Output, StatusArgs},
    failure::Failure,
    load::{self, Evaluation, Settings},
    print::{self, Style, Tone},
};

/// Prints the conditions of every object, the worst first.
pub(crate) fn status(args: &StatusArgs, style: &Style) -> Result<Answer, Failure> {
    // A namespace chooses what is shown: what is read decides the statuses.
    let mut manifests = args.manifests.clone();
    let namespaces = std::mem::take(&mut manifests.namespaces);
    let texts = check::read(&manifests)?;
    let settings = Settings::new(&manifests, "portcullis.wasm".to_owned(), [0; 32]);
    let evaluation = load::evaluate(&texts, &settings);
    for diagnostic in evaluation.unread() {
        print::note(&check::line(diagnostic, |tone, text| style.paint_err(tone, text)));
    }
    let shown = |status: &&ObjectStatus| {
        let object = &status.object;
        args.name.as_ref().is_none_or(|name| *name == object.name)
            && (namespaces.is_empty() || namespaces.contains(&object.namespace))
    };
    let statuses: Vec<&ObjectStatus> = statuses(&evaluation).filter(shown).collect();
    if statuses.is_empty() {
        let what = args.name.as_ref().map_or_else(
            || "no object has a status".to_owned(),
            |name| format!("no object named {name} has a status"),
        );
        return Err(Failure::new(what, "check the paths, -n and --controller-name"));
    }
    let rows = rows(&statuses);
    let bad = rows.iter().any(|row| row.badness == Badness::Bad);
    if style.output == Output::Text {
        table(&rows, style)?;
    } else {
        let items: Vec<Value> = statuses
            .iter()
            .map(|status| object(status, &args.manifests.controller_name))
            .collect();
        style.value(&json!({"items": items}))?;
    }
    Ok(if bad { Answer::No } else { Answer::Yes })
}

fn statuses(evaluation: &Evaluation) -> impl Iterator<Item = &ObjectStatus> {
    evaluation
        .attachment
        .statuses
        .iter()
        .chain(&evaluation.translation.statuses)
}

/// How bad a condition is; the order of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Badness {
    Bad,
    Odd,
    Good,
}

/// Judges a condition: some say what is right when they hold, others what is wrong.
fn badness(condition: &Condition) -> Badness {
    let holds = condition.status == ConditionStatus::True;
    match condition.r#type {
        "Conflicted" | "PartiallyInvalid" if holds => Badness::Bad,
        "Overridden" | "Aggregated" | "Warning" if holds => Badness::Odd,
        "Conflicted" | "PartiallyInvalid" | "Overridden" | "Aggregated" | "Warning" => Badness::Good,
        _ if holds => Badness::Good,
        "BackendsAvailable" => Badness::Odd,
        _ if condition.status == ConditionStatus::Unknown => Badness::Odd,
        _ => Badness::Bad,
    }
}

/// One line of the table.
struct Row {
    badness: Badness,
    cells: [String; 6],
}

const TITLES: [&str; 6] = ["KIND", "NAME", "ANCESTOR", "CONDITION", "REASON", "MESSAGE"];

/// A line for each condition that is not as it should be, and one for each place where all are.
fn rows(statuses: &[&ObjectStatus]) -> Vec<Row> {
    let mut rows = Vec::new();
    for status in statuses {
        let object = &status.object;
        let name = if object.namespace.is_empty() {
            object.name.clone()
        } else {
            format!("{}/{}", object.namespace, object.name)
        };
        for scope in &status.scopes {
            let ancestor = match &scope.scope {
                Scope::Object => String::new(),
                Scope::Listener(listener) => format!("listener {listener}"),
                Scope::Parent(parent) => named(parent),
            };
            let mut add = |badness: Badness, condition: &Condition| {
                let stated = match condition.status {
                    ConditionStatus::True => condition.r#type.to_owned(),
                    ConditionStatus::False => format!("{}=False", condition.r#type),
                    ConditionStatus::Unknown => format!("{}=Unknown", condition.r#type),
                };
                rows.push(Row {
                    badness,
                    cells: [
                        object.kind.to_owned(),
                        name.clone(),
                        ancestor.clone(),
                        stated,
                        condition.reason.to_owned(),
                        condition.message.replace('\n', " "),
                    ],
                });
            };
            let odd: Vec<_> = scope
                .conditions
                .iter()
                .map(|condition| (badness(condition), condition))
                .filter(|(badness, _)| *badness != Badness::Good)
                .collect();
            for (badness, condition) in &odd {
                add(*badness, condition);
            }
            let accepted = scope.conditions.iter().find(|condition| condition.r#type == "Accepted");
            if let Some(condition) = accepted.filter(|_| odd.is_empty()) {
                add(Badness::Good, condition);
            }
        }
    }
    rows.sort_by(|one, other| {
        one.badness
            .cmp(&other.badness)
            .then_with(|| one.cells.cmp(&other.cells))
    });
    rows
}

fn named(parent: &ParentRef) -> String {
    let section = parent.section_name.as_deref().map(|section| format!("/{section}"));
    let port = parent.port.map(|port| format!(":{port}"));
    format!(
        "{} {}/{}{}{}",
        parent.kind,
        parent.namespace,
        parent.name,
        section.unwrap_or_default(),
        port.unwrap_or_default()
    )
}

fn table(rows: &[Row], style: &Style) -> Result<(), Failure> {
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

/// The object with its status as Kubernetes has it; nobody knows here since when a condition holds.
fn object(status: &ObjectStatus, controller: &str) -> Value {
    let conditions = |conditions: &[Condition]| -> Vec<Value> {
        let conditions = conditions.iter().map(|condition| {
            let mut value = json!({
                "type": condition.r#type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
            });
            if let (Some(generation), Some(fields)) = (status.observed_generation, value.as_object_mut()) {
                fields.insert("observedGeneration".to_owned(), json!(generation));
            }
            value
        });
        conditions.collect()
    };
    let of_policy = status.object.kind.ends_with("Policy");
    let (list, reference) = if of_policy {
        ("ancestors", "ancestorRef")
    } else {
        ("parents", "parentRef")
    };
    let mut written = serde_json::Map::new();
    for scope in &status.scopes {
        let (list, entry) = match &scope.scope {
            Scope::Object => {
                written.insert("conditions".to_owned(), json!(conditions(&scope.conditions)));
                continue;
            }
            Scope::Listener(name) => {
                let mut entry = json!({"name": name, "conditions": conditions(&scope.conditions)});
                if let (Some(routes), Some(fields)) = (scope.attached_routes, entry.as_object_mut()) {
                    fields.insert("attachedRoutes".to_owned(), json!(routes));
                }
                ("listeners", entry)
            }
            Scope::Parent(parent) => {
                let entry = json!({
                    "controllerName": controller,
                    "conditions": conditions(&scope.conditions),
                    reference: Reference::of(parent),
                });
                (list, entry)
            }
        };
        let entries = written.entry(list).or_insert_with(|| json!([]));
        if let Some(entries) = entries.as_array_mut() {
            entries.push(entry);
        }
    }
    let mut metadata = json!({"name": status.object.name});
    if let Some(fields) = metadata.as_object_mut().filter(|_| !status.object.namespace.is_empty()) {
        fields.insert("namespace".to_owned(), json!(status.object.namespace));
    }
    json!({
        "apiVersion": api_version(status.object.kind),
        "kind": status.object.kind,
        "metadata": metadata,
        "status": written,
    })
}

/// A parentRef or an ancestorRef.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    section_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<i32>,
}

impl<'a> Reference<'a> {
    fn of(parent: &'a ParentRef) -> Self {
        Self {
            group: &parent.group,
            kind: &parent.kind,
            namespace: &parent.namespace,
            name: &parent.name,
            section_name: parent.section_name.as_deref(),
            port: parent.port,
        }
    }
}

fn api_version(kind: &str) -> String {
    match kind {
        "SecurityPolicy" | "ClientTrafficPolicy" => format!("{POLICY_GROUP}/v1alpha1"),
        "AccessPolicy" => "portcullis.dev/v1alpha1".to_owned(),
        _ => format!("{GATEWAY_GROUP}/v1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_bad_where_it_says_what_is_wrong() {
        let judge = |r#type: &'static str, status: ConditionStatus| {
            badness(&Condition {
                r#type,
                status,
                reason: "X",
                message: String::new(),
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
