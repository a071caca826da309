//! What cannot be told without an Envoy.

use std::fmt;

/// Why the answer to a request cannot be told. Guessing is worse than saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear(String);

impl Unclear {
    /// Says why: lower case, no full stop.
    pub fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unclear {}

/// Refuses a message that says more than was read of it: `rest` is the message without what was.
///
/// # Errors
///
/// Something is left.
pub(crate) fn whole<M: Default + PartialEq>(what: &str, rest: &M) -> Result<(), Unclear> {
    if *rest == M::default() {
        Ok(())
    } else {
        Err(Unclear::new(format!(
            "{what} says something that only Envoy can tell the meaning of"
        )))
    }
}
