//! Guides as tests: the commands of a Markdown file, run as a reader would type them.
//!
//! Of every block marked `console` the lines that begin with `$ ` are commands:
//!
//! * `portcullis run ...` is started and kept until the next such line, as in a terminal of its own;
//! * `curl ... # 401 basic_missing` must get that status and, where one is written, that reason in the access log;
//!   and if the gateway answered by itself, `portcullis explain request` must name what the access log names;
//! * any other line must succeed, or end as its comment says: `# exit 1`.
//!
//! Lines below a command that do not begin with `$ ` must be among the lines that it prints; `...` stands for any text.

use std::{fs, path::Path};

use crate::{
    access_log::Entry,
    curl,
    denials::{self, Question, Told},
    island::Island,
    spawned::Spawned,
    wait::{self, PATIENCE},
};

/// Where `portcullis run` keeps its files in a guide: a folder in it for each Envoy, with its `access.log`.
pub const RUN_DIR: &str = "run";

/// One command of a guide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is typed.
    pub command: String,
    /// What must come of it.
    pub expected: Expected,
    /// Lines that it must print.
    pub prints: Vec<String>,
}

/// What must come of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It goes on running.
    Serves,
    /// A status, and perhaps a reason in the access log.
    Answer(u16, Option<String>),
    /// An exit code.
    Exit(i32),
}

/// The commands of a guide's text, in order.
#[must_use]
pub fn steps(text: &str) -> Vec<Step> {
    steps_of(text, "console", step)
}

/// The commands of the blocks marked `console cluster`, in order: each must succeed, or end as its comment says.
#[must_use]
pub fn cluster_steps(text: &str) -> Vec<Step> {
    steps_of(text, "console cluster", exits)
}

fn steps_of(text: &str, mark: &str, read: impl Fn(&str) -> Step) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && language.trim() == mark;
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            steps.push(read(command));
        } else if let (true, false, Some(last)) = (inside, line.trim().is_empty(), steps.last_mut()) {
            last.prints.push(line.trim_end().to_owned());
        }
    }
    steps
}

fn exits(line: &str) -> Step {
    let (command, comment) = line.rsplit_once(" # exit ").unwrap_or((line, "0"));
    Step {
        command: command.trim().to_owned(),
        expected: Expected::Exit(
            comment
                .trim()
                .parse()
                .unwrap_or_else(|_| panic!("no exit code behind: {line}")),
        ),
        prints: Vec::new(),
    }
}

fn step(line: &str) -> Step {
    let (command, comment) = line.rsplit_once(" #").unwrap_or((line, ""));
    let command = command.trim().to_owned();
    let mut words = comment.split_whitespace();
    let first = words.next().unwrap_or_default();
    let expected = if command.contains("portcullis run ") {
        Expected::Serves
    } else if command.starts_with("curl ") {
        let status = first.parse().unwrap_or_else(|_| panic!("no status behind: {line}"));
        Expected::Answer(status, words.next().map(str::to_owned))
    } else if first == "exit" {
        let code = words.next().map(|word| word.trim_end_matches([':', ',']).parse());
        let Some(Ok(code)) = code else {
            panic!("no exit code behind: {line}")
        };
        Expected::Exit(code)
    } else {
        Expected::Exit(0)
    };
    Step {
        command,
        expected,
        prints: Vec::new(),
    }
}

/// Who serves the manifests of a guide.
pub trait Serving {
    /// Serves those of a step instead of those of the one before.
    fn serve(&mut self, island: &mut Island, step: &Step);

    /// A command may have changed them.
    fn edited(&mut self, island: &Island);
}

/// `portcullis run` in the island, as the guide says.
#[derive(Debug, Default)]
struct Running(Option<Spawned>);

impl Serving for Running {
    fn serve(&mut self, island: &mut Island, step: &Step) {
        if let Some(mut before) = self.0.take() {
            before.terminate();
        }
        self.0 = Some(run_controller(island, step));
    }

    /// It watches its files.
    fn edited(&mut self, _: &Island) {}
}

