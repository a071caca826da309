//! The places of a request that may hold a credential: read, and removed before the request is forwarded.

use std::borrow::Cow;

use crate::{
    document::KeySource,
    http::{
        RequestHead, cookie,
        header::{is_framing, is_token},
        query,
    },
    policy::{PolicyError, told},
    step::HeaderEdit,
};

/// The longest name of a source, in bytes.
const MAX_NAME: usize = 256;

/// A place of a request that may hold a credential.
#[derive(Debug)]
pub(crate) enum Source {
    /// Lower case.
    Header(Box<[u8]>),
    Param(Box<[u8]>),
    Cookie(Box<[u8]>),
}

/// What one source of a request holds.
#[derive(Debug)]
pub(crate) enum Presented<'a> {
    Nothing,
    One(Cow<'a, [u8]>),
    /// Two values that differ.
    Different,
}

impl<'a> Presented<'a> {
    /// Empty values present nothing.
    pub(crate) fn of(values: impl Iterator<Item = Cow<'a, [u8]>>) -> Self {
        let mut presented = Self::Nothing;
        for value in values.filter(|value| !value.is_empty()) {
            match &presented {
                Self::Nothing => presented = Self::One(value),
                Self::One(first) if *first == value => {}
                Self::One(_) | Self::Different => return Self::Different,
            }
        }
        presented
    }
}

impl Source {
    /// Compiles a source; `path` is the field that names it, and `what` is what it may hold.
    pub(crate) fn compile(path: &str, source: &KeySource, what: &str) -> Result<Self, PolicyError> {
        let (name, code) = match source {
            KeySource::Header(name) => (name, "invalid-header-name"),
            KeySource::Param(name) => (name, "invalid-param-name"),
            KeySource::Cookie(name) => (name, "invalid-cookie-name"),
        };
        let bytes = name.as_bytes();
        let valid = match source {
            KeySource::Header(_) => is_token(bytes) && !is_framing(bytes),
            KeySource::Param(_) => !bytes.is_empty(),
            KeySource::Cookie(_) => is_cookie_name(bytes),
        };
        if !valid || bytes.len() > MAX_NAME {
            let message = told!("{name:?} cannot name a place that holds a {what}");
            return Err(PolicyError::new(told!("{path}"), code, message));
        }
        Ok(match source {
            KeySource::Header(_) => Self::Header(bytes.to_ascii_lowercase().into()),
            KeySource::Param(_) => Self::Param(bytes.into()),
            KeySource::Cookie(_) => Self::Cookie(bytes.into()),
        })
    }

    /// Reads the source.
    pub(crate) fn presented<'a>(&'a self, head: &'a RequestHead) -> Presented<'a> {
        match self {
            Self::Header(name) => Presented::of(head.values(name).map(Cow::Borrowed)),
            Self::Param(name) => match head.path().and_then(|path| query::split(path).1) {
                Some(query) => Presented::of(query::values(query, name)),
                None => Presented::Nothing,
            },
            Self::Cookie(name) => Presented::of(
                head.values(b"cookie")
                    .flat_map(|line| cookie::values(line, name))
                    .map(Cow::Borrowed),
            ),
        }
    }
}

/// Removes sources from a request, those of several policies at once: the path is edited as a whole, and so are cookies.
pub(crate) fn sanitize<'s>(
    sources: &(impl Iterator<Item = &'s Source> + Clone),
    head: &RequestHead,
    edits: &mut Vec<HeaderEdit>,
) {
    let params = sources.clone().filter_map(|source| match source {
        Source::Param(name) => Some(&**name),
        Source::Header(_) | Source::Cookie(_) => None,
    });
    let cookies = sources.clone().filter_map(|source| match source {
        Source::Cookie(name) => Some(&**name),
        Source::Header(_) | Source::Param(_) => None,
    });
    if params.clone().next().is_some()
        && let Some(path) = head.path().and_then(|path| query::without(path, &params))
    {
        edits.push(HeaderEdit::set(":path", path));
    }
    if cookies.clone().next().is_some() {
        let lines = head
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
        match cookie::without(lines.map(|(_, value)| value.as_slice()), &cookies) {
            None => {}
            Some(rest) if rest.is_empty() => edits.push(HeaderEdit::remove("cookie")),
            Some(rest) => edits.push(HeaderEdit::set("cookie", rest)),
        }
    }
    for source in sources.clone() {
        if let Source::Header(name) = source
            && head.values(name).next().is_some()
        {
            edits.push(HeaderEdit::remove(name.to_vec()));
        }
    }
}

/// What browsers let through: more than a token, which RFC 6265 asks for.
fn is_cookie_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b'=' | b'"'))
}
