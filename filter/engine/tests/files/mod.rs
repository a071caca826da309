//! The files in `testdata/cases`.

use std::{fs, path::Path};

use portcullis_cases::{self as cases, Group};

/// One file of cases.
pub(crate) struct File {
    /// `feature/name.yaml`
    pub(crate) name: String,
    /// What it holds.
    pub(crate) groups: Vec<Group>,
}

/// Reads every file; a folder without one is an error.
pub(crate) fn read() -> Result<Vec<File>, Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let mut files = Vec::new();
    for feature in names(&folder)? {
        for file in names(&folder.join(&feature))? {
            let name = format!("{feature}/{file}");
            let text = fs::read_to_string(folder.join(&name))?;
            let groups = cases::parse(&text).map_err(|error| format!("{name}: {error}"))?;
            files.push(File { name, groups });
        }
    }
    Ok(files)
}

fn names(folder: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    if names.is_empty() {
        return Err(format!("{} is empty", folder.display()).into());
    }
    Ok(names)
}
