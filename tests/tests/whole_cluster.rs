//! The guide for Kubernetes, on a real cluster: the controller and its Envoys as pods, installed as a user installs them.

use std::{
    collections::BTreeMap,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use portcullis_e2e::{
    access_log::Entry,
    artefacts,
    cluster::{self, Cluster},
    guide::{self, Expected, Serving, Step},
    island::Island,
    scratch::Scratch,
    spawned::Spawned,
    wait::{self, PATIENCE},
};

const NAMESPACE: &str = "portcullis-system";

fn installed() -> Cluster {
    let cluster = Cluster::with_node();
    // An example asks for retries, which the standard channel does not know.
    cluster.install_gateway_api("experimental");
    cluster.import_ours();
    cluster
}

/// A command of the guide, as its reader types it, in the cluster's network.
fn shell(cluster: &Cluster, command: &str) -> Output {
    let tools = cluster::built("bin");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = cluster.command(Path::new("bash"));
    bash.args(["-c", command]).current_dir(artefacts::root());
    bash.env("PATH", format!("{}:{path}", tools.display()));
    bash.output().expect("bash runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What is known of a cluster in which something went wrong.
fn state(cluster: &Cluster) -> String {
    let shown = |line: &str| text(&shell(cluster, line));
    [
        "kubectl get pods -A -o wide",
        "kubectl get events -A --sort-by .lastTimestamp | tail -30",
        "kubectl logs -n portcullis-system deployment/portcullis --all-pods --tail 30",
        "kubectl logs -n portcullis-system -l app.kubernetes.io/name=portcullis-envoy --prefix --tail 40",
        "dist/portcullis status --kubernetes -A",
    ]
    .map(shown)
    .join("\n")
}

#[test]
fn the_guide_for_kubernetes_does_what_it_says() {
    let cluster = installed();
    let file = artefacts::root().join("docs/guides/kubernetes.md");
    let steps = guide::cluster_steps(&fs::read_to_string(&file).expect("the guide"));
    assert!(steps.len() >= 12, "only {} commands", steps.len());
    for step in &steps {
        let Expected::Exit(code) = step.expected else {
            panic!("{}: what must come of it?", step.command);
        };
        println!("{}", step.command);
        let output = shell(&cluster, &step.command);
        let printed = text(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}\n{printed}\n{}",
            step.command,
            state(&cluster)
        );
        guide::assert_prints(step, &printed, "kubernetes.md");
    }
    either_replica_may_go(&cluster);
    let examples = artefacts::root().join("manifests/examples/kubernetes/shop.yaml");
    cluster.kubectl(&["delete", "-f", examples.to_str().expect("the path is a text")]);
    cluster.helm(&["uninstall", "public", "-n", NAMESPACE]);
    every_example_gives_its_answers_through_a_pod(&cluster);
}

/// The guides of the examples, in the network of a pod of stock Envoy, with `kubectl apply` instead of `portcullis run`.
fn every_example_gives_its_answers_through_a_pod(cluster: &Cluster) {
    let mut served = 0;
    let mut pods = Pods::new(cluster);
    let folder = artefacts::root().join("docs/guides");
    let mut guides: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the guides")
        .map(|entry| entry.expect("a guide").path())
        .collect();
    guides.sort();
    let scratch = Scratch::new();
    guides.push(scratch.write("quickstart.md", &quickstart()));
    for path in guides {
        let steps = guide::steps(&fs::read_to_string(&path).expect("the guide"));
        // One that starts an Envoy of its own is about that one.
        let mut starts = steps.iter().filter(|step| step.expected == Expected::Serves);
        if !starts.any(|step| step.command.contains(" --envoy ")) {
            continue;
        }
        println!("{}", path.display());
        let mut island = Island::new();
        island.copy("manifests/examples");
        let run = AssertUnwindSafe(|| guide::run_with(&mut island, &path, &mut pods));
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("{}\n{}", text(&island.shell("ss -ltn")), state(cluster));
            std::panic::resume_unwind(panic);
        }
        pods.forget(&island);
        served += 1;
    }
    assert!(served >= 18, "only {served} guides");
}

/// What `make up` prints, as a guide.
fn quickstart() -> String {
    let folder = "manifests/examples/quickstart";
    let requests = fs::read_to_string(artefacts::root().join(folder).join("curl.txt")).expect("requests");
    let requests = requests.lines().filter(|line| line.starts_with("curl "));
    let mut text = format!("```console\n$ dist/portcullis run -f {folder} --envoy $envoy\n");
    for request in requests {
        text.push_str(&format!("$ {request}\n"));
    }
    text + "```\n"
}

/// The Envoys of the examples' Gateways, each a pod that stays when the next example comes.
struct Pods<'a> {
    cluster: &'a Cluster,
    /// Their networks, by `NAMESPACE/NAME` of the Gateway, with the backend that the examples expect there.
    networks: BTreeMap<String, (PathBuf, Spawned)>,
    /// What is applied now, and where it says what was decided.
    applied: Option<(PathBuf, Spawned)>,
}

