//! Regular expressions of RE2's dialect over bytes, by the small engine whose cost is linear in text times pattern.
//!
//! RE2 in Envoy reads the pattern of a path and the path as Latin-1: each byte is a character. So do these. In expressions
//! it reads both as UTF-8.

use std::borrow::Cow;

use crate::{host::Host, policy::told, request::Request};

/// The sizes that are tried, in bytes; what does not fit the last is refused.
const SIZES: [usize; 6] = [1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, MAX_SIZE];
const MAX_SIZE: usize = 1 << 14;
/// How deeply groups may be nested.
const MAX_NESTING: u32 = 50;

/// A regular expression that must match a text as a whole, or a part of it.
#[derive(Debug)]
pub(crate) struct Regex {
    /// What every match of a whole text begins with: tells most paths apart at no cost.
    prefix: Box<[u8]>,
    compiled: regex_lite::Regex,
    bytes: usize,
}

/// Why a pattern is refused.
#[derive(Debug)]
pub(crate) enum RegexError {
    Invalid(String),
    TooLarge,
}

impl Regex {
    pub(crate) fn compile(pattern: &str) -> Result<Self, RegexError> {
        if pattern.is_empty() {
            return Err(RegexError::Invalid(told!("an empty pattern matches no path")));
        }
        check_escapes(pattern.as_bytes(), true)?;
        let prefix = literal_prefix(pattern.as_bytes());
        let pattern = latin1(pattern.as_bytes());
        // Alone first: `a)|(b` is no pattern, though it is one between parentheses.
        build(&pattern, MAX_SIZE)?;
        Self::build(&format!(r"\A(?:{pattern})\z"), prefix)
    }

    /// Compiles an expression that must match a part of a text.
    pub(crate) fn compile_part(pattern: &str) -> Result<Self, RegexError> {
        check_escapes(pattern.as_bytes(), false)?;
        build(pattern, MAX_SIZE)?;
        Self::build(pattern, b"")
    }

    fn build(pattern: &str, prefix: &[u8]) -> Result<Self, RegexError> {
        SIZES
            .into_iter()
            .find_map(|bytes| Some((build(pattern, bytes).ok()?, bytes)))
            .map(|(compiled, bytes)| Self {
                prefix: prefix.into(),
                compiled,
                bytes,
            })
            .ok_or(RegexError::TooLarge)
    }

    /// Tells whether a part of the text matches; `None` when the request has had its share of matching.
    pub(crate) fn matches_part(&self, request: &Request<'_, impl Host>, text: &str) -> Option<bool> {
        request.spend(text.len(), self.bytes)?;
        Some(self.compiled.is_match(text))
    }

    /// An upper bound for what the compiled expression takes, in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells whether the text matches; `None` when the request has had its share of matching.
    pub(crate) fn is_match(&self, request: &Request<'_, impl Host>, text: &[u8]) -> Option<bool> {
        if !text.starts_with(&self.prefix) {
            return Some(false);
        }
        request.spend(text.len(), self.bytes)?;
        Some(self.compiled.is_match(&latin1(text)))
    }

    /// Tells whether any reading of the path matches, with its query or without, with the slash at its end or without.
    pub(crate) fn matches_any(&self, request: &Request<'_, impl Host>) -> Option<bool> {
        for reading in request.readings().iter() {
            let short = reading.strip_suffix(b"/").filter(|short| !short.is_empty());
            for path in [Some(reading), short].into_iter().flatten() {
                if self.is_match(request, path)? || self.is_match_with_query(request, path)? {
                    return Some(true);
                }
            }
        }
        Some(false)
    }

    /// Tells whether every reading of the path matches, with its query.
    pub(crate) fn matches_all(&self, request: &Request<'_, impl Host>) -> Option<bool> {
        for reading in request.readings().iter() {
            let matches = match request.readings().query() {
                Some(_) => self.is_match_with_query(request, reading)?,
                None => self.is_match(request, reading)?,
            };
            if !matches {
                return Some(false);
            }
        }
        Some(true)
    }

