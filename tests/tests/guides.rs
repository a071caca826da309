//! Every command of every guide, as a reader types it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use portcullis_e2e::{artefacts, guide, island::Island};

fn guides() -> Vec<PathBuf> {
    let folder = artefacts::root().join("docs/guides");
    let mut guides: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the guides")
        .map(|entry| entry.expect("a guide").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    guides.sort();
    guides
}

#[test]
fn every_command_of_every_guide_does_what_it_says() {
    let mut ran = 0;
    for path in guides() {
        let steps = guide::steps(&fs::read_to_string(&path).expect("the guide")).len();
        if steps == 0 {
            continue;
        }
        println!("{}: {steps} commands", path.display());
        let mut island = Island::new();
        island.copy("manifests/examples");
        guide::run(&mut island, &path);
        ran += steps;
    }
    assert!(ran >= 30, "only {ran} commands were found");
}

#[test]
fn every_guide_is_listed_and_every_example_has_a_guide() {
    let root = artefacts::root();
    let index = fs::read_to_string(root.join("docs/guides/README.md")).expect("the index");
    let mut texts = String::new();
    for path in guides() {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(
            name == "README.md" || index.contains(&format!("({name})")),
            "{name} is not listed"
        );
        texts.push_str(&fs::read_to_string(&path).expect("the guide"));
    }
    let examples: BTreeSet<String> = fs::read_dir(root.join("manifests/examples"))
        .expect("the examples")
        .map(|entry| entry.expect("an example").file_name().to_string_lossy().into_owned())
        .collect();
    let unnamed: Vec<&String> = examples
        .iter()
        .filter(|example| *example != "quickstart" && !texts.contains(&format!("manifests/examples/{example}")))
        .collect();
    assert!(unnamed.is_empty(), "examples that no guide uses: {unnamed:?}");
}
