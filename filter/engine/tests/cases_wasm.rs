//! Every case in `testdata/cases`, in wasm32 under Node: the engine as the filter runs it, with 32-bit sizes.
//!
//! `tests/make/wasm32.sh` runs it.
#![cfg(target_family = "wasm")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use portcullis_cases as cases;
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen(module = "fs")]
extern "C" {
    #[wasm_bindgen(js_name = readdirSync)]
    fn names(folder: &str) -> Vec<String>;
    #[wasm_bindgen(js_name = readFileSync)]
    fn text(path: &str, encoding: &str) -> String;
}

#[wasm_bindgen_test]
fn every_case_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/cases");
    let mut ran = BTreeSet::new();
    let mut failures = Vec::new();
    for feature in names(folder) {
        for file in names(&format!("{folder}/{feature}")) {
            let groups = cases::parse(&text(&format!("{folder}/{feature}/{file}"), "utf8"));
            let groups = groups.unwrap_or_else(|error| panic!("{feature}/{file}: {error}"));
            for (group, case) in groups
                .iter()
                .flat_map(|group| group.cases.iter().map(move |case| (group, case)))
            {
                let name = format!("{feature}/{file}: {}", case.name);
                if let Err(failure) = cases::run(group, case) {
                    failures.push(format!("{name}\n{failure}\n"));
                }
                ran.insert(name);
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(ran.len() > 200, "only {} cases", ran.len());
}
