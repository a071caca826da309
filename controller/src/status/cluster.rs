//! The statuses that stand in a cluster.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use portcullis_attachment::status::ConditionStatus;
use portcullis_kubernetes::{connect, statuses};
use serde_json::{Value, json};

use super::table::{Stated, Table, Told};
use crate::{
    Answer,
    cli::{Output, StatusArgs},
    cluster,
    failure::Failure,
    print::Style,
};

/// How often it is looked again while something is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Prints them, perhaps after waiting for policies to be enforced.
pub(super) fn status(args: &StatusArgs, style: &Style) -> Result<Answer, Failure> {
    let namespaces: BTreeSet<String> = args.manifests.namespaces.iter().cloned().collect();
    let controller = args.manifests.controller_name.as_str();
    let shown = |object: &Value| {
        args.name
            .as_ref()
            .is_none_or(|name| text(object, "/metadata/name") == *name)
    };
    let (objects, waited) = cluster::block_on(async {
        let client = connect().await.map_err(|error| cluster::failure(&error))?;
        let began = Instant::now();
        loop {
            let all = statuses(&client, &namespaces).await;
            let mut objects = all.map_err(|error| cluster::failure(&error))?;
            let classes = classes(&objects, controller);
            objects.retain(|object| shown(object) && concerns(object, controller, &classes));
            if args.wait.is_none() {
                return Ok((objects, None));
            }
            let states: Vec<State> = objects.iter().filter_map(|object| state(object, controller)).collect();
            let verdict = verdict(&states);
            if verdict.is_some() || began.elapsed() >= args.timeout {
                return Ok((objects, Some(verdict.unwrap_or_default())));
            }
            tokio::time::sleep(LOOK).await;
        }
    })?;
    if objects.is_empty() {
        let what = args.name.as_ref().map_or_else(
            || "no object has a status".to_owned(),
            |name| format!("no object named {name} has a status"),
        );
        return Err(Failure::new(
            what,
            "check -n and --controller-name, and that a controller runs",
        ));
    }
    let told: Vec<Told> = objects.iter().flat_map(|object| told(object, controller)).collect();
    let table = Table::new(&told);
    if style.output == Output::Text {
        table.print(style)?;
    } else {
        style.value(&json!({"items": objects}))?;
    }
    let good = waited.unwrap_or_else(|| !table.is_bad());
    Ok(if good { Answer::Yes } else { Answer::No })
}

/// How far a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is where it should be.
    Done,
    /// It will not get there.
    Failed,
    /// It may.
    Waiting,
}

/// What a wait comes to; nothing while it goes on.
fn verdict(states: &[State]) -> Option<bool> {
    if states.contains(&State::Failed) {
        return Some(false);
    }
    // Where there is none yet, one may be on its way.
    (!states.is_empty() && states.iter().all(|state| *state == State::Done)).then_some(true)
}

/// How far a policy is at all of its ancestors; nothing if it is no policy, or another controller's alone.
fn state(object: &Value, controller: &str) -> Option<State> {
    if !["AccessPolicy", "SecurityPolicy"].contains(&text(object, "/kind")) {
        return None;
    }
    let ancestors = list(object, "/status/ancestors");
    let own: Vec<&Value> = ancestors
        .iter()
        .filter(|entry| text(entry, "/controllerName") == controller)
        .collect();
    if own.is_empty() {
        return ancestors.is_empty().then_some(State::Waiting);
    }
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let states: Vec<State> = own
        .iter()
        .map(|entry| {
            let condition = |r#type: &str| {
                let conditions = list(entry, "/conditions").iter();
                let stated = conditions.map(|condition| stated(condition, generation));
                let mut current = stated.filter(|stated| !stated.stale);
                current.find(|stated| stated.r#type == r#type)
            };
            if condition("Accepted").is_some_and(|accepted| accepted.status == ConditionStatus::False) {
                return State::Failed;
            }
            match condition("Enforced") {
                Some(enforced) if enforced.status == ConditionStatus::True => State::Done,
                // It is not meant to be.
                Some(enforced) if ["Overridden", "Shadow"].contains(&enforced.reason.as_str()) => State::Done,
                _ => State::Waiting,
            }
        })
        .collect();
    if states.contains(&State::Failed) {
        Some(State::Failed)
    } else if states.contains(&State::Waiting) {
        Some(State::Waiting)
    } else {
        Some(State::Done)
    }
}

/// The classes of a controller.
fn classes(objects: &[Value], controller: &str) -> BTreeSet<String> {
    let classes = objects
        .iter()
        .filter(|object| text(object, "/kind") == "GatewayClass" && text(object, "/spec/controllerName") == controller);
    classes.map(|class| text(class, "/metadata/name").to_owned()).collect()
}

