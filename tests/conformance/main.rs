//! Runs the conformance suite of Gateway API against the controller on a cluster of its own, with an Envoy of the chart for each
//! Gateway, and writes the suite's report to `docs/conformance.yaml`.
//!
//! `CONFORMANCE=NAME,NAME` runs some of the tests and writes no report. What the suite said is in `target/conformance`, and what
//! the cluster was like at the end if a test failed.

mod features;
mod outcome;
mod provisioner;

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    time::Instant,
};

use portcullis_e2e::{
    artefacts,
    cluster::{self, Cluster, Image},
};

use crate::{outcome::Outcomes, provisioner::Provisioner};

/// The class of the suite's Gateways, which `manifests` brings.
const CLASS: &str = "portcullis";

/// Where the controller and the Envoys run.
const NAMESPACE: &str = "portcullis-system";

/// How many tests that may run side by side do. They mostly wait, for pods and for statuses.
const AT_A_TIME: u8 = 6;

fn main() -> ExitCode {
    let began = Instant::now();
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| artefacts::root().join("target"), PathBuf::from);
    let folder = folder.join("conformance");
    fs::create_dir_all(&folder).expect("the folder can be made");
    let only = env::var("CONFORMANCE").ok();

    let mut outcomes = Outcomes::new();
    outcomes.step("a cluster with the controller");
    let cluster = installed();
    outcomes.step("the suite of Gateway API 1.6");
    let report = folder.join("report.yaml");
    let provisioner = Provisioner::start(&cluster, CLASS, NAMESPACE);
    let passed = run(
        &cluster,
        only.as_deref(),
        &report,
        &folder.join("suite.log"),
        &mut outcomes,
    );
    if !passed {
        fs::write(folder.join("cluster.txt"), state(&cluster)).expect("the state can be written");
    }
    drop(provisioner);
    outcomes.summary(began.elapsed());
    if !passed {
        eprintln!("what was said is in {}", folder.display());
        return ExitCode::FAILURE;
    }
    if only.is_none() {
        let target = artefacts::root().join("docs/conformance.yaml");
        let text = fs::read(&report).expect("the suite has written its report");
        fs::write(&target, text).expect("the report can be written");
        println!("written to docs/conformance.yaml");
    }
    ExitCode::SUCCESS
}

/// A cluster with what `kubectl apply -k manifests` brings, and the images that pods need.
fn installed() -> Cluster {
    let cluster = Cluster::with_node();
    cluster.import_ours();
    // A backend of tests that are not run, without which the suite does not begin: it waits for all of them.
    cluster.import(&Image {
        name: "registry.k8s.io/coredns/coredns:v1.12.2".to_owned(),
        files: vec![(cluster::built("bin/coredns"), "/coredns".to_owned())],
        user: "0:0".to_owned(),
    });
    // The wider channel: it has the fields of retries.
    cluster.install_gateway_api("experimental");
    let manifests = artefacts::root().join("manifests");
    let manifests = manifests.to_str().expect("the path is a text");
    cluster.kubectl(&["apply", "--server-side", "-k", manifests]);
    cluster.until_rolled_out(NAMESPACE, "portcullis");
    cluster
}

/// Runs the suite; tells whether every test that ran passed.
fn run(cluster: &Cluster, only: Option<&str>, report: &Path, log: &Path, outcomes: &mut Outcomes) -> bool {
    let mut suite = cluster.command(&cluster::built("bin/gateway-conformance.test"));
    suite.arg(format!("-gateway-class={CLASS}"));
    suite.arg("-conformance-profiles=GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TCP");
    suite.arg(format!("-supported-features={}", features::SUPPORTED.join(",")));
    suite.args(["-organization=portcullis", "-project=portcullis"]);
    suite.arg("-url=https://portcullis.dev");
    suite.arg(format!("-version={}", env!("CARGO_PKG_VERSION")));
    suite.arg("-contact=https://portcullis.dev");
    suite.arg(format!("-report-output={}", report.display()));
    // The cluster ends with the suite.
    suite.arg("-cleanup-base-resources=false");
    // Otherwise it tells what became of tests when all have ended.
    suite.args(["-test.v=test2json", "-test.timeout=60m"]);
    suite.arg(format!("-test.parallel={AT_A_TIME}"));
    if let Some(only) = only {
        suite.arg(format!("-test.run=^TestConformance$/^({})$", only.replace(',', "|")));
    }
    suite.env("TZ", "UTC").stdin(Stdio::null()).stdout(Stdio::piped());
    let log = fs::File::create(log).expect("the log can be written");
    suite.stderr(log.try_clone().expect("the log can be shared"));
    let mut child = suite.spawn().expect("the suite runs");
    let output = child.stdout.take().expect("its output is a pipe");
    outcomes.follow(BufReader::new(output).lines().map_while(Result::ok), log);
    let status = child.wait().expect("the suite ends");
    status.success() && outcomes.all_passed()
}

/// What is known of a cluster in which something went wrong.
fn state(cluster: &Cluster) -> String {
    let shown = |line: &str| {
        let tools = cluster::built("bin");
        let path = env::var("PATH").unwrap_or_default();
        let mut bash: Command = cluster.command(Path::new("bash"));
        bash.args(["-c", line])
            .env("PATH", format!("{}:{path}", tools.display()));
        let Output { stdout, stderr, .. } = bash.output().expect("bash runs");
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        format!("$ {line}\n{text}\n")
    };
    [
        "kubectl get pods -A -o wide",
        "kubectl get gateways -A -o yaml",
        "kubectl get services -A -o wide",
        "kubectl get events -A --sort-by .lastTimestamp | tail -40",
        "kubectl logs -n portcullis-system -l app.kubernetes.io/name=portcullis --tail 200 --prefix",
    ]
    .map(shown)
    .concat()
}
