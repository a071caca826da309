//! Holding a gateway's access log against what `explain` says.
//!
//! The access log does not hold what a policy looks at, credentials above all; so a line is explained by a request of
//! that method and status that was under way when Envoy began with it. Where clients ask at the same time there may be
//! several: one of them must explain it. Of lines that are alike but for the moment, [`SAMPLE`] are explained: a client
//! that guesses passwords provokes thousands.
//!
//! One thing is not asked of `explain`: while a controller searches for a virtual host that Envoy does not take, it closes
//! others for a moment, and keeps no record of these; and where the first table is refused, Envoy has no route at all until
//! the search has made one that it takes. Such lines are explained by what the search came to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    Behind, Exchange, Gateway, State,
    explanation::{Question, Told, code, differences},
};
use crate::{access_log::Entry, controller, scratch::Scratch, wait::PATIENCE};

/// How many lines that are alike are explained.
const SAMPLE: usize = 4;
const DAY: u64 = 24 * 60 * 60 * 1000;

/// What was explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Answers of the gateway itself.
    pub lines: usize,
    /// Lines that are not alike.
    pub kinds: usize,
    /// Different requests that `explain request` was asked about.
    pub asked: usize,
    /// Every code, once.
    pub codes: BTreeSet<String>,
}

impl Summary {
    pub(super) fn print(&self) {
        if self.lines > 0 {
            let codes: Vec<&str> = self.codes.iter().map(String::as_str).collect();
            println!(
                "{} answers of the gateway itself, of {} kinds, explained by {} requests: {}",
                self.lines,
                self.kinds,
                self.asked,
                codes.join(", ")
            );
        }
    }
}

/// What two lines that are alike have in common.
type Kind = [Option<String>; 8];

