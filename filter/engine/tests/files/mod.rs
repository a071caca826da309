//! The files in `testdata/cases`.

use std::{fs, path::Path};

use portcullis_engine::cases::{self, Group};

/// One file of cases.
pub(crate) struct File {
    /// `feature/name.yaml`
    pub(crate) name: String,
    /// What it holds.
    pub(crate) groups: Vec<Group>,
}

/// Reads every file; a folder without one is a failure.
pub(crate) fn read() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let mut files = Vec::new();
    for feature in names(&folder) {
        let in_folder = names(&folder.join(&feature));
        assert!(!in_folder.is_empty(), "{feature} has no case");
        for file in in_folder {
            let name = format!("{feature}/{file}");
            let text = fs::read_to_string(folder.join(&name)).unwrap();
            let groups = cases::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            files.push(File { name, groups });
        }
    }
    files
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}
