//! Query parameters, read and removed in place: what is not removed keeps its bytes.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Splits a request target at its first `?`.
#[must_use]
pub fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    (parts.next().unwrap_or_default(), parts.next())
}

/// Iterates over the percent-decoded values of every parameter of that name.
///
/// Names are compared after percent-decoding and with their case; `+` stays `+`; a parameter without `=` has an empty
/// value.
pub fn values<'a>(query: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Cow<'a, [u8]>> {
    parameters(query)
        .map(parts)
        .filter(move |(sent, _)| is_named(sent, name))
        .map(|(_, value)| Cow::from(percent_decode(value)))
}

/// Removes every parameter whose name is one of `names`, or returns `None` when there is none.
///
/// The other parameters keep their bytes and order; a query that becomes empty goes with its `?`.
pub fn without<'n, N>(target: &[u8], names: &N) -> Option<Vec<u8>>
where
    N: Iterator<Item = &'n [u8]> + Clone,
{
    let (path, query) = split(target);
    let removed = |parameter: &&[u8]| names.clone().any(|name| is_named(parts(parameter).0, name));
    let query = query?;
    if !parameters(query).any(|parameter| removed(&parameter)) {
        return None;
    }
    let mut edited = Vec::with_capacity(target.len());
    edited.extend_from_slice(path);
    let mut separator = b'?';
    for kept in parameters(query).filter(|parameter| !removed(parameter)) {
        edited.push(separator);
        edited.extend_from_slice(kept);
        separator = b'&';
    }
    Some(edited)
}

fn parameters(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&')
}

fn parts(parameter: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = parameter.splitn(2, |byte| *byte == b'=');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn is_named(sent: &[u8], name: &[u8]) -> bool {
    percent_decode(sent).eq(name.iter().copied())
}
