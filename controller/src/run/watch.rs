//! When the manifests may have changed: file events, and a look every second for what events do not tell.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::mpsc;

use super::debounce::{Change, Debounce};
use crate::source::{self, Source};

/// How often files are looked at beside their events: network and shared folders send none.
const LOOK: Duration = Duration::from_secs(1);

/// How often they are looked at if there are no events at all.
const LOOK_WITHOUT_EVENTS: Duration = Duration::from_millis(300);

/// Tells when to read the manifests again.
#[derive(Debug)]
pub(crate) struct Watch {
    source: Source,
    watcher: Option<RecommendedWatcher>,
    sender: mpsc::UnboundedSender<Change>,
    changes: mpsc::UnboundedReceiver<Change>,
    folders: BTreeSet<Folder>,
    seen: Vec<Print>,
    debounce: Debounce,
}

/// A folder that is watched; its inode tells whether another folder has taken its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Folder {
    path: PathBuf,
    recursive: bool,
    inode: Option<(u64, u64)>,
}

/// What tells, without reading it, that a file is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    path: PathBuf,
    state: Option<(u64, u64, u64, i64, i64)>,
}

impl Watch {
    /// Starts to watch; the reason is given if file events are not to be had, and files are looked at instead.
    pub(crate) fn new(source: Source) -> (Self, Option<String>) {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut watch = Self {
            source,
            watcher: None,
            sender,
            changes,
            folders: BTreeSet::new(),
            seen: Vec::new(),
            debounce: Debounce::default(),
        };
        let files = watch.source.files().0;
        let trouble = watch.renew(&files).err();
        watch.seen = prints(files);
        (watch, trouble)
    }

    /// Waits until the manifests may have changed. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        let mut look = Instant::now() + self.interval();
        loop {
            let due = self.debounce.due();
            let wake = due.map_or(look, |due| due.min(look));
            tokio::select! {
                change = self.changes.recv() => {
                    if let Some(change) = change {
                        self.debounce.note(Instant::now(), change);
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if due.is_some_and(|due| due <= Instant::now()) {
                        self.debounce.clear();
                        let files = self.source.files().0;
                        let _ = self.renew(&files);
                        self.seen = prints(files);
                        return;
                    }
                    look = Instant::now() + self.interval();
                    let now = prints(self.source.files().0);
                    if now != self.seen {
                        self.seen = now;
                        self.debounce.note(Instant::now(), Change::Other);
                    }
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        if self.watcher.is_some() {
            LOOK
        } else {
            LOOK_WITHOUT_EVENTS
        }
    }

    /// Watches the folders that matter now, anew if they are others than before.
    fn renew(&mut self, files: &[PathBuf]) -> Result<(), String> {
        let folders = self.wanted(files);
        if folders == self.folders {
            return Ok(());
        }
        let sender = self.sender.clone();
        let source = self.source.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            for change in event.map_or_else(|_| vec![Change::Other], |event| changes(&source, event)) {
                // The receiver lives as long as the watcher.
                let _ = sender.send(change);
            }
        });
        self.watcher = None;
        let mut watcher = watcher.map_err(|error| error.to_string())?;
        for folder in folders.iter().filter(|folder| folder.inode.is_some()) {
            let mode = if folder.recursive {
                RecursiveMode::Recursive
            } else {
                RecursiveMode::NonRecursive
            };
            watcher
                .watch(&folder.path, mode)
                .map_err(|error| format!("{}: {error}", folder.path.display()))?;
        }
        self.watcher = Some(watcher);
        self.folders = folders;
        Ok(())
    }

    /// Each named folder; the folder of each named file; and the folders that links lead to.
    fn wanted(&self, files: &[PathBuf]) -> BTreeSet<Folder> {
        let mut folders = BTreeSet::new();
        let mut add = |path: &Path, recursive: bool| {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            folders.insert(Folder {
                path: path.to_path_buf(),
                recursive,
                inode: fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino())),
            });
        };
        for path in self.source.paths.iter().filter(|path| !source::is_stdin(path)) {
            if path.is_dir() {
                add(path, self.source.recursive);
            }
            // A folder's own folder too: it may be replaced as a whole.
            if let Some(parent) = path.parent() {
                add(parent, false);
            }
        }
        for file in files.iter().filter(|file| file.is_symlink()) {
            if let Ok(target) = fs::canonicalize(file)
                && let Some(parent) = target.parent()
            {
                add(parent, false);
            }
        }
        folders
    }
}

