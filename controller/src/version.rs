//! `portcullis version`.

use portcullis_engine::document;
use serde::Serialize;

use crate::{
    Answer, admin,
    cli::{Output, VersionArgs},
    failure::Failure,
    print::{self, Style},
};

/// What this build is.
#[derive(Serialize)]
struct Version {
    version: &'static str,
    documents: Vec<u32>,
    envoy: &'static str,
}

/// The Envoy that this version is tested with.
const ENVOY: &str = "1.40.0";

/// Prints the version; with `--ready` also asks whether a controller or an Envoy is ready.
pub(crate) fn version(args: &VersionArgs, style: &Style) -> Result<Answer, Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        documents: vec![document::VERSION],
        envoy: ENVOY,
    };
    if style.output == Output::Text {
        print::line(&format!(
            "portcullis {} (policy documents {}, envoy {ENVOY})",
            version.version,
            document::VERSION
        ))?;
    } else {
        style.value(&version)?;
    }
    args.ready.as_ref().map_or(Ok(()), admin::ready)?;
    Ok(Answer::Yes)
}
