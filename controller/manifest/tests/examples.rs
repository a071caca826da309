//! The examples that are right: nothing is to be said about them.

#![expect(clippy::unwrap_used, reason = "what helpers of tests cannot unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use portcullis_attachment::{
    binding::bind,
    effective::{Attachment, Options, attach},
};
use portcullis_manifest::{Loaded, load};

const CONTROLLER: &str = "portcullis.dev/gateway-controller";

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests/examples")
}

fn read(folder: &Path) -> Loaded {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no manifest", folder.display());
    load(&files)
}

fn attached(loaded: &Loaded) -> (Attachment, Vec<String>) {
    let bindings = bind(&loaded.snapshot, CONTROLLER);
    let options = Options {
        controller_name: CONTROLLER.to_owned(),
        salt_key: [0; 32],
    };
    let attachment = attach(&loaded.snapshot, &bindings, &options);
    let findings = bindings.findings.iter().chain(&attachment.findings);
    let lines = findings.map(|finding| loaded.diagnose(finding).to_string()).collect();
    (attachment, lines)
}

#[test]
fn nothing_is_wrong_with_the_examples() {
    let mut folders = 0;
    for entry in fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.ends_with("broken") || !folder.is_dir() {
            continue;
        }
        folders += 1;
        let loaded = read(&folder);
        let lines: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(lines, Vec::<String>::new());
        let (attachment, lines) = attached(&loaded);
        assert_eq!(lines, Vec::<String>::new());
        let served = !attachment.policies.is_empty() || !attachment.connections.is_empty();
        assert!(served, "{} serves nothing", folder.display());
        assert!(attachment.connections.values().all(|admission| !admission.refuses));
        assert!(attachment.policies.values().all(|policy| !policy.refuses));
    }
    assert!(folders >= 5, "only {folders} examples were read");
}

#[test]
fn the_most_specific_policy_is_the_one_that_the_example_says() {
    let (attachment, _) = attached(&read(&examples().join("most-specific")));
    let found: BTreeMap<_, _> = attachment
        .policies
        .iter()
        .map(|(place, policy)| ((place.route.name.as_str(), place.rule), policy.policy.as_str()))
        .collect();
    let expected = [
        (("orders", 0), "shop/route"),
        (("orders", 1), "shop/rule"),
        (("status", 0), "shop/listener"),
    ];
    assert_eq!(found, BTreeMap::from(expected));
}

#[test]
fn documented_differences_name_tests() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("../../docs/differences.md")).unwrap();
    let mut sources = String::new();
    for folder in ["tests", "tests/load"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| FILE-")).collect();
    assert!(rows.len() > 5, "the table is not read");
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in tests.split(", ") {
            let declared = format!("fn {}(", test.trim_matches('`'));
            assert!(sources.contains(&declared), "{row}: no test {test}");
        }
    }
}
