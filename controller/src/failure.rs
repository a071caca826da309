//! Why a command cannot tell: exit code 2.

use std::fmt;

/// What is wrong and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    fix: String,
}

impl Failure {
    /// Says what is wrong (the place first, lower case, no full stop) and what to do about it.
    pub(crate) fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.fix.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.fix)
    }
}

impl std::error::Error for Failure {}
