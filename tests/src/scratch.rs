//! A directory of a test's own.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use crate::denials;

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

/// Makes a folder that only this user may enter.
pub(crate) fn make_private(folder: &Path) {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

/// Writes a file that only this user may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Replaces a file in one step, as an editor or `kubectl` would, so that no reader sees half of it.
pub fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("a file has a folder");
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let half = folder.join(format!(".{name}.half"));
    denials::look(folder);
    fs::write(&half, text).unwrap_or_else(|error| panic!("{}: {error}", half.display()));
    fs::rename(&half, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    denials::look(folder);
}
