//! Every case in `testdata/cases`, natively; and that the cases and `docs/differences.md` speak of the same differences.

mod files;

use std::{collections::BTreeSet, path::Path};

use portcullis_cases as cases;

#[test]
fn every_case_holds() {
    let mut names = BTreeSet::new();
    let mut failures = Vec::new();
    for file in files::read().unwrap() {
        for (group, case) in file
            .groups
            .iter()
            .flat_map(|group| group.cases.iter().map(move |case| (group, case)))
        {
            let name = format!("{}: {}", file.name, case.name);
            if let Err(failure) = cases::run(group, case) {
                failures.push(format!("{name}\n{failure}\n"));
            }
            assert!(names.insert(name.clone()), "two cases are called {name}");
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(names.len() > 200, "only {} cases", names.len());
}

#[test]
fn a_case_that_does_not_hold_fails() {
    let text = |expect: &str| {
        format!(
            "policy: {{version: 1, policy: a/b, apiKey: {{extractFrom: [{{header: k}}], forwardClientIdHeader: id}}}}\n\
             keys: {{alice: key}}\n\
             cases: [{{name: n, request: {{headers: [[k, key]]}}, expect: {expect}}}]\n"
        )
    };
    let run = |expect: &str| {
        let groups = cases::parse(&text(expect))?;
        cases::run(&groups[0], &groups[0].cases[0])
    };
    assert_eq!(
        run("{allow: true, principal: alice, reason: allowed, upstream: {headers: {id: alice}}}"),
        Ok(())
    );
    for wrong in [
        "{allow: false}",
        "{status: 401}",
        "{allow: true, status: 401}",
        "{reason: api_key_missing}",
        "{principal: bob}",
        "{principal: ''}",
        "{rule: some}",
        "{body: text}",
        "{upstream: {headers: {id: bob}}}",
        "{upstream: {headers: {id: [alice, alice]}}}",
        "{upstream: {removed: [id]}}",
        "{upstream: {path: /other}}",
        "{response: {headers: {vary: Origin}}}",
        "{response: {given: [[vary, a]], removed: [vary]}}",
        "{clear_route_cache: true}",
        "{untouched: true}",
        "{decode: policy_undecodable}",
        "{error: {path: a, code: b}}",
        "{misspelt: true}",
    ] {
        assert!(run(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_document_and_the_cases_name_the_same_differences() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences.md");
    let document = std::fs::read_to_string(document).unwrap();
    let ids: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| {
            id.split_once('-')
                .is_some_and(|(area, number)| is_ours(area) && number.parse::<u32>().is_ok())
        })
        .collect();
    let documented: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(documented.len(), ids.len(), "an id stands twice: {ids:?}");
    assert!(documented.len() > 20, "the table is not read: {documented:?}");

    let files = files::read().unwrap();
    let named: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| &file.groups)
        .flat_map(|group| &group.cases)
        .flat_map(|case| case.differences.iter().map(String::as_str))
        .collect();
    assert_eq!(named, documented);
}

fn is_ours(area: &str) -> bool {
    [
        "AUTH", "AUTHZ", "BASE", "BASIC", "CORS", "CSRF", "GEO", "ID", "JWT", "KEY", "PATH", "SHADOW",
    ]
    .contains(&area)
}