/// Explains what a gateway answered by itself.
///
/// # Errors
/// What is not explained, or otherwise than the access log has it.
pub(super) fn settle(gateway: &Gateway, state: &State) -> Result<Summary, Vec<String>> {
    let exchanges = state.exchanges.as_slice();
    if state.behind == Behind::Nothing {
        return Ok(Summary::default());
    }
    let (all, unlogged) = lines(&gateway.log, exchanges);
    let lines: Vec<&Line> = all.iter().filter(|line| line.entry.is_own()).collect();
    let mut summary = Summary {
        lines: lines.len(),
        ..Summary::default()
    };
    let mut failures: Vec<String> = unlogged
        .iter()
        .map(|exchange| format!("the access log has no line of {exchange:?}"))
        .collect();
    for code in lines.iter().map(|line| code(&line.entry)).collect::<BTreeSet<_>>() {
        let output = controller::portcullis(&["explain", "reason", &code]);
        if !output.status.success() {
            failures.push(format!(
                "explain reason {code}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        summary.codes.insert(code);
    }
    if state.behind == Behind::Manifests {
        let mut kinds: BTreeMap<Kind, Vec<&Line>> = BTreeMap::new();
        for line in lines {
            kinds.entry(line.kind()).or_default().push(line);
        }
        summary.kinds = kinds.len();
        let mut answers = Answers {
            gateway,
            state,
            scratch: Scratch::new(),
            told: BTreeMap::new(),
            written: BTreeSet::new(),
        };
        for lines in kinds.values() {
            let step = lines.len().div_ceil(SAMPLE);
            failures.extend(
                lines
                    .iter()
                    .step_by(step)
                    .filter_map(|line| answers.unexplained(line, exchanges)),
            );
        }
        summary.asked = answers.told.len();
    }
    if failures.is_empty() {
        Ok(summary)
    } else {
        Err(failures)
    }
}

/// A line of the access log.
struct Line {
    entry: Entry,
    /// When Envoy began with the request, in milliseconds since midnight; a log of somebody's own may not say it.
    start: Option<u64>,
    status: Option<u16>,
    method: Option<String>,
}

/// Every line of the access log, and the requests of which there is none even after a while.
fn lines<'a>(log: &Path, exchanges: &'a [Exchange]) -> (Vec<Line>, Vec<&'a Exchange>) {
    let start = Instant::now();
    loop {
        let text = fs::read(log).unwrap_or_default();
        let lines: Vec<Line> = Entry::parse_all(&String::from_utf8_lossy(&text))
            .into_iter()
            .map(Line::read)
            .collect();
        let late = start.elapsed() > PATIENCE;
        if lines.len() >= exchanges.len() || late {
            let logged = |exchange: &&Exchange| lines.iter().any(|line| line.is_of(exchange));
            let unlogged: Vec<&Exchange> = exchanges.iter().filter(|exchange| !logged(exchange)).collect();
            if unlogged.is_empty() || late {
                return (lines, unlogged);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl Line {
    fn read(entry: Entry) -> Self {
        Self {
            start: entry.get("start").as_deref().and_then(time_of_day),
            status: entry.get("status").and_then(|status| status.parse().ok()),
            method: entry.get("method"),
            entry,
        }
    }

    fn kind(&self) -> Kind {
        [
            "method", "route", "status", "details", "policy", "rule", "reason", "client",
        ]
        .map(|field| self.entry.get(field))
    }

    /// Whether it may come of a search for a virtual host that Envoy does not take: the host was closed, or there was no route.
    fn is_of_a_search(&self) -> bool {
        match self.entry.get("route").as_deref() {
            Some(route) => route == "quarantine",
            None => self.entry.reason().as_deref() == Some("policy_missing"),
        }
    }

    /// Whether it may be an exchange's. No test runs for a day.
    fn is_of(&self, exchange: &Exchange) -> bool {
        let since = |start: u64| (start + DAY - exchange.sent % DAY) % DAY;
        let within = |start: u64| since(start) <= exchange.answered - exchange.sent;
        self.start.is_none_or(within)
            && self.status == Some(exchange.status)
            && self.method.as_ref().is_none_or(|method| *method == exchange.method)
    }
}

/// Milliseconds since midnight of `2026-11-28T18:12:41.123Z`.
fn time_of_day(text: &str) -> Option<u64> {
    let (_, time) = text.trim_end_matches('Z').split_once('T')?;
    let (time, milliseconds) = time.split_once('.')?;
    let mut seconds: u64 = 0;
    for part in time.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(seconds * 1000 + milliseconds.parse::<u64>().ok()?)
}

/// What `explain request` said, each question asked once for each version of the manifests.
struct Answers<'a> {
    gateway: &'a Gateway,
    state: &'a State,
    scratch: Scratch,
    told: BTreeMap<(usize, Question), Told>,
    written: BTreeSet<usize>,
}

impl Answers<'_> {
    /// Why a line is not explained; nothing if a request explains it.
    fn unexplained(&mut self, line: &Line, exchanges: &[Exchange]) -> Option<String> {
        let shown = &line.entry;
        let mut wrong = String::new();
        let (mut sent, mut searched) = (false, false);
        for exchange in exchanges.iter().filter(|exchange| line.is_of(exchange)) {
            sent = true;
            let Some(versions) = &self.state.versions else {
                return Some(format!(
                    "{shown}: its gateway was started without manifests, and is not declared to be `beside_manifests`"
                ));
            };
            searched |= line.is_of_a_search() && versions.have_convicted(exchange.sent, exchange.answered);
            let mut answered = false;
            for (version, surely) in versions.in_force(exchange.sent, exchange.answered) {
                if answered && !surely {
                    break;
                }
                let question = self.question(line, exchange);
                let told = self.ask(version, question.clone());
                answered |= matches!(told, Told::Answer(_));
                let found = differences(&line.entry, &told);
                if found.is_empty() {
                    return None;
                }
                let _ = write!(
                    wrong,
                    "\n  {}\n    {}",
                    question.arguments([]).join(" "),
                    found.join("\n    ")
                );
            }
        }
        if searched {
            return None;
        }
        if !sent {
            return Some(format!(
                "{shown}: no client of the harness handed in this request, see denials::record"
            ));
        }
        Some(format!("{shown}: explained otherwise{wrong}"))
    }

    fn question(&self, line: &Line, exchange: &Exchange) -> Question {
        let port = exchange.to.port();
        let port = self.state.ports.get(&port).copied().unwrap_or(port);
        let client = line.entry.get("client").and_then(|client| client.parse().ok());
        let from = client.filter(|_| self.state.translated).unwrap_or(exchange.from);
        Question::of(exchange, port, from, self.gateway.name.clone())
    }

    fn ask(&mut self, version: usize, question: Question) -> Told {
        let folder = self.scratch.join(&version.to_string());
        if let (true, Some(versions)) = (self.written.insert(version), &self.state.versions) {
            versions.write(version, &folder);
        }
        let told = self
            .told
            .entry((version, question))
            .or_insert_with_key(|(_, question)| {
                let path = |part: &str| folder.join(part).display().to_string();
                let mut more = vec!["-f".to_owned(), path("manifests")];
                if folder.join("state/salt.key").exists() {
                    more.extend(["--state-dir".to_owned(), path("state")]);
                }
                let arguments = question.arguments(more);
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                Told::read(&controller::portcullis(&arguments))
            });
        told.clone()
    }
}
