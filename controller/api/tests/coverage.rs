//! Every field of every definition is said to be enforced, refused or ignored, and `docs/api-coverage.md` says the same.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Fate {
    Enforced,
    Refused,
    Ignored,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    is: Fate,
    #[serde(default)]
    note: String,
}

type Coverage = BTreeMap<String, BTreeMap<String, Entry>>;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn coverage() -> Coverage {
    serde_saphyr::from_str(&fs::read_to_string(folder().join("coverage.yaml")).unwrap()).unwrap()
}

/// The paths of the fields of a schema that hold no other field.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            leaves(&format!("{path}.{name}"), property, found);
        }
    } else if let Some(items) = schema.get("items") {
        leaves(&format!("{path}[]"), items, found);
    } else {
        found.insert(path.to_owned());
    }
}

fn schemas() -> BTreeMap<String, BTreeSet<String>> {
    let fields =
        |crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap();
            let schema = serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap();
            let mut found = BTreeSet::new();
            leaves("spec", &schema["properties"]["spec"], &mut found);
            (crd.spec.names.kind.clone(), found)
        };
    portcullis_api::crds().iter().map(fields).collect()
}

/// Whether `path` is `field` or holds it.
fn leads_to(path: &str, field: &str) -> bool {
    field
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn every_field_has_one_fate_and_every_fate_a_field() {
    let coverage = coverage();
    let schemas = schemas();
    assert_eq!(
        coverage.keys().collect::<Vec<_>>(),
        schemas.keys().collect::<Vec<_>>(),
        "the kinds"
    );
    let mut problems = Vec::new();
    for (kind, fields) in &schemas {
        for field in fields {
            let fates = coverage[kind].keys().filter(|path| leads_to(path, field)).count();
            if fates != 1 {
                problems.push(format!(
                    "{kind} {field}: {fates} lines of controller/api/coverage.yaml lead there"
                ));
            }
        }
        for path in coverage[kind].keys() {
            if !fields.iter().any(|field| leads_to(path, field)) {
                problems.push(format!("{kind} {path}: no such field"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_document_says_what_becomes_of_every_field() {
    let mut text = String::from(
        "# What becomes of every field\n\n\
         Made from `controller/api/coverage.yaml` and the schemas by `cargo test -p portcullis-api`; a field that stands in neither fails that test.\n\n\
         * **enforced**: it does what Envoy Gateway 1.9 documents, apart from [the differences](differences.md).\n\
         * **refused**: an object that uses it is invalid as a whole: its condition names the field, `portcullis check` prints an error, and what the\n  \
           object guards answers 500. Nothing is enforced by half.\n\
         * **ignored**: it has no effect here; `portcullis check` prints a warning.\n\n\
         A row stands for a field and all that is below it; the second column counts them. These are the kinds of Envoy Gateway and of Portcullis. What of the\n\
         Gateway API's own kinds (Gateway, ListenerSet, HTTPRoute, GRPCRoute, BackendTLSPolicy) is not served stands among the differences, under\n\
         [Listeners and routes](differences.md#listeners-and-routes): a condition and an error of `check` name it.\n",
    );
    let schemas = schemas();
    for (kind, entries) in coverage() {
        writeln!(
            text,
            "\n## {kind}\n\n| field | fields | is | |\n| --- | --- | --- | --- |"
        )
        .unwrap();
        for (path, entry) in entries {
            let below = schemas[&kind].iter().filter(|field| leads_to(&path, field)).count();
            let fate = match entry.is {
                Fate::Enforced => "enforced",
                Fate::Refused => "**refused**",
                Fate::Ignored => "*ignored*",
            };
            writeln!(text, "| `{path}` | {below} | {fate} | {} |", entry.note).unwrap();
        }
    }
    let file = folder().join("../../docs/api-coverage.md");
    write_if_asked(&file, &text);
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == text,
        "docs/api-coverage.md is out of date; run `make crds`"
    );
}

/// `make crds` sets it.
fn write_if_asked(file: &Path, text: &str) {
    if std::env::var_os("PORTCULLIS_WRITE_CRDS").is_some() {
        fs::write(file, text).unwrap();
    }
}
