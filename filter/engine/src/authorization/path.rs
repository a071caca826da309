//! Conditions on the path.

use super::regex::{Regex, RegexError};
use crate::{
    document::{Action, PathMatch, PathMatchType},
    host::Host,
    http::path::{decodings, normalized, split},
    policy::{PolicyError, told},
    request::Request,
};

/// The longest value, in bytes: as in Envoy Gateway's schema.
const MAX_VALUE: usize = 1024;

/// One condition on the path of a request.
#[derive(Debug)]
pub(crate) struct PathRule {
    pattern: Pattern,
    invert: bool,
    denies: bool,
}

#[derive(Debug)]
enum Pattern {
    /// The value, and what it becomes by decoding.
    Exact(Vec<Vec<u8>>),
    /// The same, without the slash at the end.
    Prefix(Vec<Vec<u8>>),
    Regex(Regex),
}

/// How many of the readings of a path must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// The one that was sent.
    Sent,
    /// Any of them.
    Any,
    /// All of them.
    All,
}

impl PathRule {
    /// Compiles a condition of a rule with that action; `rule` is the rule's place.
    pub(crate) fn compile(rule: &str, action: Action, path: &PathMatch) -> Result<Self, PolicyError> {
        let pattern = Pattern::compile(path).map_err(|error| PolicyError {
            path: told!("{rule}.operation.path.value"),
            ..error
        })?;
        Ok(Self {
            pattern,
            invert: path.invert,
            denies: action == Action::Deny,
        })
    }

    /// An upper bound for what a regular expression takes, in bytes.
    pub(crate) fn regex_bytes(&self) -> usize {
        match &self.pattern {
            Pattern::Regex(regex) => regex.bytes(),
            Pattern::Exact(_) | Pattern::Prefix(_) => 0,
        }
    }

    /// Tells whether the condition holds. What cannot be told holds for a rule that denies and for no other.
    pub(crate) fn matches(&self, request: &Request<'_, impl Host>) -> bool {
        let width = match (self.denies, self.invert) {
            (false, false) => Width::Sent,
            // Turned round by `invert`: whatever is not surely outside is not allowed.
            (true, false) | (false, true) => Width::Any,
            // Whatever is not surely inside is denied.
            (true, true) => Width::All,
        };
        match self.pattern.matches(request, width) {
            Some(matches) => matches != self.invert,
            None => self.denies,
        }
    }
}

impl Pattern {
    fn compile(path: &PathMatch) -> Result<Self, PolicyError> {
        let value = path.value.as_str();
        let error = |code, message: String| PolicyError::new(String::new(), code, message);
        if value.len() > MAX_VALUE {
            return Err(error(
                "invalid-path",
                told!("the value is longer than {MAX_VALUE} bytes"),
            ));
        }
        if path.r#type == PathMatchType::RegularExpression {
            return Regex::compile(value).map(Self::Regex).map_err(|fault| match fault {
                RegexError::Invalid(message) => error("invalid-regex", message),
                RegexError::TooLarge => error("regex-too-large", told!("it is too large when compiled"))
                    .fix(told!("write smaller repetition counts, or several rules")),
            });
        }
        if !value.starts_with('/') {
            return Err(error("invalid-path", told!("{value:?} does not begin with a slash"))
                .fix(told!("write {:?}", told!("/{value}"))));
        }
        if split(value.as_bytes()).0.len() != value.len() {
            let message = told!("a path has no query and no fragment");
            return Err(error("invalid-path", message).fix(told!(
                "cut it off, or use RegularExpression, which is compared with path and query"
            )));
        }
        let normalized = normalized(value.as_bytes());
        if normalized != value.as_bytes() {
            let message = told!("no request has the path {value:?} once it is normalized");
            return Err(error("invalid-path", message).fix(told!("write {:?}", String::from_utf8_lossy(&normalized))));
        }
        Ok(match path.r#type {
            PathMatchType::PathPrefix => Self::Prefix(decodings(value.strip_suffix('/').unwrap_or(value).as_bytes())),
            _ => Self::Exact(decodings(value.as_bytes())),
        })
    }

    fn matches(&self, request: &Request<'_, impl Host>, width: Width) -> Option<bool> {
        let target = request.head.path()?;
        let test = |reading: &[u8]| match self {
            Self::Exact(values) => values.iter().any(|value| match width {
                Width::Any => without_slash(reading) == without_slash(value),
                Width::Sent | Width::All => reading == value,
            }),
            Self::Prefix(values) => values.iter().any(|value| is_below(reading, value)),
            Self::Regex(_) => false,
        };
        match (self, width) {
            (Self::Regex(regex), Width::Sent) => regex.is_match(request, target),
            (Self::Regex(regex), Width::Any) => regex.matches_any(request),
            (Self::Regex(regex), Width::All) => regex.matches_all(request),
            (_, Width::Sent) => Some(self.matches_sent(split(target).0)),
            (_, Width::Any) => Some(request.readings().iter().any(test)),
            // What the value decodes to is no more than a reading of it.
            (_, Width::All) => Some(self.matches_sent(split(target).0) && request.readings().iter().all(test)),
        }
    }

    /// Compares with the value as it is written, which stands first.
    fn matches_sent(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(values) => values.first().is_some_and(|value| path == value),
            Self::Prefix(values) => values.first().is_some_and(|value| is_below(path, value)),
            Self::Regex(_) => false,
        }
    }
}

/// Tells whether a path is one or is below one, by whole segments; everything is below the root.
fn is_below(path: &[u8], parent: &[u8]) -> bool {
    parent.is_empty()
        || path
            .strip_prefix(parent)
            .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}
