//! A real Kubernetes of a test's own, made of what `make cluster` left in the cache; `tests/cluster` has the scripts.
//!
//! It lives as long as the pipe to the script that runs it, and thus never longer than the test, however that ends.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::{artefacts, scratch::Scratch, wait};

/// How long a cluster may take to start, and a pod to run, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running Kubernetes.
#[derive(Debug)]
pub struct Cluster {
    script: Child,
    pipe: Option<ChildStdin>,
    folder: Scratch,
}

/// A program for a node: an image of one layer, made without an engine.
#[derive(Clone, Debug)]
pub struct Image {
    /// The reference by which pods name it.
    pub name: String,
    /// What is in it, as a file of this machine and its place in the image; the first one is what it runs.
    pub files: Vec<(PathBuf, String)>,
    /// As whom it runs, as `65532:65532`.
    pub user: String,
}

impl Image {
    /// Stock Envoy with the C library that it is linked to, under the name of the official image.
    #[must_use]
    pub fn envoy() -> Self {
        let envoy = artefacts::envoy();
        let output = Command::new("ldd").arg(&envoy).output().expect("ldd runs");
        let text = finished("ldd", &output);
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        let mut files = vec![(envoy, "/usr/local/bin/envoy".to_owned())];
        files.extend(libraries.map(|library| (PathBuf::from(library), library.to_owned())));
        Self {
            name: "envoyproxy/envoy:v1.40.0".to_owned(),
            files,
            user: "101:101".to_owned(),
        }
    }
}

impl Cluster {
    /// Starts etcd and the API server alone, on loopback: three seconds. Several may run at once.
    #[must_use]
    pub fn control() -> Self {
        Self::start("control")
    }

    /// Starts etcd and the API server with our definitions and those of a channel of Gateway API.
    #[must_use]
    pub fn installed(channel: &str) -> Self {
        let cluster = Self::control();
        cluster.install_gateway_api(channel);
        cluster.install_ours();
        cluster
    }

    /// Starts everything, with a node named `node` that runs pods, in a network namespace of its own: fifteen seconds. Needs root.
    #[must_use]
    pub fn with_node() -> Self {
        Self::start("node")
    }

    fn start(extent: &str) -> Self {
        let folder = Scratch::new();
        let log = |name: &str| {
            let path = folder.join(name);
            fs::File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let mut script = Command::new(scripts().join("up.sh"))
            .arg(folder.path())
            .arg(extent)
            .stdin(Stdio::piped())
            .stdout(log("up.out"))
            .stderr(log("up.err"))
            .spawn()
            .expect("the script runs");
        let pipe = script.stdin.take();
        let mut cluster = Self { script, pipe, folder };
        wait::until("Kubernetes is ready", PATIENCE, || {
            if let Some(status) = cluster.script.try_wait().expect("a child can be waited for") {
                panic!("no Kubernetes ({status}): {}", cluster.read("up.err"));
            }
            (cluster.read("up.out") == "ready\n").then_some(())
        });
        cluster
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig/admin")
    }

    /// The node's address, which this machine reaches and where ports of the node are.
    ///
    /// # Panics
    /// If the cluster has no node.
    #[must_use]
    pub fn address(&self) -> String {
        format!("10.200.{}.2", self.network().expect("the cluster has a node"))
    }

    /// Where the API server listens, as `https://127.0.0.1:6443`.
    #[must_use]
    pub fn server(&self) -> String {
        match self.network() {
            Some(_) => format!("https://{}:6443", self.address()),
            None => format!("https://127.0.0.1:{}", self.read("port").trim()),
        }
    }

    /// A certificate or key of the cluster, such as `ca.crt`, `admin.crt` and `admin.key`.
    #[must_use]
    pub fn pki(&self, name: &str) -> PathBuf {
        self.folder.join("pki").join(name)
    }

    /// A program in the cluster's network, as its administrator.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self.network() {
            Some(number) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/portcullis-{number}"))
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env("KUBECONFIG", self.kubeconfig());
        // Nothing that the user has may change what a test does.
        command.env("HOME", self.folder.path());
        command
    }

