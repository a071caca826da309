//! An Envoy for each Gateway of the class: what a user does with the chart when he makes a Gateway, edits its listeners, or
//! deletes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
};

use portcullis_e2e::{
    artefacts,
    cluster::{self, Cluster},
};
use serde_json::{Value, json};

/// Envoys for as long as this value lives.
pub(crate) struct Provisioner {
    watches: Vec<Child>,
    threads: Vec<JoinHandle<()>>,
}

/// Namespace and name.
type Name = (String, String);

enum Event {
    /// A Gateway, or what adds listeners to one, was made, edited or deleted.
    Object { deleted: bool, object: Value },
    /// The Envoys of a Gateway are ready.
    Ready(Name),
    /// A watch has ended.
    End,
}

impl Provisioner {
    /// Begins to watch.
    pub(crate) fn start(cluster: &Cluster, class: &str, namespace: &str) -> Self {
        let (events, received) = mpsc::channel();
        let mut watches = Vec::new();
        let mut threads = Vec::new();
        for kind in ["gateways", "listenersets"] {
            let (watch, thread) = watch(cluster, kind, events.clone());
            watches.push(watch);
            threads.push(thread);
        }
        let work = Work {
            events,
            kubectl: Tool::new(cluster, "bin/kubectl"),
            helm: Tool::new(cluster, "bin/helm"),
            class: class.to_owned(),
            namespace: namespace.to_owned(),
            gateways: BTreeMap::new(),
            sets: BTreeMap::new(),
            releases: BTreeMap::new(),
            made: 0,
        };
        threads.push(thread::spawn(move || work.run(&received)));
        Self { watches, threads }
    }
}

