//! What became of each test, told as it happens.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// The tests that ran so far.
pub(crate) struct Outcomes {
    coloured: bool,
    passed: usize,
    failed: Vec<String>,
    running: BTreeMap<String, Instant>,
}

impl Outcomes {
    pub(crate) fn new() -> Self {
        Self {
            coloured: io::stdout().is_terminal(),
            passed: 0,
            failed: Vec::new(),
            running: BTreeMap::new(),
        }
    }

    /// Says what begins.
    pub(crate) fn step(&self, what: &str) {
        println!("{}", self.paint("1", &format!("==> {what}")));
    }

    /// Reads what the suite prints, line by line, until it ends; all of it goes to `log`.
    pub(crate) fn follow(&mut self, lines: impl Iterator<Item = String>, mut log: File) {
        for line in lines {
            // The mark of lines that are about tests.
            let line = line.trim_start_matches('\u{16}');
            writeln!(log, "{line}").expect("the log can be written");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["===", "RUN", name] => {
                    if let Some(test) = test(name) {
                        self.running.insert(test.to_owned(), Instant::now());
                        self.show_running();
                    }
                }
                ["---", "PASS:", name, took] => self.end(name, Some(true), took),
                ["---", "FAIL:", name, took] => self.end(name, Some(false), took),
                ["---", "SKIP:", name, took] => self.end(name, None, took),
                _ => {}
            }
        }
        self.clear_running();
    }

    fn end(&mut self, name: &str, passed: Option<bool>, took: &str) {
        let Some(test) = test(name) else { return };
        self.running.remove(test);
        self.clear_running();
        let (colour, word) = match passed {
            // What the profiles do not ask for.
            None => return self.show_running(),
            Some(true) => {
                self.passed += 1;
                ("32", "ok")
            }
            Some(false) => {
                self.failed.push(test.to_owned());
                ("31", "FAILED")
            }
        };
        let took = took.trim_matches(['(', ')']);
        println!("{} {test} {took}", self.paint(colour, &format!("{word:6}")));
        self.show_running();
    }

    /// A line that is there only while tests run, on a terminal.
    fn show_running(&self) {
        if !self.coloured || self.running.is_empty() {
            return;
        }
        let names: Vec<&str> = self.running.keys().map(String::as_str).collect();
        let line = format!(
            "{} passed, {} failed: {}",
            self.passed,
            self.failed.len(),
            names.join(", ")
        );
        let line: String = line.chars().take(110).collect();
        print!("\r\x1b[K{}", self.paint("2", &line));
        let _ = io::stdout().flush();
    }

    fn clear_running(&self) {
        if self.coloured {
            print!("\r\x1b[K");
        }
    }

    /// Whether tests ran and none failed.
    pub(crate) fn all_passed(&self) -> bool {
        self.passed > 0 && self.failed.is_empty()
    }

    /// Says what it came to.
    pub(crate) fn summary(&self, took: Duration) {
        let colour = if self.all_passed() { "32" } else { "31" };
        let text = format!(
            "{} passed, {} failed in {} s",
            self.passed,
            self.failed.len(),
            took.as_secs()
        );
        println!("{}", self.paint(colour, &text));
        for test in &self.failed {
            println!("  {test}");
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A test of the suite by its name there: neither the suite itself nor a part of a test.
fn test(name: &str) -> Option<&str> {
    let test = name.strip_prefix("TestConformance/")?;
    (!test.contains('/')).then_some(test)
}