/// What files look like from outside.
fn prints(files: Vec<PathBuf>) -> Vec<Print> {
    files
        .into_iter()
        .filter(|path| !source::is_stdin(path))
        .map(|path| Print {
            state: fs::metadata(&path).ok().map(|metadata| {
                (
                    metadata.dev(),
                    metadata.ino(),
                    metadata.size(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                )
            }),
            path,
        })
        .collect()
}

/// What an event says about manifests; reading a file is an event too, and says nothing.
fn changes(source: &Source, event: Event) -> Vec<Change> {
    // Every manifest is read after each change: not one of these events is worth a look at its path.
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
        return Vec::new();
    }
    let of = |path: PathBuf| match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Change::Settled(path)),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_)) => Some(Change::Writing(path)),
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Some(Change::Settled(path)),
        _ => Some(Change::Other),
    };
    if event.paths.is_empty() {
        return vec![Change::Other];
    }
    event
        .paths
        .into_iter()
        .filter(|path| concerns(source, path))
        .filter_map(of)
        .collect()
}

/// Whether a path may be about a manifest: not an editor's hidden file, and not a neighbour of a named file.
fn concerns(source: &Source, path: &Path) -> bool {
    let Some(name) = path.file_name() else {
        return true;
    };
    let bytes = name.as_encoded_bytes();
    // Kubernetes swaps the link `..data`.
    if bytes.starts_with(b"..") {
        return true;
    }
    if bytes.starts_with(b".") {
        return false;
    }
    source.paths.iter().any(|named| {
        named.file_name() == Some(name)
            || path.starts_with(named) && (source::is_manifest(path) || path.extension().is_none())
            || named.file_name().is_none()
    }) || path.is_symlink()
        || source::is_manifest(path) && source.paths.iter().any(|named| named.is_dir() || named.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(path: &Path) -> Watch {
        let (watch, trouble) = Watch::new(Source {
            paths: vec![path.to_path_buf()],
            recursive: false,
        });
        assert_eq!(trouble, None);
        watch
    }

    async fn within(watch: &mut Watch, milliseconds: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(milliseconds), watch.changed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn writing_renaming_and_deleting_are_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("a.yaml"), "one").unwrap();
        let mut watch = watched(root);
        assert!(!within(&mut watch, 300).await, "nothing has changed");

        fs::write(root.join("a.yaml"), "two").unwrap();
        assert!(within(&mut watch, 400).await, "a file was written");

        fs::write(root.join(".a.yaml.swp"), "three").unwrap();
        assert!(!within(&mut watch, 300).await, "an editor's own file is nothing");
        fs::rename(root.join(".a.yaml.swp"), root.join("a.yaml")).unwrap();
        assert!(within(&mut watch, 400).await, "a file took another's name");

        fs::remove_file(root.join("a.yaml")).unwrap();
        assert!(within(&mut watch, 400).await, "a file was deleted");
    }

    #[tokio::test]
    async fn a_named_file_is_seen_when_an_editor_replaces_it_and_its_neighbours_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = watched(&file);
        fs::write(folder.path().join("neighbour.yaml"), "").unwrap();
        assert!(!within(&mut watch, 300).await);
        fs::write(folder.path().join("policy.new"), "two").unwrap();
        fs::rename(folder.path().join("policy.new"), &file).unwrap();
        assert!(within(&mut watch, 400).await);
    }

    #[tokio::test]
    async fn the_swap_of_a_configmap_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("policy.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", root.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/policy.yaml", root.join("policy.yaml")).unwrap();
        for named in [root.to_path_buf(), root.join("policy.yaml")] {
            let mut watch = watched(&named);
            std::os::unix::fs::symlink("..2", root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
            assert!(within(&mut watch, 400).await, "{}", named.display());
            let _ = fs::remove_dir_all(root.join("..data_tmp"));
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_as_a_whole_is_watched_on() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("manifests");
        for name in ["manifests", "next"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("a.yaml"), name).unwrap();
        }
        let mut watch = watched(&named);
        fs::rename(&named, folder.path().join("old")).unwrap();
        fs::rename(folder.path().join("next"), &named).unwrap();
        assert!(within(&mut watch, 1500).await);
        fs::write(named.join("a.yaml"), "changed").unwrap();
        assert!(within(&mut watch, 400).await, "the new folder is watched");
    }

    #[tokio::test]
    async fn a_change_without_events_is_found_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "one").unwrap();
        let mut watch = watched(folder.path());
        watch.watcher = None;
        fs::write(&file, "two and more").unwrap();
        assert!(within(&mut watch, 1000).await);
    }
}
