//! Our definitions before a real API server: what it refuses, `portcullis check` refuses with the same words, and what one takes
//! the other takes. What a folder may hold is what a cluster may hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use portcullis_e2e::{
    admission::{self, Faults},
    artefacts,
    cluster::Cluster,
    violation,
};
use serde_json::{Value, json};

/// The codes of faults that an API server finds too: an object has them by itself. (kubectl takes the last of two keys before
/// the server sees any.)
const OF_THE_OBJECT: [&str; 11] = [
    "invalid-base64",
    "invalid-cidr",
    "invalid-combination",
    "invalid-origin",
    "missing-field",
    "unknown-field",
    "unknown-kind",
    "unknown-value",
    "wrong-type",
    "yaml-syntax",
    "duplicate-entry",
];

/// Examples with a field that Gateway API has in its experimental channel alone: what of them a cluster of the standard channel
/// would prune.
const EXPERIMENTAL: [(&str, &str); 1] = [("routing/routing.yaml", ".retry: field not declared in schema")];

#[test]
fn a_cluster_takes_what_a_folder_takes() {
    let cluster = start("standard");
    every_rule_is_enforced(&cluster);
    every_limit_is_enforced(&cluster);
    every_example_is_admitted(&cluster, &EXPERIMENTAL);
    every_broken_example_is_judged_alike(&cluster);
}

#[test]
fn a_cluster_with_experimental_fields_takes_what_a_folder_takes() {
    every_example_is_admitted(&start("experimental"), &[]);
}

fn start(channel: &str) -> Cluster {
    let cluster = Cluster::control();
    cluster.install_gateway_api(channel);
    cluster.install_ours();
    create_namespaces(&cluster);
    cluster
}

/// The namespaces of all examples; an object needs its namespace even on trial.
fn create_namespaces(cluster: &Cluster) {
    let mut names: BTreeSet<String> = BTreeSet::from(["shop".to_owned()]);
    for file in manifests() {
        let text = fs::read_to_string(&file).expect("a manifest can be read");
        // Also of files that are no YAML.
        for rest in text.split("namespace: ").skip(1) {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '-')
                .unwrap_or(rest.len());
            names.insert(rest[..end].to_owned());
        }
    }
    for name in names.iter().filter(|name| *name != "default") {
        cluster.kubectl(&["create", "namespace", name]);
    }
}

