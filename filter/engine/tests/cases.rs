//! Every case in `testdata/cases`, natively.

use std::{fs, path::Path};

use portcullis_engine::cases;

#[test]
fn every_case_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let mut failures = Vec::new();
    for feature in ["api_key", "authorization", "cors", "identity", "policy"] {
        let mut ran = 0;
        for entry in fs::read_dir(folder.join(feature)).unwrap() {
            let path = entry.unwrap().path();
            let groups = cases::parse(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for (group, case) in groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case))) {
                ran += 1;
                if let Err(failure) = cases::run(group, case) {
                    failures.push(format!("{}: {}\n{failure}\n", path.display(), case.name));
                }
            }
        }
        assert!(ran > 0, "no case of {feature}");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
