//! `portcullis check`.

use portcullis_attachment::finding::Severity;
use portcullis_manifest::Diagnostic;
use serde::Serialize;

use crate::{
    Answer,
    cli::{CheckArgs, ManifestArgs, Output},
    failure::Failure,
    load::{self, Evaluation, Settings},
    print::{self, Style, Tone},
    source::Source,
};

/// Prints every fault with its place and its fix.
pub(crate) fn check(args: &CheckArgs, style: &Style) -> Result<Answer, Failure> {
    let texts = read(&args.manifests)?;
    // Nothing that is checked or printed depends on the key or on where the filter is.
    let settings = Settings::new(&args.manifests, "portcullis.wasm".to_owned(), [0; 32]);
    let evaluation = load::evaluate(&texts, &settings);
    let (errors, warnings) = evaluation.count();
    match style.output {
        Output::Text => {
            for diagnostic in &evaluation.diagnostics {
                print::line(&line(diagnostic, |tone, text| style.paint(tone, text)))?;
            }
        }
        Output::Json | Output::Yaml => style.value(&Report {
            diagnostics: &evaluation.diagnostics,
            errors,
            warnings,
        })?,
    }
    let (tone, verdict) = verdict(&evaluation, texts.len());
    print::note(&style.paint_err(tone, &verdict));
    let refused = errors > 0 || args.strict && warnings > 0;
    Ok(if refused { Answer::No } else { Answer::Yes })
}

#[derive(Serialize)]
struct Report<'a> {
    diagnostics: &'a [Diagnostic],
    errors: usize,
    warnings: usize,
}

/// Reads all manifests of a command that cannot do with less.
///
/// # Errors
///
/// No path is given, one cannot be read, or there is no manifest in them: nothing found is no answer.
pub(crate) fn read(args: &ManifestArgs) -> Result<Vec<(String, String)>, Failure> {
    let texts = source(args)?.read_all().map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(lines.join("\nportcullis: "), "")
    })?;
    if texts.is_empty() {
        Err(no_manifest())
    } else {
        Ok(texts)
    }
}

/// What is said where no file was found.
pub(crate) fn no_manifest() -> Failure {
    Failure::new(
        "no manifest in the named folders",
        "name files that end in .yaml, .yml or .json, or add -R",
    )
}

/// Where a command's manifests come from.
///
/// # Errors
///
/// No path is given.
pub(crate) fn source(args: &ManifestArgs) -> Result<Source, Failure> {
    if args.filenames.is_empty() {
        return Err(Failure::new("no manifests", "name them with -f PATH, or - for stdin"));
    }
    Ok(Source {
        paths: args.filenames.clone(),
        recursive: args.recursive,
    })
}

/// A diagnostic on a line: `file:line:column error[code] Kind namespace/name path: message; fix`.
pub(crate) fn line(diagnostic: &Diagnostic, paint: impl Fn(Tone, &str) -> String) -> String {
    let tone = match diagnostic.severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Warning,
    };
    let plain = format!("{}[{}]", diagnostic.level(), diagnostic.code);
    diagnostic.to_string().replacen(&plain, &paint(tone, &plain), 1)
}

fn verdict(evaluation: &Evaluation, files: usize) -> (Tone, String) {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let files = count(files, "file");
    match evaluation.count() {
        (0, 0) => (Tone::Good, format!("{files}: no findings")),
        (0, warnings) => (Tone::Warning, format!("{files}: {}", count(warnings, "warning"))),
        (errors, warnings) => (
            Tone::Bad,
            format!("{files}: {}, {}", count(errors, "error"), count(warnings, "warning")),
        ),
    }
}
