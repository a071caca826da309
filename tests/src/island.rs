//! A copy of what a user needs, in a network of its own that reaches nothing: the quickstart's fixed ports are free in
//! there, and whoever needs a network fails.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    artefacts,
    scratch::Scratch,
    spawned::Spawned,
    wait::{self, PATIENCE},
};

/// The unprivileged user that everything runs as when the tests run as root.
const NOBODY: &str = "65534";

/// The copy and its network. Without root there is no network of its own; everything else is the same.
#[derive(Debug)]
pub struct Island {
    /// The copied checkout.
    pub folder: Scratch,
    network: Option<Network>,
}

/// A network other than that of the test.
#[derive(Debug)]
enum Network {
    /// That of a program of ours, which does nothing else.
    Own(Spawned),
    /// The one that this file stands for.
    At(PathBuf),
}

impl Island {
    /// Copies the artefacts, the quickstart and the scripts of `make up`.
    #[must_use]
    pub fn new() -> Self {
        let folder = Scratch::new();
        let root = artefacts::root();
        let copies = [
            (artefacts::controller(), "dist/portcullis"),
            (artefacts::filter(), "dist/portcullis.wasm"),
            (artefacts::envoy(), "envoy"),
            (root.join("envoy-config/echo.yaml"), "envoy-config/echo.yaml"),
            (root.join("tests/make/up.sh"), "tests/make/up.sh"),
            (root.join("tests/make/down.sh"), "tests/make/down.sh"),
        ];
        for (from, to) in copies {
            copy(&from, &folder.join(to));
        }
        copy_all(
            &root.join("manifests/examples/quickstart"),
            &folder.join("manifests/examples/quickstart"),
        );
        let mut island = Self { folder, network: None };
        if is_root() {
            give_away(island.folder.path());
            island.separate();
        }
        island
    }

    fn separate(&mut self) {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"]);
        let holder = Spawned::start(command, &self.folder.join("holder"));
        wait::until("the network is up", PATIENCE, || {
            holder.stdout().contains("up").then_some(())
        });
        self.network = Some(Network::Own(holder));
    }

    /// Moves into another network, such as that of a pod: the file stands for it.
    pub fn enter(&mut self, network: PathBuf) {
        self.network = Some(Network::At(network));
    }

    /// Copies a folder of the checkout with everything in it.
    pub fn copy(&self, folder: &str) {
        let from = artefacts::root().join(folder);
        let to = self.folder.join(folder);
        copy_all(&from, &to);
        if is_root() {
            give_away(&to);
        }
    }

    /// A command inside, as an ordinary user, in the copied checkout.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let network = match &self.network {
            None => None,
            Some(Network::Own(holder)) => Some(PathBuf::from(format!("/proc/{}/ns/net", holder.pid()))),
            Some(Network::At(network)) => Some(network.clone()),
        };
        let mut command = match network {
            None => Command::new(program),
            Some(network) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net={}", network.display()))
                    .args(["--", "setpriv"]);
                command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", program]);
                command
            }
        };
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("PORTCULLIS_ENVOY", self.envoy());
        command.env("envoy", self.envoy());
        command
    }

    /// The copied Envoy.
    #[must_use]
    pub fn envoy(&self) -> PathBuf {
        self.folder.join("envoy")
    }

    /// Runs a line of shell inside to its end.
    #[must_use]
    pub fn shell(&self, line: &str) -> Output {
        self.command("bash").args(["-c", line]).output().expect("bash runs")
    }
}

impl Default for Island {
    fn default() -> Self {
        Self::new()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("the folder can be made");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("a folder entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            copy(&entry.path(), &target);
        }
    }
}

fn give_away(path: &Path) {
    let owned = Command::new("chown")
        .args(["-R", &format!("{NOBODY}:{NOBODY}")])
        .arg(path)
        .status();
    assert!(owned.is_ok_and(|status| status.success()), "the copy is given away");
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    output.stdout.starts_with(b"0\n")
}
