//! `portcullis crds`.

use crate::{
    Answer,
    cli::Output,
    failure::Failure,
    print::{self, Style},
};

/// Prints the custom resource definitions, as YAML documents or one JSON list.
pub(crate) fn crds(style: &Style) -> Result<Answer, Failure> {
    let definitions = portcullis_api::crds();
    if style.output == Output::Json {
        style.value(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": definitions}))?;
        return Ok(Answer::Yes);
    }
    for definition in &definitions {
        let text = print::yaml(definition).map_err(|error| Failure::new(format!("cannot be printed: {error}"), ""))?;
        print::line(&format!("---\n{}", text.trim_end()))?;
    }
    Ok(Answer::Yes)
}
