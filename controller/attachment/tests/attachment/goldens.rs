//! Manifests in `testdata/**/*.in.yaml`, and in `*.out.yaml` what becomes of them, written out for people to read.
//!
//! `PORTCULLIS_BLESS=1` writes the outputs; what changed is then to be read against the specification.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::world::World;

#[test]
fn manifests_attach_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut inputs = Vec::new();
    collect(&folder, &mut inputs);
    inputs.sort();
    assert!(inputs.len() >= 190, "only {} cases", inputs.len());
    let mut failed = Vec::new();
    for input in inputs {
        let output = input.to_str().unwrap().replace(".in.yaml", ".out.yaml");
        let actual = World::parse(&fs::read_to_string(&input).unwrap()).describe();
        serde_saphyr::from_str::<serde_json::Value>(&actual).unwrap();
        if std::env::var_os("PORTCULLIS_BLESS").is_some() {
            fs::write(&output, &actual).unwrap();
        }
        let expected = fs::read_to_string(&output).unwrap_or_default();
        if actual != expected {
            failed.push(format!("{output}:\n{actual}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The inputs of a folder and of those in it.
fn collect(folder: &Path, inputs: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, inputs);
        } else if path.to_str().unwrap().ends_with(".in.yaml") {
            inputs.push(path);
        }
    }
}

#[test]
fn documented_differences_name_cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("../../docs/differences.md")).unwrap();
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| ["| POLICY-", "| MERGE-"].iter().any(|id| line.starts_with(id)))
        .collect();
    assert!(rows.len() > 5, "the table is not read");
    for row in rows {
        let cases = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for case in cases.split(", ") {
            let case = case.trim_matches('`');
            assert!(
                root.join(format!("testdata/{case}.in.yaml")).exists(),
                "{row}: no case {case:?}"
            );
        }
    }
}
