//! `portcullis test`.

mod expect;
mod tokens;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use portcullis_engine::{denial::Reason, jwt::algorithm::Algorithm};
use portcullis_gateway::lookup::{ClientCertificate, Shown};
use portcullis_manifest::policy_test::{Case, KIND, PolicyTest, Vocabulary, policy_tests};
use regex::Regex;
use serde::Serialize;

use crate::{
    Answer,
    answers::{self, Asked, Proxies, View},
    cases::{
        expect::{Mismatch, mismatches},
        tokens::{Keys, Serves, Tokens},
    },
    check,
    cli::{Output, TestArgs},
    failure::Failure,
    load::{self, Settings},
    print::{self, Style, Tone},
    source::{self, Source},
};

/// What the answers of a test rest on beside its requests: its manifests, whom its keys serve, and the providers whose servers of
/// keys fail.
type World = (Vec<PathBuf>, Vec<Serves>, Vec<String>);

/// Runs every case and prints how it went.
pub(crate) fn test(args: &TestArgs, style: &Style) -> Result<Answer, Failure> {
    let Ok(wanted) = args.run.as_deref().map(Regex::new).transpose() else {
        return Err(Failure::new(
            "--run is not a regular expression",
            "put a backslash before characters that stand for themselves",
        ));
    };
    let mut tests = read(args, style)?;
    for test in &mut tests {
        test.cases
            .retain(|case| wanted.as_ref().is_none_or(|wanted| wanted.is_match(&case.name)));
    }
    tests.retain(|test| !test.cases.is_empty());
    if tests.is_empty() {
        return Err(Failure::new(
            "no case has a name that --run matches",
            "give another expression",
        ));
    }
    let mut worlds: BTreeMap<World, Proxies> = BTreeMap::new();
    let mut report = Report::default();
    for test in &tests {
        let keys = Keys::new(test)?;
        let failing = test.callouts.iter().map(|callout| callout.provider.clone());
        let asked = (manifests(test, args)?, keys.serve(), failing.collect());
        if !worlds.contains_key(&asked) {
            let proxies = world(&asked.0, test, &keys, args, style)?;
            worlds.insert(asked.clone(), proxies);
        }
        let Some(proxies) = worlds.get(&asked) else { continue };
        let now = now(test)?;
        let tokens = keys.tokens(test, now)?;
        let mut ran = Vec::new();
        for case in &test.cases {
            let run = run(test, case, &tokens, proxies, now);
            report.count(&run.result);
            if style.output == Output::Text {
                show(test, &run, style)?;
            }
            ran.push(run);
        }
        report.tests.push(Ran {
            file: test.file.clone(),
            name: test.name.clone(),
            cases: ran,
        });
    }
    if style.output != Output::Text {
        style.value(&report)?;
    }
    report.verdict(style)
}

#[derive(Default, Serialize)]
struct Report {
    tests: Vec<Ran>,
    passed: usize,
    failed: usize,
    unclear: usize,
}

#[derive(Serialize)]
struct Ran {
    file: String,
    name: String,
    cases: Vec<Run>,
}

/// One case that was run.
#[derive(Serialize)]
struct Run {
    name: String,
    line: usize,
    request: String,
    result: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mismatches: Vec<Mismatch>,
    /// Why the answer is what it is, or why it cannot be told.
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<View>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Passed,
    Failed,
    Unclear,
}

impl Report {
    const fn count(&mut self, result: &Outcome) {
        match result {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unclear => self.unclear += 1,
        }
    }

    fn verdict(&self, style: &Style) -> Result<Answer, Failure> {
        let total = self.passed + self.failed + self.unclear;
        let cases = if total == 1 { "case" } else { "cases" };
        let mut text = format!("{total} {cases}: {} passed, {} failed", self.passed, self.failed);
        if self.unclear > 0 {
            text.push_str(&format!(", {} cannot be told", self.unclear));
        }
        let tone = match (self.failed, self.unclear) {
            (0, 0) => Tone::Good,
            (0, _) => Tone::Warning,
            _ => Tone::Bad,
        };
        print::note(&style.paint_err(tone, &text));
        if self.unclear > 0 {
            return Err(Failure::new(
                format!(
                    "the answers of {} {} cannot be told",
                    self.unclear,
                    if self.unclear == 1 { "case" } else { "cases" }
                ),
                "see above",
            ));
        }
        Ok(if self.failed > 0 { Answer::No } else { Answer::Yes })
    }
}