/// Every rule (CEL) has a case, and of each case both sides say what the case says and nothing else.
fn every_rule_is_enforced(cluster: &Cluster) {
    let definitions = admission::definitions();
    let file = artefacts::root().join("tests/testdata/refused.yaml");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let cases: Vec<Value> = serde_saphyr::from_str(&text).expect("the cases are YAML");
    let mut objects = Vec::new();
    let mut expected = Vec::new();
    let mut covered = BTreeSet::new();
    for (number, case) in cases.iter().enumerate() {
        let says: BTreeMap<String, Vec<String>> =
            serde_json::from_value(case["says"].clone()).unwrap_or_else(|error| panic!("case {number}: {error}"));
        let says: Faults = says
            .into_iter()
            .flat_map(|(path, messages)| messages.into_iter().map(move |message| (path.clone(), message)))
            .collect();
        let policies = json!(["SecurityPolicy", "AccessPolicy"]);
        for kind in case.get("kinds").unwrap_or(&policies).as_array().expect("kinds") {
            let definition = definitions
                .iter()
                .find(|definition| definition["spec"]["names"]["kind"] == *kind)
                .unwrap_or_else(|| panic!("no definition of {kind}"));
            objects.push(admission::object(
                definition,
                &format!("case-{number}"),
                &targeted(case, kind),
            ));
            expected.push(says.clone());
            covered.extend(
                says.iter()
                    .map(|(_, message)| (kind.clone().to_string(), message.clone())),
            );
        }
    }
    let servers = admission::server_says(cluster, &objects);
    let readers = admission::reader_says(&objects, |code| code == "invalid-combination");
    let mut wrong = Vec::new();
    for (number, says) in expected.iter().enumerate() {
        let (server, reader) = (&servers[number], &readers[number]);
        if server != says || reader != says {
            let object = &objects[number];
            wrong.push(format!(
                "{object}\n  expected {says:?}\n  server   {server:?}\n  check    {reader:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        objects.len(),
        wrong.join("\n")
    );

    let mut rules = BTreeSet::new();
    for definition in &definitions {
        let kind = definition["spec"]["names"]["kind"].to_string();
        collect_rules(&definition["spec"]["versions"][0]["schema"], &mut |message| {
            rules.insert((kind.clone(), message.to_owned()));
        });
    }
    let without: Vec<_> = rules.difference(&covered).collect();
    assert!(without.is_empty(), "rules without a case: {without:#?}");
}

/// The spec of a case, of a policy with a target.
fn targeted(case: &Value, kind: &Value) -> Value {
    let mut spec = case["spec"].clone();
    let has_target = ["targetRef", "targetRefs", "targetSelectors"]
        .iter()
        .any(|name| !spec[name].is_null());
    if (kind == "SecurityPolicy" || kind == "AccessPolicy") && !has_target && case["bare"] != true {
        spec["targetRefs"] = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders"}]);
    }
    spec
}

fn collect_rules(schema: &Value, found: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                found(rule["message"].as_str().expect("every rule has a message"));
            }
            fields.values().for_each(|value| collect_rules(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_rules(value, found)),
        _ => {}
    }
}

/// Every limit (OpenAPI) of every field, and every place for a field that is none, broken once: both sides name the field.
fn every_limit_is_enforced(cluster: &Cluster) {
    let mut objects = Vec::new();
    let mut expected = Vec::new();
    for definition in admission::definitions() {
        for violation in violation::violations(&definition) {
            objects.push(admission::object(
                &definition,
                &format!("case-{}", objects.len()),
                &violation.spec,
            ));
            expected.push(violation);
        }
    }
    let servers = admission::server_says(cluster, &objects);
    let readers = admission::reader_says(&objects, |_| true);
    let names = |faults: &Faults, path: &str| faults.iter().any(|(field, _)| field == path);
    let mut wrong = Vec::new();
    for (number, violation) in expected.iter().enumerate() {
        let (server, reader) = (&servers[number], &readers[number]);
        // An API server drops an optional field without a value. In a folder it is an error: an `authorization:` of which all
        // lines below are commented out is no authorization.
        let dropped = violation.limit == "null";
        if names(server, &violation.path) == dropped || !names(reader, &violation.path) {
            wrong.push(format!(
                "{} {} {}\n  server {server:?}\n  check  {reader:?}",
                objects[number]["kind"], violation.limit, violation.path
            ));
        }
    }
    println!("{} limits", expected.len());
    assert!(expected.len() > 500, "only {} limits", expected.len());
    assert!(
        wrong.is_empty(),
        "{} of {} limits:\n{}",
        wrong.len(),
        expected.len(),
        wrong.join("\n")
    );
}

/// An API server takes every example as it stands and prunes nothing of it, or says what it would prune.
fn every_example_is_admitted(cluster: &Cluster, pruned: &[(&str, &str)]) {
    let files: Vec<PathBuf> = manifests().into_iter().filter(|file| !is_broken(file)).collect();
    assert!(files.len() > 15, "examples are there: {files:?}");
    for file in files {
        let name = file.to_str().expect("the path is a text");
        let arguments = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            name,
        ];
        let output = cluster.try_kubectl(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        match pruned.iter().find(|(example, _)| file.ends_with(example)) {
            None => assert!(output.status.success(), "{name}: {error}"),
            Some((_, field)) => {
                let lines: Vec<&str> = error.lines().filter(|line| !line.trim().is_empty()).collect();
                assert!(matches!(lines[..], [line] if line.contains(field)), "{name}: {error}");
            }
        }
    }
}

/// An API server refuses a broken example if its fault can be seen in the object alone, and takes it if not.
fn every_broken_example_is_judged_alike(cluster: &Cluster) {
    let (mut refused, mut admitted) = (0, 0);
    for file in manifests().iter().filter(|file| is_broken(file)) {
        let text = fs::read_to_string(file).expect("a manifest can be read");
        let codes: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("# expect: error[")?.split_once(']'))
            .map(|(code, _)| code)
            .collect();
        let expected = codes.iter().any(|code| OF_THE_OBJECT.contains(code));
        let name = file.to_str().expect("the path is a text");
        let output = cluster.try_kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", name]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(!output.status.success(), expected, "{name} {codes:?}: {error}");
        *(if expected { &mut refused } else { &mut admitted }) += 1;
    }
    assert!(refused >= 10 && admitted >= 5, "{refused} refused, {admitted} admitted");
}

fn is_broken(file: &Path) -> bool {
    file.parent().is_some_and(|folder| folder.ends_with("broken"))
}

/// The manifests of all examples, not their tests.
fn manifests() -> Vec<PathBuf> {
    let examples = artefacts::root().join("manifests/examples");
    let folders = fs::read_dir(&examples).unwrap_or_else(|error| panic!("{}: {error}", examples.display()));
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder.expect("an entry").path()).expect("an example is a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}
