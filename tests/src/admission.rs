//! What an API server says of objects, and what `portcullis check` says of them.

use std::{collections::BTreeSet, fmt::Write as _, fs, process::Command};

use serde_json::{Value, json};

use crate::{api, artefacts, cluster::Cluster, controller, scratch::Scratch};

/// What is wrong with an object: each field at fault with what is said of it.
pub type Faults = BTreeSet<(String, String)>;

/// An object of one of our definitions, `shop/<name>`.
#[must_use]
pub fn object(definition: &Value, name: &str, spec: &Value) -> Value {
    let (group, kind) = (&definition["spec"]["group"], &definition["spec"]["names"]["kind"]);
    let version = &definition["spec"]["versions"][0]["name"];
    json!({
        "apiVersion": format!("{}/{}", group.as_str().expect("a group"), version.as_str().expect("a version")),
        "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    })
}

/// Our definitions, as `manifests/crds` has them.
#[must_use]
pub fn definitions() -> Vec<Value> {
    let folder = artefacts::root().join("manifests/crds");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder entry").path()).collect();
    files.sort();
    let texts = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a definition can be read"));
    texts
        .map(|text| serde_saphyr::from_str(&text).expect("a definition is YAML"))
        .collect()
}

/// Creates objects on trial: nothing is stored, and a field that the server does not know is an error. In the order of the
/// objects, what is wrong with each; nothing if it would be stored.
#[must_use]
pub fn server_says(cluster: &Cluster, objects: &[Value]) -> Vec<Faults> {
    let scratch = Scratch::new();
    let mut requests = String::new();
    for (number, object) in objects.iter().enumerate() {
        let body = scratch.write(&format!("{number}.json"), &object.to_string());
        if number > 0 {
            requests += "next\n";
        }
        let _ = write!(
            requests,
            "url = \"{}{}?dryRun=All&fieldValidation=Strict\"\n\
             header = \"content-type: application/json\"\ndata-binary = \"@{}\"\noutput = \"{}\"\n",
            cluster.server(),
            api::collection(object),
            body.display(),
            scratch.join(&format!("{number}.answer")).display(),
        );
        for (option, file) in [("cacert", "ca.crt"), ("cert", "admin.crt"), ("key", "admin.key")] {
            let _ = writeln!(requests, "{option} = \"{}\"", cluster.pki(file).display());
        }
    }
    let config = scratch.write("requests", &requests);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--config"])
        .arg(config)
        .output();
    let output = output.expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (0..objects.len())
        .map(|number| {
            let text = fs::read_to_string(scratch.join(&format!("{number}.answer"))).expect("an answer");
            refusal(&serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
        })
        .collect()
}

/// What a Status says is wrong.
fn refusal(answer: &Value) -> Faults {
    if answer["kind"] != "Status" {
        return Faults::new();
    }
    let message = answer["message"].as_str().unwrap_or_default();
    let mut faults: Faults = message
        .split("unknown field \"")
        .skip(1)
        .filter_map(|rest| Some((rest.split_once('"')?.0.to_owned(), "unknown field".to_owned())))
        .collect();
    for cause in answer["details"]["causes"].as_array().into_iter().flatten() {
        let text = |name: &str| cause[name].as_str().unwrap_or_default();
        // Of a number that is too large for its format, the field stands in the message alone.
        let field = match text("message").rsplit_once(" in ") {
            Some((_, field)) if text("field") == "<nil>" => field,
            _ => text("field"),
        };
        faults.insert((field.to_owned(), plain(text("message")).to_owned()));
    }
    assert!(!faults.is_empty(), "refused for another reason: {answer}");
    faults
}

/// A message without the value: of `Invalid value: "Replace": not here` the last part.
fn plain(message: &str) -> &str {
    let rest = message.trim_start_matches("Invalid value: ");
    let value = rest.strip_prefix('"').and_then(|rest| rest.split_once("\": "));
    value.map_or(rest, |(_, message)| message)
}

/// Checks objects together, as one file. In the order of the objects, the errors of these codes that are found in each.
#[must_use]
pub fn reader_says(objects: &[Value], codes: impl Fn(&str) -> bool) -> Vec<Faults> {
    let scratch = Scratch::new();
    let texts = objects.iter().map(|object| format!("---\n{object}\n"));
    let file = scratch.write("objects.yaml", &texts.collect::<String>());
    let file = file.to_str().expect("the path is a text");
    let output = controller::portcullis(&["check", "-o", "json", "-f", file]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut faults = vec![Faults::new(); objects.len()];
    for diagnostic in report["diagnostics"].as_array().expect("diagnostics") {
        let line = diagnostic["line"].as_u64().expect("a line");
        // Two lines an object.
        let number = usize::try_from((line - 1) / 2).expect("a number of an object");
        let text = |name: &str| diagnostic[name].as_str().unwrap_or_default().to_owned();
        if diagnostic["severity"] == "error" && codes(&text("code")) {
            faults[number].insert((text("path"), text("message")));
        }
    }
    faults
}
