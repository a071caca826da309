//! Collects what the authors of objects are told.

use portcullis_attachment::{
    finding::{Finding, Severity},
    object::ObjectRef,
    status::{Condition, ConditionStatus},
};

/// A fault found below one field, before it is known whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    /// The path below the object that is being read.
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            path: path.into(),
            message: message.into(),
            fix: None,
        }
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(crate) fn below(mut self, prefix: &str) -> Self {
        self.path = join(prefix, &self.path);
        self
    }

    pub(crate) fn finding(self, severity: Severity, object: &ObjectRef) -> Finding {
        Finding {
            severity,
            code: self.code,
            object: object.clone(),
            path: self.path,
            message: self.message,
            fix: self.fix,
        }
    }
}

/// Joins two field paths.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, path) if path.starts_with('[') => format!("{prefix}{path}"),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

/// A finding's message as a condition's.
pub(crate) fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string())
        .unwrap_or_default();
    let rest = characters.as_str();
    let stop = if rest.ends_with('.') { "" } else { "." };
    format!("{first}{rest}{stop}")
}

/// A field that is read and then has no effect.
pub(crate) fn ignored(path: &str, why: &str) -> Fault {
    Fault::new("field-ignored", path, format!("has no effect: {why}"))
}

pub(crate) fn condition(
    r#type: &'static str,
    holds: bool,
    reason: &'static str,
    message: impl Into<String>,
) -> Condition {
    Condition {
        r#type,
        status: if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        reason,
        message: message.into(),
    }
}