impl<'a> Pods<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            networks: BTreeMap::new(),
            applied: None,
        }
    }

    /// Takes away what was applied.
    fn forget(&mut self, island: &Island) {
        if let Some((folder, _)) = self.applied.take() {
            let folder = island.folder.join(folder.to_str().expect("the path is a text"));
            let folder = folder.to_str().expect("the path is a text");
            self.cluster.kubectl(&["delete", "--ignore-not-found", "-f", folder]);
            // Deleted with the example, and the controller's own.
            let class = artefacts::root().join("manifests/controller/gateway-class.yaml");
            self.cluster
                .kubectl(&["apply", "-f", class.to_str().expect("the path is a text")]);
        }
    }

    fn apply(&self, island: &Island, folder: &Path) -> Output {
        let folder = island.folder.join(folder.to_str().expect("the path is a text"));
        let folder = folder.to_str().expect("the path is a text");
        self.cluster.try_kubectl(&["apply", "-f", folder])
    }

    /// Starts the Envoy of a Gateway, and the examples' backend beside it.
    fn start(&self, gateway: &str) -> (PathBuf, Spawned) {
        let (namespace, name) = gateway.split_once('/').expect("it has a namespace");
        let chart = artefacts::root().join("manifests/charts/portcullis-envoy");
        let release = release(gateway);
        let values = format!(
            "gateway.namespace={namespace},gateway.name={name},replicas=1,concurrency=1,accessLogFlushMilliseconds=20,service.type=ClusterIP,drain.atLeastSeconds=0,drain.atMostSeconds=1"
        );
        let chart = chart.to_str().expect("the path is a text");
        self.cluster
            .helm(&["install", &release, chart, "-n", NAMESPACE, "--set", &values]);
        self.cluster.until_rolled_out(NAMESPACE, &release);
        let label = format!("app.kubernetes.io/instance={release}");
        let address = self.cluster.kubectl(&[
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "-l",
            &label,
            "-o",
            "jsonpath={.items[0].status.podIP}",
        ]);
        let network = network_of(&address);
        let mut inside = Island::new();
        inside.enter(network.clone());
        let echo = guide::start_echo(&inside);
        (network, echo)
    }

    /// Follows what the Envoy of a Gateway has decided, into the island.
    fn follow(&self, island: &Island, gateway: &str) -> Spawned {
        let deployment = format!("deployment/{}", release(gateway));
        let arguments = ["logs", "-n", NAMESPACE, "-c", "envoy", &deployment];
        let mut command = self.cluster.command(&cluster::built("bin/kubectl"));
        command.args(arguments).arg("--follow");
        let followed = Spawned::start(command, &island.folder.join("decided"));
        let folder = island.folder.join(guide::RUN_DIR).join("pod");
        fs::create_dir_all(&folder).expect("the folder can be made");
        std::os::unix::fs::symlink(followed.stdout_file(), folder.join("access.log")).expect("a link can be made");
        let now = Entry::parse_all(&self.cluster.kubectl(&arguments)).len();
        wait::until("what was decided is read", PATIENCE, || {
            (Entry::parse_all(&followed.stdout()).len() >= now).then_some(())
        });
        followed
    }
}

