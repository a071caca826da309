//! What is wrong with a manifest, in one shape for the command line and for conditions.

use crate::object::ObjectRef;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Something is not enforced or not served.
    Error,
    /// Something has no effect or may surprise.
    Warning,
}

/// One fault at one place of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The stable code, `kebab-case`, such as `invalid-cidr`.
    pub code: &'static str,
    /// The object at fault.
    pub object: ObjectRef,
    /// The field, as `spec.rules[0].name`; empty for the object as a whole.
    pub path: String,
    /// What is wrong: lower case, no full stop, never holds a secret.
    pub message: String,
    /// What to write instead, if that can be told: `write "10.0.0.0/8"`.
    pub fix: Option<String>,
}
