//! Paths to texts, as `kubectl -f` reads them: a file, a folder's manifests, stdin.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

/// The name that stdin has in messages.
pub(crate) const STDIN: &str = "stdin";

/// The largest manifest that is read, in bytes: what is larger is no manifest, but a mistake.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where manifests come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What was named, in order; `-` is stdin.
    pub paths: Vec<PathBuf>,
    /// Whether folders are read with their folders.
    pub recursive: bool,
}

/// One file as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The name in messages: the path as the user would write it.
    pub name: String,
    /// The text, or why there is none.
    pub text: Result<String, Unreadable>,
}

/// A path that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct Unreadable {
    /// The path.
    pub path: String,
    /// Why, with the fix.
    pub reason: String,
}

impl Unreadable {
    fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.display().to_string(),
            reason: reason.into(),
        }
    }

    fn io(path: &Path, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file or folder; check the path".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read; give this user read permission".to_owned(),
            _ => error.to_string(),
        };
        Self::new(path, reason)
    }
}

impl Source {
    /// The files that the paths stand for, each once, in the order of the paths and then by name.
    ///
    /// # Errors
    ///
    /// Names each path that does not exist or cannot be listed; the others are still in the list.
    pub(crate) fn files(&self) -> (Vec<PathBuf>, Vec<Unreadable>) {
        let (mut files, mut errors) = (Vec::new(), Vec::new());
        for path in &self.paths {
            if is_stdin(path) {
                files.push(path.clone());
                continue;
            }
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    if let Err(error) = list(path, self.recursive, &mut files) {
                        errors.push(error);
                    }
                }
                Ok(_) => files.push(path.clone()),
                Err(error) => errors.push(Unreadable::io(path, &error)),
            }
        }
        let mut seen = std::collections::HashSet::new();
        files.retain(|file| seen.insert(file.clone()));
        (files, errors)
    }

    /// Reads every file; a file that cannot be read is in the list with its reason.
    pub(crate) fn read(&self) -> Vec<Found> {
        let (files, errors) = self.files();
        let mut found: Vec<_> = files
            .iter()
            .map(|path| Found {
                name: name(path),
                text: text(path),
            })
            .collect();
        found.extend(errors.into_iter().map(|error| Found {
            name: error.path.clone(),
            text: Err(error),
        }));
        found
    }

    /// Reads every file, or tells all that cannot be read.
    ///
    /// # Errors
    ///
    /// Every path and file that cannot be read; no path at all.
    pub(crate) fn read_all(&self) -> Result<Vec<(String, String)>, Vec<Unreadable>> {
        let mut texts = Vec::new();
        let mut errors = Vec::new();
        for Found { name, text } in self.read() {
            match text {
                Ok(text) => texts.push((name, text)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(texts) } else { Err(errors) }
    }
}

/// Whether the path stands for stdin.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether a file in a folder counts as a manifest: not hidden, with one of kubectl's suffixes.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let suffix = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(suffix, Some("yaml" | "yml" | "json"))
}

fn name(path: &Path) -> String {
    if is_stdin(path) {
        STDIN.to_owned()
    } else {
        let shown = path.strip_prefix("./").unwrap_or(path);
        shown.display().to_string()
    }
}

fn text(path: &Path) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    let read = if is_stdin(path) {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    let length = read.map_err(|error| Unreadable::io(path, &error))?;
    if length as u64 > MAX_BYTES {
        return Err(Unreadable::new(path, "is larger than 64 MiB; split it"));
    }
    String::from_utf8(bytes).map_err(|error| {
        Unreadable::new(
            path,
            format!(
                "is not UTF-8 from byte {}; save it as UTF-8",
                error.utf8_error().valid_up_to()
            ),
        )
    })
}

fn list(folder: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<(), Unreadable> {
    let failed = |error: io::Error| Unreadable::io(folder, &error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        entries.push((entry.path(), entry.file_type().map_err(failed)?));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, kind) in entries {
        if kind.is_dir() {
            let hidden = path
                .file_name()
                .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if recursive && !hidden {
                list(&path, recursive, files)?;
            }
        } else if is_manifest(&path) && (kind.is_file() || !path.is_dir()) {
            // A link that leads nowhere stays in the list: reading it tells the reason, and nothing is lost unsaid.
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(paths: &[&Path], recursive: bool) -> Source {
        Source {
            paths: paths.iter().map(|path| path.to_path_buf()).collect(),
            recursive,
        }
    }

    fn names(source: &Source, root: &Path) -> Vec<String> {
        let (files, errors) = source.files();
        assert!(errors.is_empty(), "{errors:?}");
        files
            .iter()
            .map(|file| file.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn a_folder_gives_its_manifests_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in [
            "b.yml",
            "a.yaml",
            "c.json",
            ".hidden.yaml",
            "a.yaml~",
            "README.md",
            "deep/d.yaml",
            ".git/e.yaml",
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(names(&source(&[root], false), root), ["a.yaml", "b.yml", "c.json"]);
        assert_eq!(
            names(&source(&[root], true), root),
            ["a.yaml", "b.yml", "c.json", "deep/d.yaml"]
        );
    }

    #[test]
    fn a_named_file_needs_no_suffix_and_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.txt");
        fs::write(&file, "text").unwrap();
        let texts = source(&[&file, &file], false).read_all().unwrap();
        assert_eq!(texts, [(file.display().to_string(), "text".to_owned())]);
    }

    #[test]
    fn links_are_followed_to_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("..2026")).unwrap();
        fs::write(root.join("..2026/policy.yaml"), "one").unwrap();
        std::os::unix::fs::symlink("..2026", root.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/policy.yaml", root.join("policy.yaml")).unwrap();
        let texts = source(&[root], true).read_all().unwrap();
        assert_eq!(
            texts,
            [(root.join("policy.yaml").display().to_string(), "one".to_owned())]
        );
    }

    #[test]
    fn every_unreadable_path_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("bytes.yaml"), b"a: \xff").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling.yaml")).unwrap();
        let missing = root.join("missing");
        let errors = source(&[&missing, root], false).read_all().unwrap_err();
        let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(
            text[0].ends_with("bytes.yaml: is not UTF-8 from byte 3; save it as UTF-8"),
            "{text:?}"
        );
        assert!(
            text[1].ends_with("dangling.yaml: no such file or folder; check the path"),
            "{text:?}"
        );
        assert!(
            text[2].ends_with("missing: no such file or folder; check the path"),
            "{text:?}"
        );
    }
}
