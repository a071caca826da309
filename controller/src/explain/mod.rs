//! `portcullis explain`.

mod details;
mod quarantine;
mod reason;
mod request;
mod route;

use crate::{
    Answer, check,
    cli::{Explain, ExplainArgs, ManifestArgs},
    failure::Failure,
    load::{self, Evaluation, Settings},
    print::{self, Style},
};

/// Explains a route, a request or a reason.
pub(crate) fn explain(args: &ExplainArgs, style: &Style) -> Result<Answer, Failure> {
    match &args.what {
        Explain::Route(args) => route::route(args, style),
        Explain::Request(args) => request::request(args, style),
        Explain::Reason(args) => reason::reason(args.code.as_deref(), style),
    }
}

/// Evaluates manifests for an answer that has to rest on all of them; other findings are `check`'s to tell.
///
/// # Errors
///
/// An API server would not take a file whole.
pub(crate) fn evaluate(texts: &[(String, String)], args: &ManifestArgs, style: &Style) -> Result<Evaluation, Failure> {
    // Nothing that follows from manifests alone depends on the key.
    evaluate_with(texts, args, [0; 32], style)
}

/// As [`evaluate`], with the key that a controller names policies by.
///
/// # Errors
///
/// As [`evaluate`].
fn evaluate_with(
    texts: &[(String, String)],
    args: &ManifestArgs,
    salt_key: [u8; 32],
    style: &Style,
) -> Result<Evaluation, Failure> {
    // Nor does anything depend on where the filter is.
    let settings = Settings::new(args, "portcullis.wasm".to_owned(), salt_key);
    let evaluation = load::evaluate(texts, &settings);
    if evaluation.failed_files.is_empty() {
        return Ok(evaluation);
    }
    for diagnostic in evaluation.unread() {
        print::note(&check::line(diagnostic, |tone, text| style.paint_err(tone, text)));
    }
    let files: Vec<_> = evaluation.failed_files.iter().map(String::as_str).collect();
    Err(Failure::new(
        format!("cannot tell: {} cannot be taken whole", files.join(", ")),
        "mend it first",
    ))
}
