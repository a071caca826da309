//! `manifests/examples/broken`: one mistake a file, and its first line says which diagnostic it earns.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot unwrap is a failed test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use portcullis_attachment::finding::CODES;
use portcullis_manifest::load;

/// A file of the folder, with the diagnostic that it expects.
struct Broken {
    name: String,
    text: String,
    expected: Option<String>,
}

fn folder() -> Vec<Broken> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests/examples/broken");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap();
            Broken {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                expected: first.strip_prefix("# expect: ").map(str::to_owned),
                text,
            }
        })
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

fn code(expected: &str) -> &str {
    expected.split_once("error[").unwrap().1.split_once(']').unwrap().0
}

/// Codes that a later stage gives: of binding, of attachment, of the translation.
const LATER: [&str; 8] = [
    "backend-not-found",
    "duplicate-api-key",
    "policy-conflict",
    "reference-not-permitted",
    "secret-not-found",
    "section-not-found",
    "target-not-found",
    "unsupported-field",
];

#[test]
fn the_folder_has_twenty_mistakes_with_twenty_codes() {
    let files = folder();
    let codes: BTreeSet<_> = files
        .iter()
        .filter_map(|file| file.expected.as_deref())
        .map(code)
        .collect();
    assert_eq!(codes.len(), 20);
    assert_eq!(files.iter().filter(|file| file.expected.is_some()).count(), 20);
    for file in files.iter().filter(|file| file.expected.is_some()) {
        let code = code(file.expected.as_deref().unwrap());
        assert_eq!(file.name, format!("{code}.yaml"));
        assert!(CODES.iter().any(|(known, _)| *known == code), "{code} is not explained");
    }
}

#[test]
fn every_mistake_of_a_manifest_is_found_where_it_is() {
    let files = folder();
    let texts: Vec<_> = files
        .iter()
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect();
    let loaded = load(&texts);
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|diagnostic| {
            let place = diagnostic.place.as_ref().unwrap();
            let level = diagnostic.level();
            assert!(!diagnostic.path.is_empty(), "{diagnostic} names no field");
            assert!(diagnostic.fix.is_some(), "{diagnostic} has no fix");
            format!(
                "{} {level}[{}] {}:{}",
                place.file, diagnostic.code, place.line, place.column
            )
        })
        .collect();
    let expected: Vec<_> = files
        .iter()
        .filter_map(|file| Some((&file.name, file.expected.as_ref()?)))
        .filter(|(_, expected)| !LATER.contains(&code(expected)))
        .map(|(name, expected)| format!("{name} {expected}"))
        .collect();
    assert_eq!(found, expected);
}