/// Runs a guide inside an island, with an echo backend on the port that the examples use.
///
/// # Panics
/// If a command does not do what the guide says.
pub fn run(island: &mut Island, guide: &Path) {
    let _echo = start_echo(island);
    run_with(island, guide, &mut Running::default());
}

/// Runs a guide whose manifests somebody else serves, in the island's network.
///
/// # Panics
/// If a command does not do what the guide says.
pub fn run_with(island: &mut Island, guide: &Path, serving: &mut dyn Serving) {
    let text = fs::read_to_string(guide).unwrap_or_else(|error| panic!("{}: {error}", guide.display()));
    let steps = steps(&text);
    let name = guide.display();
    let mut manifests = Vec::new();
    for step in &steps {
        match &step.expected {
            Expected::Serves => {
                serving.serve(island, step);
                manifests = manifests_of(&step.command);
            }
            Expected::Answer(status, reason) => {
                let entry = request(island, step, *status, reason.as_deref(), &name.to_string());
                assert_explained(island, &manifests, &step.command, &entry);
            }
            Expected::Exit(code) => {
                let output = island.shell(&step.command);
                let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(*code), "{name}: {}\n{text}", step.command);
                assert_prints(step, &text, &name.to_string());
                serving.edited(island);
            }
        }
    }
}

/// Starts the echo backend of the examples, and waits until it answers.
#[must_use]
pub fn start_echo(island: &Island) -> Spawned {
    let mut echo = island.command(&island.envoy().display().to_string());
    echo.args([
        "-c",
        "envoy-config/echo.yaml",
        "--disable-hot-restart",
        "--concurrency",
        "1",
    ]);
    let echo = Spawned::start(echo, &island.folder.join("echo"));
    wait::until("the backend answers", PATIENCE, || {
        let output = island.shell("curl -s -o /dev/null http://127.0.0.1:10081/");
        output.status.success().then_some(())
    });
    echo
}

fn run_controller(island: &Island, step: &Step) -> Spawned {
    let _ = fs::remove_dir_all(island.folder.join(RUN_DIR));
    let line = format!("exec {} --run-dir {RUN_DIR}", step.command);
    let mut command = island.command("bash");
    command.args(["-c", &line]);
    let mut served = Spawned::start(command, &island.folder.join("portcullis"));
    wait::until("it is ready", PATIENCE, || {
        served.assert_running();
        served.stdout().lines().any(|line| line == "ready").then_some(())
    });
    assert_prints(step, &served.stdout(), "run");
    served
}

/// The paths behind `-f` of a command.
#[must_use]
pub fn manifests_of(command: &str) -> Vec<String> {
    let words = curl::words(command);
    let pairs = words.iter().zip(words.iter().skip(1));
    let paths = pairs
        .filter(|(option, _)| *option == "-f")
        .map(|(_, path)| path.clone());
    paths.collect()
}

/// Panics unless `explain request` names what the access log names of a request that the gateway answered by itself.
pub fn assert_explained(island: &Island, manifests: &[String], command: &str, entry: &Entry) {
    if !entry.is_own() {
        return;
    }
    let command = &with_files(island, command);
    let mut exchange = curl::exchange(&curl::words(command)[1..]);
    exchange.certificate = exchange
        .certificate
        .map(|file| island.folder.join(&file.to_string_lossy()));
    let question = Question::of(&exchange, exchange.to.port(), exchange.from, None);
    let paths = manifests.iter().flat_map(|path| ["-f".to_owned(), path.clone()]);
    let mut portcullis = island.command("dist/portcullis");
    portcullis.args(question.arguments(paths));
    let told = Told::read(&portcullis.output().expect("the controller runs"));
    let wrong = denials::differences(entry, &told);
    assert!(wrong.is_empty(), "{command}: {entry}\n{}", wrong.join("\n"));
}

