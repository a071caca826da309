//! What a folder of manifests held over time, so that a request is explained by what was in force.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{clock, scratch};

/// How long Envoy may go on with manifests after they were edited, and how long a controller may take to write down what
/// Envoy refused, in milliseconds.
const LAG: u64 = 3_000;
/// How often it is looked at while requests are refused.
const GLANCE: Duration = Duration::from_millis(20);

/// The versions of one folder.
#[derive(Debug)]
pub(super) struct Versions {
    folder: PathBuf,
    state: PathBuf,
    all: Vec<Version>,
    looked: Instant,
}

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// What was there from a moment on.
#[derive(Debug)]
struct Version {
    /// Milliseconds since 1970.
    since: u64,
    manifests: Files,
    /// The controller's own files.
    state: Files,
}

impl Versions {
    pub(super) fn new(folder: &Path, state: &Path) -> Self {
        let mut versions = Self {
            folder: folder.to_path_buf(),
            state: state.to_path_buf(),
            all: Vec::new(),
            looked: Instant::now(),
        };
        versions.look();
        versions
    }

    pub(super) fn are_of(&self, folder: &Path) -> bool {
        self.folder == folder
    }

    /// Takes what is there now, if it is something else than the last time.
    pub(super) fn look(&mut self) {
        self.looked = Instant::now();
        let is_manifest = |name: &str| [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
        let manifests = read(&self.folder, is_manifest);
        let state = read(&self.state, |name| !name.ends_with(".sock"));
        let same = |last: &Version| last.manifests == manifests && last.state == state;
        if !self.all.last().is_some_and(same) {
            self.all.push(Version {
                since: clock::milliseconds(),
                manifests,
                state,
            });
        }
    }

    /// As [`Self::look`], unless that was just now.
    pub(super) fn glance(&mut self) {
        if self.looked.elapsed() > GLANCE {
            self.look();
        }
    }

    /// Those that may have decided a request, the likeliest first: the one of its time, then its neighbours. Where the flag
    /// is set it was there at some time from [`LAG`] before the request until [`LAG`] after it; the others count only if of
    /// these none can be read, which leaves what was before in force.
    pub(super) fn in_force(&self, sent: u64, answered: u64) -> Vec<(usize, bool)> {
        let before = |moment: u64| {
            self.all
                .iter()
                .rposition(|version| version.since <= moment)
                .unwrap_or(0)
        };
        let (first, last) = (before(sent.saturating_sub(LAG)), before(answered + LAG));
        let at = before(answered);
        let mut surely: Vec<usize> = (first..=last).collect();
        surely.sort_by_key(|version| version.abs_diff(at));
        let surely = surely.into_iter().map(|version| (version, true));
        let before = (0..first).rev().map(|version| (version, false));
        surely.chain(before).collect()
    }

    /// Whether the controller found a virtual host that Envoy does not take, soon after a request or before.
    pub(super) fn have_convicted(&self, sent: u64, answered: u64) -> bool {
        let convicts = |version: &Version| {
            let memory = version
                .state
                .get("quarantine.json")
                .map_or("", |bytes| std::str::from_utf8(bytes).unwrap_or(""));
            memory.contains("\"reason\"")
        };
        let versions = self.in_force(sent, answered);
        versions
            .iter()
            .any(|(version, surely)| *surely && convicts(&self.all[*version]))
    }

    /// Writes a version's manifests to `manifests` in a folder and the controller's files to `state`.
    pub(super) fn write(&self, version: usize, to: &Path) {
        let version = &self.all[version];
        for (part, files) in [("manifests", &version.manifests), ("state", &version.state)] {
            let folder = to.join(part);
            scratch::make_private(&folder);
            for (name, bytes) in files {
                scratch::write_private(&folder.join(name), bytes);
            }
        }
    }
}

fn read(folder: &Path, wanted: impl Fn(&str) -> bool) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !wanted(&name) {
            continue;
        }
        // One that is being replaced is there again the next time.
        if let Ok(bytes) = fs::read(entry.path()) {
            files.insert(name, bytes);
        }
    }
    files
}