/// Reads all test files.
fn read(args: &TestArgs, style: &Style) -> Result<Vec<PolicyTest>, Failure> {
    let reasons: Vec<&str> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .chain(["seal"])
        .collect();
    let algorithms: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
    let vocabulary = Vocabulary {
        reasons: &reasons,
        algorithms: &algorithms,
    };
    let mut tests = Vec::new();
    let mut faults = 0;
    for path in &args.cases {
        let named = !path.is_dir();
        let source = Source {
            paths: vec![path.clone()],
            recursive: true,
        };
        let texts = source.read_all().map_err(|errors| unreadable(&errors))?;
        for (name, text) in texts {
            // A folder may hold manifests too, the broken ones included.
            if !named && !text.contains(KIND) {
                continue;
            }
            match policy_tests(&name, &text, vocabulary) {
                Ok(found) if found.is_empty() && named => {
                    return Err(Failure::new(
                        format!("{name}: holds no {KIND}"),
                        format!("write apiVersion: portcullis.dev/v1alpha1 and kind: {KIND}"),
                    ));
                }
                Ok(found) => tests.extend(found),
                Err(diagnostics) => {
                    faults += diagnostics.len();
                    for diagnostic in &diagnostics {
                        print::note(&check::line(diagnostic, |tone, text| style.paint_err(tone, text)));
                    }
                }
            }
        }
    }
    if faults > 0 {
        return Err(Failure::new("the test files have errors", "mend them first"));
    }
    if tests.is_empty() {
        return Err(Failure::new(
            format!("no {KIND} in the named folders"),
            "name files or folders that hold some",
        ));
    }
    Ok(tests)
}

fn unreadable(errors: &[source::Unreadable]) -> Failure {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Failure::new(lines.join("\nportcullis: "), "")
}

/// Where a test's manifests are: those that it names, relative to itself, and those of the command line.
fn manifests(test: &PolicyTest, args: &TestArgs) -> Result<Vec<PathBuf>, Failure> {
    let folder = Path::new(&test.file).parent().unwrap_or_else(|| Path::new(""));
    let mut paths: Vec<PathBuf> = test.manifests.iter().map(|path| plain(&folder.join(path))).collect();
    paths.extend(args.manifests.filenames.iter().cloned());
    if paths.is_empty() {
        return Err(Failure::new(
            format!("{}: {KIND} {} names no manifests", test.file, test.name),
            "add manifests: [PATH], or give -f PATH",
        ));
    }
    Ok(paths)
}

/// The path without `x/..`, for messages; left alone where a link could make that another place.
fn plain(path: &Path) -> PathBuf {
    let short = path.components().fold(PathBuf::new(), |mut short, part| {
        use std::path::Component;
        match (part, short.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => {
                short.pop();
            }
            (Component::CurDir, _) => {}
            (part, _) => short.push(part),
        }
        short
    });
    match (short.canonicalize(), path.canonicalize()) {
        (Ok(one), Ok(other)) if one == other => short,
        _ => path.to_owned(),
    }
}

fn world(
    paths: &[PathBuf],
    test: &PolicyTest,
    keys: &Keys,
    args: &TestArgs,
    style: &Style,
) -> Result<Proxies, Failure> {
    let source = Source {
        paths: paths.to_vec(),
        recursive: args.manifests.recursive,
    };
    let texts = source.read_all().map_err(|errors| unreadable(&errors))?;
    if texts.is_empty() {
        return Err(check::no_manifest());
    }
    // Nothing of an answer depends on the key or on where the filter is.
    let settings = Settings::new(&args.manifests, "portcullis.wasm".to_owned(), [0; 32]);
    let mut loaded = portcullis_manifest::load(&texts);
    keys.put_into(&mut loaded.snapshot)?;
    tokens::are_asked(&test.callouts, &loaded.snapshot)?;
    let evaluation = load::translate(loaded, &settings, &Arc::default(), &mut load::Memory::default());
    if !evaluation.failed_files.is_empty() {
        for diagnostic in evaluation.unread() {
            print::note(&check::line(diagnostic, |tone, text| style.paint_err(tone, text)));
        }
        let files: Vec<_> = evaluation.failed_files.iter().map(String::as_str).collect();
        return Err(Failure::new(
            format!("not tested: {} cannot be taken whole", files.join(", ")),
            "mend it first",
        ));
    }
    Ok(Proxies::new(&evaluation))
}