/// Whether the controller writes the status of an object, or will.
fn concerns(object: &Value, controller: &str, classes: &BTreeSet<String>) -> bool {
    match text(object, "/kind") {
        "GatewayClass" => classes.contains(text(object, "/metadata/name")),
        "Gateway" => classes.contains(text(object, "/spec/gatewayClassName")),
        "ListenerSet" => true,
        "AccessPolicy" | "SecurityPolicy" => state(object, controller).is_some(),
        _ => {
            let entries = list(object, "/status/parents")
                .iter()
                .chain(list(object, "/status/ancestors"));
            let mut own = entries.filter(|entry| text(entry, "/controllerName") == controller);
            own.next().is_some()
        }
    }
}

/// What the controller said of an object.
fn told(object: &Value, controller: &str) -> Vec<Told> {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let at = |place: String, owner: &Value| Told {
        kind: text(object, "/kind").to_owned(),
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
        place,
        conditions: list(owner, "/conditions")
            .iter()
            .map(|condition| stated(condition, generation))
            .collect(),
    };
    let mut all = Vec::new();
    if let Some(status) = object.get("status") {
        all.push(at(String::new(), status));
    }
    for listener in list(object, "/status/listeners") {
        all.push(at(format!("listener {}", text(listener, "/name")), listener));
    }
    for (entries, reference) in [("/status/parents", "/parentRef"), ("/status/ancestors", "/ancestorRef")] {
        for entry in list(object, entries) {
            if text(entry, "/controllerName") == controller
                && let Some(reference) = entry.pointer(reference)
            {
                all.push(at(named(reference), entry));
            }
        }
    }
    all.retain(|told| !told.conditions.is_empty());
    if all.is_empty() {
        all.push(Told {
            conditions: vec![Stated {
                r#type: "Accepted".to_owned(),
                status: ConditionStatus::Unknown,
                reason: "NoStatus".to_owned(),
                message: "Nobody has written a status yet; does it target something that is there?".to_owned(),
                stale: false,
            }],
            ..at(String::new(), &Value::Null)
        });
    }
    all
}

fn stated(condition: &Value, generation: Option<i64>) -> Stated {
    let observed = condition.get("observedGeneration").and_then(Value::as_i64);
    Stated {
        r#type: text(condition, "/type").to_owned(),
        status: match text(condition, "/status") {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        },
        reason: text(condition, "/reason").to_owned(),
        message: text(condition, "/message").to_owned(),
        stale: observed.is_some() && observed != generation,
    }
}

fn named(reference: &Value) -> String {
    let section = Some(text(reference, "/sectionName")).filter(|section| !section.is_empty());
    let port = reference.get("port").and_then(Value::as_i64);
    format!(
        "{} {}/{}{}{}",
        text(reference, "/kind"),
        text(reference, "/namespace"),
        text(reference, "/name"),
        section.map(|section| format!("/{section}")).unwrap_or_default(),
        port.map(|port| format!(":{port}")).unwrap_or_default()
    )
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(generation: i64, conditions: &[(&str, &str, &str, i64)]) -> Value {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status, reason, observed)| {
                json!({"type": kind, "status": status, "reason": reason, "observedGeneration": observed})
            })
            .collect();
        json!({
            "kind": "SecurityPolicy",
            "metadata": {"name": "orders", "namespace": "shop", "generation": generation},
            "status": {"ancestors": [{"controllerName": "a.example/c", "ancestorRef": {"kind": "Gateway"}, "conditions": conditions}]},
        })
    }

    #[test]
    fn a_policy_is_waited_for_until_its_present_generation_is_enforced() {
        let of = |object: &Value| state(object, "a.example/c");
        let accepted = ("Accepted", "True", "Accepted", 2);
        assert_eq!(of(&policy(2, &[accepted])), Some(State::Waiting));
        assert_eq!(
            of(&policy(2, &[accepted, ("Enforced", "True", "Enforced", 1)])),
            Some(State::Waiting)
        );
        assert_eq!(
            of(&policy(2, &[accepted, ("Enforced", "True", "Enforced", 2)])),
            Some(State::Done)
        );
        assert_eq!(
            of(&policy(2, &[accepted, ("Enforced", "False", "Rejected", 2)])),
            Some(State::Waiting)
        );
        assert_eq!(
            of(&policy(2, &[accepted, ("Enforced", "False", "Overridden", 2)])),
            Some(State::Done)
        );
        assert_eq!(
            of(&policy(2, &[("Accepted", "False", "Invalid", 2)])),
            Some(State::Failed)
        );
        assert_eq!(
            of(&policy(2, &[("Accepted", "False", "Invalid", 1)])),
            Some(State::Waiting)
        );
        let mut foreign = policy(1, &[]);
        assert_eq!(state(&foreign, "b.example/c"), None);
        foreign["status"] = json!({});
        assert_eq!(of(&foreign), Some(State::Waiting), "nobody has said anything yet");
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[State::Done, State::Waiting]), None);
        assert_eq!(verdict(&[State::Done, State::Done]), Some(true));
        assert_eq!(verdict(&[State::Waiting, State::Failed]), Some(false));
    }

    #[test]
    fn what_is_said_of_an_earlier_generation_is_marked() {
        let told = told(&policy(2, &[("Accepted", "True", "Accepted", 1)]), "a.example/c");
        assert!(told[0].conditions[0].stale);
        assert!(!Table::new(&told).is_bad());
    }
}
