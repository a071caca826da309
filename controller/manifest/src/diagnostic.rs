//! Findings with their places, as `portcullis check` prints them.

use std::fmt;

use portcullis_attachment::finding::Severity;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{place::Place, tree::SyntaxError, validate::Fault};

/// A fault of a manifest and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where it stands; unknown for an object that is in no file.
    pub place: Option<Place>,
    /// How bad it is.
    pub severity: Severity,
    /// The stable code, `kebab-case`; `portcullis_attachment::finding::CODES` explains it.
    pub code: &'static str,
    /// The object, as `Kind namespace/name`; empty if the text is not an object at all.
    pub object: String,
    /// The field, as `spec.rules[0].name`; empty for the object as a whole.
    pub path: String,
    /// What is wrong: lower case, no full stop, never holds a secret.
    pub message: String,
    /// What to write instead, if that can be told.
    pub fix: Option<String>,
}

impl Diagnostic {
    /// What is wrong with the text of a file.
    pub(crate) fn of_syntax(file: &str, error: &SyntaxError) -> Self {
        Self {
            place: Some(error.position.in_file(file)),
            severity: Severity::Error,
            code: "yaml-syntax",
            object: String::new(),
            path: visible(&error.path),
            message: error.message.clone(),
            fix: Some(mend_syntax(&error.message).to_owned()),
        }
    }

    /// What is wrong with an object.
    pub(crate) fn of_object(file: Option<&str>, object: &str, fault: &Fault) -> Self {
        Self {
            place: file.map(|file| fault.position.in_file(file)),
            severity: fault.severity,
            code: fault.code,
            object: visible(object),
            path: visible(&fault.path),
            message: visible(&fault.message),
            fix: fault.fix.as_deref().map(visible),
        }
    }

    /// `error` or `warning`.
    #[must_use]
    pub fn level(&self) -> &'static str {
        match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Writes control characters out: a manifest must not steer the reader's terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut text, c| {
        if c.is_control() {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
        text
    })
}

/// What to look at first; a parser notices a fault only after it.
fn mend_syntax(message: &str) -> &'static str {
    if message.contains("tab") {
        "indent with spaces"
    } else if message.contains("anchor") {
        "define the anchor above, or put the text in quotes"
    } else {
        "check the quotes, brackets and indentation up to here"
    }
}

/// `file:line:column level[code] Kind namespace/name path: message; fix`, on one line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{file}:{line}:{column} ")?;
        }
        write!(f, "{}[{}]", self.level(), self.code)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(fix) = &self.fix {
            write!(f, "; {fix}")?;
        }
        Ok(())
    }
}

/// A map with `file`, `line`, `column`, `severity`, `code`, `object`, `path`, `message` and `fix`; what is not known is left out.
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(Place { file, line, column }) = &self.place {
            map.serialize_entry("file", file)?;
            map.serialize_entry("line", line)?;
            map.serialize_entry("column", column)?;
        }
        map.serialize_entry("severity", self.level())?;
        map.serialize_entry("code", self.code)?;
        if !self.object.is_empty() {
            map.serialize_entry("object", &self.object)?;
        }
        if !self.path.is_empty() {
            map.serialize_entry("path", &self.path)?;
        }
        map.serialize_entry("message", &self.message)?;
        if let Some(fix) = &self.fix {
            map.serialize_entry("fix", fix)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use portcullis_attachment::finding::Severity;

    use super::Diagnostic;
    use crate::place::Place;

    #[test]
    fn a_line_says_where_what_and_how_to_mend_it() {
        let diagnostic = Diagnostic {
            place: Some(Place {
                file: "orders.yaml".to_owned(),
                line: 14,
                column: 9,
            }),
            severity: Severity::Error,
            code: "invalid-cidr",
            object: "SecurityPolicy shop/orders".to_owned(),
            path: "spec.authorization.rules[0].principal.clientCIDRs[0]".to_owned(),
            message: "\"10.0.0/8\" is not a CIDR".to_owned(),
            fix: Some("write \"10.0.0.0/8\"".to_owned()),
        };
        assert_eq!(
            diagnostic.to_string(),
            "orders.yaml:14:9 error[invalid-cidr] SecurityPolicy shop/orders \
             spec.authorization.rules[0].principal.clientCIDRs[0]: \"10.0.0/8\" is not a CIDR; write \"10.0.0.0/8\""
        );
        assert_eq!(
            serde_json::to_string(&diagnostic).unwrap(),
            r#"{"file":"orders.yaml","line":14,"column":9,"severity":"error","code":"invalid-cidr","object":"SecurityPolicy shop/orders","path":"spec.authorization.rules[0].principal.clientCIDRs[0]","message":"\"10.0.0/8\" is not a CIDR","fix":"write \"10.0.0.0/8\""}"#
        );
    }
}
