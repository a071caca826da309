//! Where a request holds tokens.

use std::borrow::Cow;

use crate::{
    credential::source::{Presented, Source},
    document::{JwtSources, KeySource},
    http::{
        RequestHead,
        header::{is_field_value, trim},
    },
    policy::{PolicyError, at_most, told},
};

/// The most places in which the tokens of one provider are looked for.
const MAX_SOURCES: usize = 16;
/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 64;

const AUTHORIZATION: &[u8] = b"authorization";

/// A place of a request that may hold a token.
#[derive(Debug)]
pub(crate) struct TokenSource {
    source: Source,
    /// What stands before the token in a header.
    prefix: Option<Box<[u8]>>,
}

impl TokenSource {
    /// Compiles where tokens are looked for: headers, then cookies, then parameters.
    pub(crate) fn compile_all(path: &str, sources: Option<&JwtSources>) -> Result<Vec<Self>, PolicyError> {
        let path = told!("{path}.extractFrom");
        let none = JwtSources::default();
        let sources = sources.unwrap_or(&none);
        let count = sources.headers.len() + sources.cookies.len() + sources.params.len();
        at_most(&path, "sources", count, MAX_SOURCES)?;
        if count == 0 {
            return Ok(vec![
                Self {
                    source: Source::Header(AUTHORIZATION.into()),
                    prefix: Some((*b"Bearer ").into()),
                },
                Self {
                    source: Source::Param((*b"access_token").into()),
                    prefix: None,
                },
            ]);
        }
        let mut compiled = Vec::with_capacity(count);
        for (index, header) in sources.headers.iter().enumerate() {
            let path = told!("{path}.headers[{index}]");
            let prefix = header.value_prefix.as_deref().map(str::as_bytes);
            let begins_blank = |prefix: &[u8]| prefix.first().is_some_and(u8::is_ascii_whitespace);
            if prefix.is_some_and(|prefix| {
                prefix.len() > MAX_PREFIX || !is_field_value(prefix) || prefix.contains(&b',') || begins_blank(prefix)
            }) {
                let message = "a prefix has at most 64 bytes, no comma, no control character and no space in front";
                let message = told!("{message}");
                return Err(PolicyError::new(
                    told!("{path}.valuePrefix"),
                    "invalid-value-prefix",
                    message,
                ));
            }
            compiled.push(Self {
                source: Source::compile(&path, &KeySource::Header(header.name.clone()), "token")?,
                prefix: prefix.filter(|prefix| !prefix.is_empty()).map(Box::from),
            });
        }
        let cookies = sources.cookies.iter().cloned().map(KeySource::Cookie).enumerate();
        let params = sources.params.iter().cloned().map(KeySource::Param).enumerate();
        let cookies = cookies.map(|(index, source)| (told!("{path}.cookies[{index}]"), source));
        let params = params.map(|(index, source)| (told!("{path}.params[{index}]"), source));
        for (path, source) in cookies.chain(params) {
            compiled.push(Self {
                source: Source::compile(&path, &source, "token")?,
                prefix: None,
            });
        }
        Ok(compiled)
    }

    /// Reads the source. Of a header with a prefix each element of its list may hold a token, and only at the element's begin.
    pub(crate) fn presented<'a>(&'a self, head: &'a RequestHead) -> Presented<'a> {
        let Source::Header(name) = &self.source else {
            return self.source.presented(head);
        };
        let Some(prefix) = &self.prefix else {
            // Envoy joins the lines of this one, and an element of such a list is no token.
            if **name == *AUTHORIZATION {
                return Presented::of(head.joined(name).into_iter());
            }
            return Presented::of(head.values(name).map(trim).map(Cow::Borrowed));
        };
        let elements = head.values(name).flat_map(|line| line.split(|byte| *byte == b','));
        let tokens = elements.filter_map(|element| without_prefix(trim(element), prefix, **name == *AUTHORIZATION));
        Presented::of(tokens.map(Cow::Borrowed))
    }

    /// The place, if it holds something.
    pub(crate) fn found(&self, head: &RequestHead) -> Option<&Source> {
        match self.presented(head) {
            Presented::Nothing => None,
            Presented::One(_) | Presented::Different => Some(&self.source),
        }
    }
}

/// What follows the prefix and spaces; in `Authorization` the prefix is a scheme, which has no case.
fn without_prefix<'v>(value: &'v [u8], prefix: &[u8], is_scheme: bool) -> Option<&'v [u8]> {
    let (start, token) = value.split_at_checked(prefix.len())?;
    let same = if is_scheme {
        start.eq_ignore_ascii_case(prefix)
    } else {
        start == prefix
    };
    same.then(|| trim(token))
}
