//! `portcullis status`: what the controller would write into the statuses of the objects, computed from their files, or what
//! stands in a cluster.

mod cluster;
mod table;

use portcullis_attachment::{
    object::{GATEWAY_GROUP, POLICY_GROUP},
    status::{Condition, ObjectStatus, ParentRef, Scope, ScopeStatus},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Answer, check,
    cli::{Output, StatusArgs},
    failure::Failure,
    load::{self, Evaluation, Settings},
    print::{self, Style},
};

use self::table::{Stated, Table, Told};

/// Prints the conditions of every object, the worst first.
pub(crate) fn status(args: &StatusArgs, style: &Style) -> Result<Answer, Failure> {
    if args.kubernetes {
        return cluster::status(args, style);
    }
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
    let told: Vec<Told> = statuses.iter().flat_map(|status| told(status)).collect();
    let table = Table::new(&told);
    if style.output == Output::Text {
        table.print(style)?;
    } else {
        let items: Vec<Value> = statuses
            .iter()
            .map(|status| object(status, &args.manifests.controller_name))
            .collect();
        style.value(&json!({"items": items}))?;
    }
    Ok(if table.is_bad() { Answer::No } else { Answer::Yes })
}

fn statuses(evaluation: &Evaluation) -> impl Iterator<Item = &ObjectStatus> {
    evaluation
        .attachment
        .statuses
        .iter()
        .chain(&evaluation.translation.statuses)
}

/// What a status says, by place.
fn told(status: &ObjectStatus) -> Vec<Told> {
    let of_scope = |scope: &ScopeStatus| Told {
        kind: status.object.kind.to_owned(),
        namespace: status.object.namespace.clone(),
        name: status.object.name.clone(),
        place: match &scope.scope {
            Scope::Object => String::new(),
            Scope::Listener(listener) => format!("listener {listener}"),
            Scope::Parent(parent) => named(parent),
        },
        conditions: scope
            .conditions
            .iter()
            .map(|condition| Stated {
                r#type: condition.r#type.to_owned(),
                status: condition.status,
                reason: condition.reason.to_owned(),
                message: condition.message.clone(),
                stale: false,
            })
            .collect(),
    };
    status.scopes.iter().map(of_scope).collect()
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