fn now(test: &PolicyTest) -> Result<u64, Failure> {
    let Some(text) = &test.now else {
        return Ok(answers::now());
    };
    let time = text.parse::<Timestamp>().ok();
    time.and_then(|time| u64::try_from(time.as_nanosecond()).ok())
        .ok_or_else(|| {
            Failure::new(
                format!("{}: now: {text:?} is no time", test.file),
                "write it like 2026-11-25T12:00:00Z",
            )
        })
}

fn run(test: &PolicyTest, case: &Case, tokens: &Tokens, proxies: &Proxies, now: u64) -> Run {
    let mut run = Run {
        name: case.name.clone(),
        line: case.place.line,
        request: case.line.clone(),
        result: Outcome::Unclear,
        mismatches: Vec::new(),
        why: String::new(),
        answer: None,
    };
    let asked = match asked(test, case, tokens) {
        Ok(asked) => asked,
        Err(why) => {
            run.why = why;
            return run;
        }
    };
    match proxies.answer(&asked, test.gateway.as_deref(), now) {
        Err(failure) => run.why = failure.to_string(),
        Ok((gateway, answer)) => {
            let view = View::new(gateway, &asked, &answer);
            run.why = view.why();
            match mismatches(&case.expect, &answer, &view) {
                Ok(found) => {
                    run.result = if found.is_empty() {
                        Outcome::Passed
                    } else {
                        Outcome::Failed
                    };
                    run.mismatches = found;
                }
                Err(why) => run.why = format!("cannot tell: {why}"),
            }
            run.answer = Some(view);
        }
    }
    run
}

fn asked(test: &PolicyTest, case: &Case, tokens: &Tokens) -> Result<Asked, String> {
    let line = tokens.put(&case.line)?;
    let (method, url) = line
        .trim()
        .split_once(' ')
        .ok_or_else(|| format!("{:?} is no request line; write \"GET https://HOST/PATH\"", case.line))?;
    let from = match &case.from {
        None => None,
        Some(from) => Some(
            from.parse()
                .map_err(|_| format!("from: {from:?} is not an address; write one such as \"203.0.113.9\""))?,
        ),
    };
    let headers = case.headers.iter();
    let headers = headers.map(|(name, value)| Ok::<_, String>((name.clone(), tokens.put(value)?)));
    // As for headers: what a case does not write is not shown.
    let shown = case.certificate.as_ref().map_or(Shown::Nothing, |certificate| {
        Shown::Valid(ClientCertificate {
            uri_san: certificate.uri_san.clone(),
            dns_san: certificate.dns_san.clone(),
            subject: certificate.subject.clone(),
        })
    });
    let mut asked = Asked::new(method, url.trim(), headers.collect::<Result<_, _>>()?, from, shown)?;
    let failing = test.callouts.iter().map(|callout| callout.provider.clone());
    asked.fail_keys(failing.collect());
    let Some(geo) = &case.geo else { return Ok(asked) };
    Ok(asked.placed(geo.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
}

fn show(test: &PolicyTest, run: &Run, style: &Style) -> Result<(), Failure> {
    let (tone, word) = match run.result {
        Outcome::Passed => (Tone::Good, "pass"),
        Outcome::Failed => (Tone::Bad, "FAIL"),
        Outcome::Unclear => (Tone::Warning, "????"),
    };
    let brief = run
        .answer
        .as_ref()
        .filter(|_| run.result == Outcome::Passed)
        .map(View::brief);
    let brief = brief
        .map(|brief| style.paint(Tone::Faint, &format!("  {brief}")))
        .unwrap_or_default();
    print::line(&format!(
        "{} {}: {}{brief}",
        style.paint(tone, word),
        test.name,
        run.name
    ))?;
    if run.result == Outcome::Passed {
        return Ok(());
    }
    let place = format!("{}:{}", test.file, run.line);
    print::line(&format!("     {}  {}", style.paint(Tone::Faint, &place), run.request))?;
    let width = run
        .mismatches
        .iter()
        .map(|mismatch| mismatch.field.len())
        .max()
        .unwrap_or_default();
    for Mismatch {
        field,
        expected,
        actual,
    } in &run.mismatches
    {
        print::line(&format!(
            "     {field:<width$}  expected {}, is {}",
            style.paint(Tone::Good, expected),
            style.paint(Tone::Bad, actual)
        ))?;
    }
    print::line(&format!("     why: {}", run.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_short() {
        assert_eq!(plain(Path::new("src/../src/./main.rs")), Path::new("src/main.rs"));
        assert_eq!(plain(Path::new("../nowhere/../x")), Path::new("../nowhere/../x"));
    }
}