    /// Runs kubectl to its end, whatever it comes to.
    #[must_use]
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(&built("bin/kubectl"));
        command.args(arguments).output().expect("kubectl runs")
    }

    /// Runs kubectl and gives what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        finished(
            &format!("kubectl {}", arguments.join(" ")),
            &self.try_kubectl(arguments),
        )
    }

    /// Runs kubectl with a text as its standard input.
    #[must_use]
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(&built("bin/kubectl"));
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut pipe = child.stdin.take().expect("it has an input");
        thread::scope(|scope| {
            scope.spawn(move || pipe.write_all(input.as_bytes()));
            child.wait_with_output().expect("kubectl ends")
        })
    }

    /// Applies manifests by server-side apply; a field that the server does not know is an error.
    pub fn apply(&self, manifests: &str) -> String {
        let arguments = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        finished("kubectl apply", &self.kubectl_with(&arguments, manifests))
    }

    /// Runs Helm and gives what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let output = self.command(&built("bin/helm")).args(arguments).output();
        finished(&format!("helm {}", arguments.join(" ")), &output.expect("Helm runs"))
    }

    /// Installs the definitions of Gateway API, of a channel (`standard` or `experimental`), and waits until they are served.
    pub fn install_gateway_api(&self, channel: &str) {
        self.install(&built("crds").join(channel));
    }

    /// Installs our definitions and waits until they are served.
    pub fn install_ours(&self) {
        self.install(&artefacts::root().join("manifests/crds"));
    }

    fn install(&self, folder: &Path) {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut arguments = vec!["apply".to_owned(), "--server-side".to_owned()];
        for entry in entries {
            let file = entry.expect("a folder entry").path();
            if file.file_name().is_some_and(|name| name != "kustomization.yaml") {
                arguments.push(format!("--filename={}", file.display()));
            }
        }
        self.kubectl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let waiting = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        wait::until("the definitions are served", PATIENCE, || {
            // kubectl takes a definition without any condition yet as an error.
            self.try_kubectl(&waiting).status.success().then_some(())
        });
    }

    /// Waits until all pods of a Deployment are those that it asks for, and ready.
    pub fn until_rolled_out(&self, namespace: &str, deployment: &str) {
        let deployment = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "status", "-n", namespace, &deployment, "--timeout=120s"]);
    }

    /// Gives the node the images of the controller and of the filter, and that of stock Envoy.
    pub fn import_ours(&self) {
        for name in ["controller", "filter"] {
            self.import(&Image {
                name: format!("portcullis/{name}:{}", env!("CARGO_PKG_VERSION")),
                files: vec![
                    (artefacts::controller(), "/portcullis".to_owned()),
                    (artefacts::filter(), "/portcullis.wasm".to_owned()),
                ],
                user: "65532:65532".to_owned(),
            });
        }
        self.import(&Image::envoy());
    }

    /// Gives the node an image.
    pub fn import(&self, image: &Image) {
        let archive = self.folder.join("image.tar");
        let mut command = Command::new("python3");
        command.arg("-B").arg(scripts().join("image.py")).arg(&archive);
        for (file, place) in &image.files {
            command.arg("--file").arg(format!("{}={place}", file.display()));
        }
        command.args(["--name", &image.name, "--user", &image.user]);
        finished("image.py", &command.output().expect("Python runs"));
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.folder.join("containerd/c.sock"));
        command
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(&archive);
        finished("ctr images import", &command.output().expect("ctr runs"));
        fs::remove_file(&archive).expect("the archive is there");
    }

    fn network(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("network")).ok()?;
        Some(text.trim().to_owned())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The script stops everything when its input ends.
        self.pipe.take();
        let _ = self.script.wait();
    }
}

/// What `make cluster` has left in the cache below a path, such as `bin/kubectl`.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn built(path: &str) -> PathBuf {
    let output = Command::new(scripts().join("where.sh"))
        .output()
        .expect("the script runs");
    let path = Path::new(finished("where.sh", &output).trim()).join(path);
    assert!(path.exists(), "{} is missing: run `make cluster`", path.display());
    path
}

fn scripts() -> PathBuf {
    artefacts::root().join("tests/cluster")
}

fn finished(what: &str, output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