impl Drop for Provisioner {
    fn drop(&mut self) {
        for watch in &mut self.watches {
            let _ = watch.kill();
            let _ = watch.wait();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn watch(cluster: &Cluster, kind: &str, events: Sender<Event>) -> (Child, JoinHandle<()>) {
    let mut command = cluster.command(&cluster::built("bin/kubectl"));
    let resource = format!("{kind}.gateway.networking.k8s.io");
    command.args(["get", &resource, "-A", "-o", "json", "--watch", "--output-watch-events"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let output = child.stdout.take().expect("its output is a pipe");
    let thread = thread::spawn(move || {
        for event in serde_json::Deserializer::from_reader(output).into_iter::<Value>() {
            // The end of the stream is the end of the watch.
            let Ok(mut event) = event else { break };
            let event = Event::Object {
                deleted: event["type"] == "DELETED",
                object: event["object"].take(),
            };
            if events.send(event).is_err() {
                return;
            }
        }
        let _ = events.send(Event::End);
    });
    (child, thread)
}

/// A program in the cluster's network, to be started from another thread.
#[derive(Clone)]
struct Tool {
    start: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Tool {
    fn new(cluster: &Cluster, program: &str) -> Self {
        let command = cluster.command(&cluster::built(program));
        let text = |part: &std::ffi::OsStr| part.to_str().expect("a text").to_owned();
        Self {
            start: std::iter::once(command.get_program())
                .chain(command.get_args())
                .map(text)
                .collect(),
            environment: command
                .get_envs()
                .filter_map(|(name, value)| Some((text(name), text(value?))))
                .collect(),
        }
    }

    /// Runs it to its end and says why it failed, if it did.
    fn run(&self, arguments: &[&str], input: Option<&str>) -> Option<String> {
        let result = self.attempt(arguments, input);
        result
            .map_err(|error| eprintln!("{}: {error}", arguments.join(" ")))
            .ok()
    }

    /// Runs it to its end.
    fn attempt(&self, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        let (program, first) = self.start.split_first().expect("a program");
        let mut command = Command::new(program);
        command
            .args(first)
            .args(arguments)
            .envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut pipe = child.stdin.take().expect("its input is a pipe");
        let input = input.unwrap_or_default().to_owned();
        let writer = thread::spawn(move || pipe.write_all(input.as_bytes()));
        let Output { status, stdout, stderr } = child.wait_with_output().expect("the program ends");
        let _ = writer.join();
        if status.success() {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&stderr).trim().to_owned())
        }
    }
}

struct Work {
    events: Sender<Event>,
    kubectl: Tool,
    helm: Tool,
    class: String,
    namespace: String,
    /// The ports of Gateways' own listeners.
    gateways: BTreeMap<Name, BTreeSet<u64>>,
    /// The Gateway of each ListenerSet, and the ports of its listeners.
    sets: BTreeMap<Name, (Name, BTreeSet<u64>)>,
    releases: BTreeMap<Name, Release>,
    made: usize,
}

/// The Envoys of one Gateway.
struct Release {
    name: String,
    ready: bool,
    /// The ports that its Service has.
    ports: BTreeSet<u64>,
}

impl Work {
    fn run(mut self, events: &Receiver<Event>) {
        // This end holds a sender too: the end is when the watches have gone.
        while let Ok(event) = events.recv() {
            let mut ended = self.take(event);
            // What came together is one edit.
            while let Ok(event) = events.try_recv() {
                ended |= self.take(event);
            }
            if ended {
                return;
            }
            self.settle();
        }
    }

    /// Takes an event in; tells whether it is the last one.
    fn take(&mut self, event: Event) -> bool {
        let (deleted, object) = match event {
            Event::Object { deleted, object } => (deleted, object),
            Event::Ready(name) => {
                if let Some(release) = self.releases.get_mut(&name) {
                    release.ready = true;
                }
                return false;
            }
            Event::End => return true,
        };
        let name = name_of(&object["metadata"], "");
        let spec = &object["spec"];
        let ports = spec["listeners"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|listener| listener["port"].as_u64()).collect();
        if object["kind"] == "ListenerSet" {
            let gateway = name_of(&spec["parentRef"], &name.0);
            self.sets.insert(name.clone(), (gateway, ports));
            if deleted {
                self.sets.remove(&name);
            }
        } else if deleted || spec["gatewayClassName"] != self.class.as_str() {
            self.gateways.remove(&name);
        } else {
            self.gateways.insert(name, ports);
        }
        false
    }

    /// Makes what is not there yet, and takes away what is to go.
    fn settle(&mut self) {
        let gone: Vec<Name> = self
            .releases
            .keys()
            .filter(|name| !self.gateways.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(release) = self.releases.remove(&name) {
                self.uninstall(&release);
            }
        }
        let wanted: Vec<(Name, BTreeSet<u64>)> = self
            .gateways
            .keys()
            .map(|name| (name.clone(), self.ports(name)))
            .collect();
        for (name, ports) in wanted.into_iter().filter(|(_, ports)| !ports.is_empty()) {
            match self.releases.get(&name) {
                None => self.install(name, &ports),
                Some(release) if release.ready && release.ports != ports => self.expose(&name, ports),
                Some(_) => {}
            }
        }
    }

    fn ports(&self, gateway: &Name) -> BTreeSet<u64> {
        let own = self.gateways.get(gateway).into_iter().flatten();
        let sets = self.sets.values().filter(|(of, _)| of == gateway);
        own.chain(sets.flat_map(|(_, ports)| ports)).copied().collect()
    }

    /// Makes Envoys, and hears when they are ready.
    fn install(&mut self, gateway: Name, ports: &BTreeSet<u64>) {
        self.made += 1;
        let name: String = gateway.1.chars().take(40).collect();
        let name = format!("{}-{}", name.trim_end_matches('-'), self.made);
        self.apply(&gateway, &name, ports, &["bootstrap", "deployment"]);
        let (kubectl, events) = (self.kubectl.clone(), self.events.clone());
        let (deployment, namespace) = (format!("deployment/{name}"), self.namespace.clone());
        let ready = gateway.clone();
        // Not joined: it ends with the cluster at the latest.
        thread::spawn(move || {
            let arguments = ["rollout", "status", "-n", &namespace, &deployment, "--timeout=180s"];
            // They may go before they are ready.
            if kubectl.attempt(&arguments, None).is_ok() {
                let _ = events.send(Event::Ready(ready));
            }
        });
        let release = Release {
            name,
            ready: false,
            ports: BTreeSet::new(),
        };
        self.releases.insert(gateway, release);
    }

    /// Gives Envoys that are ready their Service, or its other ports. Of these Envoys hear from the controller.
    fn expose(&mut self, gateway: &Name, ports: BTreeSet<u64>) {
        let Some(release) = self.releases.get(gateway) else {
            return;
        };
        self.apply(gateway, &release.name, &ports, &["service"]);
        if let Some(release) = self.releases.get_mut(gateway) {
            release.ports = ports;
        }
    }

    fn apply(&self, gateway: &Name, name: &str, ports: &BTreeSet<u64>, templates: &[&str]) {
        let chart: PathBuf = artefacts::root().join("manifests/charts/portcullis-envoy");
        let chart = chart.to_str().expect("the path is a text");
        let ports = ports
            .iter()
            .map(|port| json!({"name": format!("p{port}"), "port": port, "targetPort": port}));
        let values = json!({
            "gateway": {"namespace": gateway.0, "name": gateway.1},
            "replicas": 1,
            "concurrency": 1,
            "service": {"type": "ClusterIP"},
            "ports": ports.collect::<Vec<_>>(),
            "drain": {"atLeastSeconds": 0, "atMostSeconds": 1},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        });
        let shown = templates
            .iter()
            .map(|name| format!("--show-only=templates/{name}.yaml"));
        let shown: Vec<String> = shown.collect();
        let mut arguments = vec!["template", name, chart, "-n", &self.namespace, "-f", "-"];
        arguments.extend(shown.iter().map(String::as_str));
        if let Some(manifests) = self.helm.run(&arguments, Some(&values.to_string())) {
            let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
            self.kubectl.run(&arguments, Some(&manifests));
        }
    }

    fn uninstall(&self, release: &Release) {
        let label = format!("app.kubernetes.io/instance={}", release.name);
        let kinds = "deployments,services,configmaps,poddisruptionbudgets";
        self.kubectl.run(
            &["delete", kinds, "-n", &self.namespace, "-l", &label, "--wait=false"],
            None,
        );
    }
}

fn name_of(reference: &Value, otherwise: &str) -> Name {
    let text = |field: &str| reference[field].as_str().map(str::to_owned);
    let namespace = text("namespace").unwrap_or_else(|| otherwise.to_owned());
    (namespace, text("name").unwrap_or_default())
}