impl Serving for Pods<'_> {
    fn serve(&mut self, island: &mut Island, step: &Step) {
        self.forget(island);
        let folders = guide::manifests_of(&step.command);
        let [folder] = folders.as_slice() else {
            panic!("{}: one folder is applied", step.command);
        };
        let folder = PathBuf::from(folder);
        for namespace in ["edge", "shop"] {
            // One that is there stays as it is.
            let _ = self.cluster.try_kubectl(&["create", "namespace", namespace]);
        }
        let output = self.apply(island, &folder);
        assert!(output.status.success(), "{}: {}", step.command, text(&output));
        let shown = self.cluster.kubectl(&[
            "get",
            "gateways",
            "-A",
            "-o",
            "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}",
        ]);
        let gateways: Vec<&str> = shown.split_whitespace().collect();
        let [gateway] = gateways.as_slice() else {
            panic!("{}: one Gateway is there, not {shown}", step.command);
        };
        if !self.networks.contains_key(*gateway) {
            let started = self.start(gateway);
            self.networks.insert((*gateway).to_owned(), started);
        }
        island.enter(self.networks[*gateway].0.clone());
        let line = "dist/portcullis status --kubernetes -A --wait enforced --timeout 60s";
        let output = shell(self.cluster, line);
        assert!(output.status.success(), "{}\n{}", text(&output), state(self.cluster));
        self.applied = Some((folder, self.follow(island, gateway)));
    }

    /// What the API server refuses changes nothing, as a folder with an error in it changes nothing.
    fn edited(&mut self, island: &Island) {
        if let Some((folder, _)) = &self.applied {
            let _ = self.apply(island, folder);
        }
    }
}

fn release(gateway: &str) -> String {
    gateway.replace('/', "-")
}

/// The file that stands for the network of the pod with this address.
fn network_of(address: &str) -> PathBuf {
    // Runtimes keep the files of networks where they like; every program has one.
    let entries = fs::read_dir("/proc").expect("programs").flatten();
    let mut envoys = entries.map(|entry| entry.path()).filter(|program| {
        let line = fs::read(program.join("cmdline")).unwrap_or_default();
        line.starts_with(b"/usr/local/bin/envoy\0")
    });
    let found = envoys.find_map(|program| {
        let file = program.join("ns/net");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", file.display()));
        let output = command.args(["ip", "-o", "-4", "address"]).output().expect("ip runs");
        let shown = String::from_utf8_lossy(&output.stdout).contains(&format!(" {address}/"));
        shown.then_some(file)
    });
    found.unwrap_or_else(|| panic!("no network has {address}"))
}

/// Whichever replica goes, what is decided is what was applied last, and an edit comes through.
fn either_replica_may_go(cluster: &Cluster) {
    let pods = cluster.kubectl(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=portcullis",
        "-o",
        "name",
    ]);
    let pods: Vec<&str> = pods.lines().collect();
    assert_eq!(pods.len(), 2, "{pods:?}");
    let ask = |key: &str| {
        let line = format!(
            "curl -s -o /dev/null -m 5 -w '%{{http_code}}' -H 'Host: shop.example.com' -H 'x-api-key: {key}' http://$(kubectl get service public -n {NAMESPACE} -o jsonpath='{{.spec.clusterIP}}')/orders"
        );
        String::from_utf8_lossy(&shell(cluster, &line).stdout).into_owned()
    };
    for (number, pod) in pods.iter().enumerate() {
        cluster.kubectl(&["delete", "-n", NAMESPACE, pod, "--now"]);
        assert_eq!(
            (ask("nobody-has-this").as_str(), ask("another-key").as_str()),
            ("401", if number == 0 { "200" } else { "401" })
        );
        let key = format!("key-{number}");
        cluster.kubectl(&[
            "patch",
            "secret",
            "orders-clients",
            "-n",
            "shop",
            "-p",
            &format!("{{\"stringData\": {{\"partner\": \"{key}\"}}}}"),
        ]);
        wait::until("the new key is taken", PATIENCE * 3, || {
            (ask(&key) == "200").then_some(())
        });
        // There are two Envoys, and each hears of it by itself.
        wait::until("the former key is refused", PATIENCE, || {
            (0..8).all(|_| ask("another-key") == "401").then_some(())
        });
        cluster.until_rolled_out(NAMESPACE, "portcullis");
    }
}