    fn is_match_with_query(&self, request: &Request<'_, impl Host>, path: &[u8]) -> Option<bool> {
        let Some(query) = request.readings().query() else {
            return Some(false);
        };
        // Nothing is copied that the prefix or the budget rules out.
        let (start, end) = self.prefix.split_at_checked(path.len()).unwrap_or((&self.prefix, b""));
        if !path.starts_with(start) || !query.starts_with(end) {
            return Some(false);
        }
        request.spend(path.len().saturating_add(query.len()), self.bytes)?;
        Some(self.compiled.is_match(&latin1(&[path, query].concat())))
    }
}

fn build(pattern: &str, bytes: usize) -> Result<regex_lite::Regex, RegexError> {
    let built = regex_lite::RegexBuilder::new(pattern)
        .size_limit(bytes)
        // A path decoded may hold one.
        .dot_matches_new_line(true)
        .nest_limit(MAX_NESTING)
        .build();
    built.map_err(|error| match error.to_string() {
        message if message.contains("size limit") => RegexError::TooLarge,
        message => RegexError::Invalid(message),
    })
}

/// The literal that every match of a pattern begins with; empty where that cannot be told at a glance.
fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let is_literal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'%' | b'~');
    let literals = pattern.iter().take_while(|byte| is_literal(byte)).count();
    let (prefix, rest) = pattern.split_at_checked(literals).unwrap_or_default();
    // With an alternative anywhere, a match may begin otherwise; with a repetition, the last literal may be absent.
    match rest {
        _ if pattern.contains(&b'|') && !is_one_group(rest) => b"",
        [b'*' | b'?' | b'+' | b'{', ..] => prefix.split_last().map_or(b"", |(_, others)| others),
        _ => prefix,
    }
}

/// Tells whether a pattern is a single group without groups, classes or escapes in it, perhaps repeated: `(a|b)?`.
fn is_one_group(pattern: &[u8]) -> bool {
    let Some(inner) = pattern.strip_prefix(b"(") else {
        return false;
    };
    let end = inner.iter().position(|byte| *byte == b')').unwrap_or(inner.len());
    let (inner, rest) = inner.split_at_checked(end).unwrap_or_default();
    !inner.iter().any(|byte| matches!(byte, b'(' | b'[' | b'\\')) && !rest.contains(&b'|')
}

/// Reads bytes as Latin-1.
fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// Refuses the escapes that RE2 reads otherwise, or that name what is no byte where the text is `bytes`.
fn check_escapes(pattern: &[u8], bytes: bool) -> Result<(), RegexError> {
    let error = |message: &str| Err(RegexError::Invalid(told!("{message}")));
    let mut rest = pattern;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
        match rest {
            [b'<' | b'>', ..] => return error("\\< and \\> are no word boundaries in RE2; write < or >, or \\b"),
            [b'b' | b'B', b'{', ..] => return error("RE2 has no word boundaries but \\b and \\B"),
            [b'u' | b'U', ..] => return error("RE2 has no \\u and \\U; write \\x and two digits for a byte"),
            [b'x', b'{', digits @ ..] => {
                let digits = digits.split(|byte| *byte == b'}').next().unwrap_or_default();
                let leading = digits.iter().take_while(|digit| **digit == b'0').count();
                if bytes && digits.len().saturating_sub(leading) > 2 {
                    return error("paths are bytes; write \\x and two digits for each");
                }
            }
            _ => {}
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::literal_prefix;

    /// A shorter one would only cost time, and a longer one would miss matches.
    #[test]
    fn a_pattern_begins_with_what_every_match_begins_with() {
        for (pattern, prefix) in [
            ("/a/b/[a-z]+", "/a/b/"),
            ("/a_b-c%2f~d", "/a_b-c%2f~d"),
            ("/a.b", "/a"),
            ("^/a", ""),
            ("/ab*", "/a"),
            ("/ab?c", "/a"),
            ("/ab+", "/a"),
            ("/ab{0,2}", "/a"),
            ("*", ""),
            ("/a|/b", ""),
            ("/a(b|c)", "/a"),
            ("/a(b|c)?", "/a"),
            ("/a(b)(c)", "/a"),
            ("/a(b|c)|d", ""),
            ("/a.(b|c)", ""),
            ("/a((b|c))", ""),
            ("/a(b[|]c)", ""),
            (r"/a(b\)|c)", ""),
        ] {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }
}
