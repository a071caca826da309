//! The two ways to a first answer, as a user goes them: `make up`, and `portcullis run`. Neither needs a cluster, a
//! network or root.

use std::{fs, process::Output};

use portcullis_e2e::{
    access_log::Entry,
    guide::{assert_explained, start_echo},
    island::Island,
    spawned::{self, Spawned},
    wait::{self, PATIENCE},
};

/// A printed line: a command, the status and perhaps the reason to expect.
struct Line {
    command: String,
    status: u16,
    reason: Option<String>,
}

fn printed_lines(text: &str) -> Vec<Line> {
    let lines: Vec<Line> = text
        .lines()
        .filter(|line| line.starts_with("curl "))
        .map(line)
        .collect();
    assert!(lines.len() >= 6, "curl lines are printed:\n{text}");
    lines
}

fn line(text: &str) -> Line {
    let (command, comment) = text.rsplit_once('#').unwrap_or_else(|| panic!("no comment: {text}"));
    let mut words = comment.split_whitespace();
    let status = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no status: {text}"));
    Line {
        command: command.trim().to_owned(),
        status,
        reason: words.next().map(str::to_owned),
    }
}

/// Runs each line and compares it with its comment.
fn run_each(island: &Island, lines: &[Line], access_log: &str) {
    let log = island.folder.join(access_log);
    let entries = || Entry::parse_all(&fs::read_to_string(&log).unwrap_or_default());
    for line in lines {
        let before = entries().len();
        let output = island.shell(&line.command);
        assert_eq!(status(&output), line.status, "{}", line.command);
        let entry = wait::until("the access log has the request", PATIENCE, || {
            entries().into_iter().nth(before)
        });
        if line.reason.is_some() {
            assert_eq!(entry.reason(), line.reason, "{}", line.command);
        }
        assert_explained(
            island,
            &["manifests/examples/quickstart".to_owned()],
            &line.command,
            &entry,
        );
    }
}

fn status(output: &Output) -> u16 {
    let text = String::from_utf8_lossy(&output.stdout);
    let status = text
        .lines()
        .next()
        .and_then(|first| first.split(' ').nth(1)?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn alive(pid: u32) -> bool {
    // A zombie is not alive: somebody else must collect it.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn make_up_prints_lines_that_hold() {
    let island = Island::new();
    let up = |times: &str| {
        let output = island.shell("bash tests/make/up.sh");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{times}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let first = up("once");
    let down = Down(&island);
    let lines = printed_lines(&first);
    run_each(&island, &lines, ".run/access.log");

    let pids = |name: &str| fs::read_to_string(island.folder.join(&format!(".run/{name}.pid"))).expect("a pid");
    let before = (pids("portcullis"), pids("echo"));
    let again = printed_lines(&up("twice"));
    assert_eq!(
        (pids("portcullis"), pids("echo")),
        before,
        "the second time nothing is started"
    );
    assert_eq!(again.len(), lines.len());

    drop(down);
    let pid: u32 = before.0.trim().parse().expect("a number");
    assert!(!alive(pid), "`make down` stops it");
}

#[test]
fn make_up_names_the_owner_of_a_busy_port() {
    let island = Island::new();
    let mut holder = island.command("python3");
    holder.args([
        "-c",
        "import socket,time; s=socket.create_server(('127.0.0.1',10080)); print('bound',flush=True); time.sleep(60)",
    ]);
    let holder = Spawned::start(holder, &island.folder.join("busy"));
    wait::until("the port is taken", PATIENCE, || {
        holder.stdout().contains("bound").then_some(())
    });
    let output = island.shell("bash tests/make/up.sh");
    let _down = Down(&island);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("10080") && text.contains(&format!("pid {}", holder.pid())),
        "{text}"
    );
}

/// `make down`, also when a test fails.
struct Down<'a>(&'a Island);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = self.0.shell("bash tests/make/down.sh");
    }
}

#[test]
fn run_needs_no_cluster_no_network_and_no_root() {
    let island = Island::new();
    let _echo = start_echo(&island);
    let mut run = island.command("dist/portcullis");
    run.args([
        "run",
        "-f",
        "manifests/examples/quickstart",
        "--concurrency",
        "2",
        "--run-dir",
        "run",
        "--envoy",
    ]);
    run.arg(island.envoy());
    let mut portcullis = Spawned::start(run, &island.folder.join("portcullis"));
    wait::until("it is ready", PATIENCE, || {
        portcullis.assert_running();
        portcullis.stdout().lines().any(|line| line == "ready").then_some(())
    });
    let text = portcullis.stdout();
    for wanted in [
        ["listener", "edge/public/http", "serving"],
        ["policy", "shop/orders", "enforced"],
        ["policy", "shop/admin", "enforced"],
    ] {
        let told = text.lines().any(|line| line.split_whitespace().take(3).eq(wanted));
        assert!(told, "{wanted:?}: a line per listener and policy:\n{text}");
    }
    let requests = fs::read_to_string(island.folder.join("manifests/examples/quickstart/curl.txt")).expect("requests");
    let lines = printed_lines(&requests);
    run_each(&island, &lines, "run/edge.public/access.log");

    // Envoy dies, and is there again.
    let envoys = children(portcullis.pid());
    assert_eq!(envoys.len(), 1, "one Envoy");
    spawned::signal(envoys[0], "KILL");
    let refused = &lines
        .iter()
        .find(|line| line.status == 401)
        .expect("a refused request")
        .command;
    wait::until("a new Envoy answers", PATIENCE, || {
        let output = island.shell(refused);
        output.stdout.starts_with(b"HTTP/1.1 401").then_some(())
    });
    let again = children(portcullis.pid());
    assert!(again.len() == 1 && again != envoys, "{again:?}");

    // It takes Envoy with it.
    assert!(portcullis.terminate().success(), "{}", portcullis.stderr());
    wait::until("Envoy is gone", PATIENCE, || (!alive(again[0])).then_some(()));
}

#[test]
fn the_echo_backend_shows_what_it_received() {
    let island = Island::new();
    let _echo = start_echo(&island);
    let text = wait::until("it answers", PATIENCE, || {
        let output = island.shell("curl -s -H 'x-shown: yes' http://127.0.0.1:10081/path");
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    for line in ["x-shown: yes", ":path: /path", ":authority: 127.0.0.1:10081"] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }
    assert!(!text.contains("x-request-id"), "it adds nothing of its own:\n{text}");
}
