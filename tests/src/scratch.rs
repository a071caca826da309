//! A directory of a test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed at the end, or kept and named if the test fails. Its path is short: a unix socket in it
/// must fit into 108 bytes.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory.
    #[must_use]
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pc-{}-{number}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file inside it and gives its path; missing folders are made.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        write(&path, text);
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for inspection: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Replaces a file in one step, as an editor or `kubectl` would, so that no reader sees half of it.
pub fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("a file has a folder");
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let half = folder.join(format!(".{name}.half"));
    fs::write(&half, text).unwrap_or_else(|error| panic!("{}: {error}", half.display()));
    fs::rename(&half, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