/// A command with the contents of files in the place of `"... $(cat FILE)"`, quoted as [`curl::words`] reads it.
fn with_files(island: &Island, command: &str) -> String {
    let mut parts = command.split("$(cat ");
    let mut written = parts.next().unwrap_or_default().replace('"', "'");
    for part in parts {
        let (file, rest) = part.split_once(')').expect("a closing bracket");
        let text = fs::read_to_string(island.folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        written.push_str(text.trim_end());
        written.push_str(&rest.replace('"', "'"));
    }
    written
}

fn request(island: &Island, step: &Step, status: u16, reason: Option<&str>, guide: &str) -> Entry {
    // An edit is live a moment after it was made: a reader who asks again sees it too.
    let attempt = || {
        let before = entries(island).len();
        let output = island.shell(&step.command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answered = last_status(&text);
        // Without an answer, as from a certificate that is not there yet, nothing is logged.
        let entry = answered.map(|_| {
            wait::until("the access log has the request", PATIENCE, || {
                entries(island).into_iter().nth(before)
            })
        });
        let logged = entry.as_ref().and_then(Entry::reason).filter(|_| reason.is_some());
        (answered, logged, text, entry)
    };
    let wanted = (Some(status), reason.map(str::to_owned));
    let mut last = attempt();
    for _ in 0..50 {
        if (last.0, last.1.clone()) == wanted {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        last = attempt();
    }
    assert_eq!((last.0, last.1), wanted, "{guide}: {}\n{}", step.command, last.2);
    assert_prints(step, &last.2, guide);
    last.3.unwrap_or_else(|| panic!("{guide}: {}: no answer", step.command))
}

/// The status of the last answer that `curl -i` printed.
fn last_status(text: &str) -> Option<u16> {
    text.lines()
        .filter(|line| line.starts_with("HTTP/"))
        .filter_map(|line| line.split(' ').nth(1)?.parse().ok())
        .next_back()
}

fn entries(island: &Island) -> Vec<Entry> {
    let mut entries = Vec::new();
    for folder in fs::read_dir(island.folder.join(RUN_DIR))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(folder.path().join("access.log")).unwrap_or_default();
        entries.extend(Entry::parse_all(&text));
    }
    entries
}

/// Asserts that a command printed what the guide says.
///
/// # Panics
/// If it did not.
pub fn assert_prints(step: &Step, text: &str, guide: &str) {
    for wanted in &step.prints {
        let found = text.lines().any(|line| is_like(wanted, line.trim_end()));
        assert!(found, "{guide}: {} does not print\n{wanted}\nbut\n{text}", step.command);
    }
}

/// Whether a line is the wanted one; `...` stands for any text, and runs of blanks are one.
fn is_like(wanted: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = squeeze(line);
    let wanted = squeeze(wanted);
    let mut parts = wanted.split("...").map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut exact = true;
    for part in parts {
        exact = part.is_empty();
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        if part.is_empty() {
            break;
        }
        rest = after;
    }
    if wanted.contains("...") && !exact {
        return rest.is_empty();
    }
    exact && (wanted.contains("...") || rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_commands_and_what_must_come_of_them() {
        let text = "\
text `$ not a command`
```console
$ dist/portcullis run -f a --envoy $envoy
ready
$ curl -i http://a/#b  # 401 basic_missing
$ dist/portcullis check -f b    # exit 1: what is wrong
b.yaml:1:1 error[...] ...
$ true
```
```yaml
$ not a command
```
";
        let steps = steps(text);
        let expected: Vec<&Expected> = steps.iter().map(|step| &step.expected).collect();
        assert_eq!(
            expected,
            [
                &Expected::Serves,
                &Expected::Answer(401, Some("basic_missing".to_owned())),
                &Expected::Exit(1),
                &Expected::Exit(0)
            ]
        );
        assert_eq!(steps[1].command, "curl -i http://a/#b");
        assert_eq!(steps[0].prints, ["ready"]);
        assert_eq!(steps[2].prints, ["b.yaml:1:1 error[...] ..."]);
    }

    #[test]
    fn dots_stand_for_any_text() {
        for (wanted, line, like) in [
            ("a b", "a   b", true),
            ("a b", "a b c", false),
            ("a ... c", "a b c", true),
            ("a ... c", "a b c d", false),
            ("a ...", "a b c", true),
            ("... c", "a b c", true),
            ("a ... c ...", "a b c d", true),
            ("x ...", "a b", false),
        ] {
            assert_eq!(is_like(wanted, line), like, "{wanted:?} {line:?}");
        }
    }
}
