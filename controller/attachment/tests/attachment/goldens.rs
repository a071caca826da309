//! Manifests in `testdata/*.in.yaml`, and in `*.out.yaml` what becomes of them, written out for people to read.
//!
//! `PORTCULLIS_BLESS=1` writes the outputs; what changed is then to be read against the specification.

use std::{fs, path::Path};

use crate::world::World;

#[test]
fn manifests_attach_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".in.yaml"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 40, "only {} cases", inputs.len());
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
