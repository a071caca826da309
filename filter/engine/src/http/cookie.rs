//! Cookies of a request, read and removed in place.

use super::header::trim;

/// Iterates over the values of every cookie of that name in one `Cookie` line, a pair of quotes around them cut off.
///
/// Names are compared with their case (RFC 6265 §5.4). A `;` always ends a cookie, in quotes too, as in browsers.
pub fn values<'a>(line: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    cookies(line)
        .filter_map(parts)
        .filter(move |(sent, _)| *sent == name)
        .map(|(_, value)| unquote(value))
}

/// Removes every cookie whose name is one of `names` from the lines, or returns `None` when there is none.
///
/// The result is one line that keeps the other cookies' bytes and order; empty when nothing is left.
pub fn without<'l, 'n, L, N>(lines: L, names: &N) -> Option<Vec<u8>>
where
    L: Iterator<Item = &'l [u8]> + Clone,
    N: Iterator<Item = &'n [u8]> + Clone,
{
    let removed = |cookie: &[u8]| parts(cookie).is_some_and(|(sent, _)| names.clone().any(|name| sent == name));
    if !lines.clone().any(|line| cookies(line).any(removed)) {
        return None;
    }
    let mut edited = Vec::new();
    for kept in lines.flat_map(cookies).filter(|cookie| !removed(cookie)).map(trim) {
        if kept.is_empty() {
            continue;
        }
        if !edited.is_empty() {
            edited.extend_from_slice(b"; ");
        }
        edited.extend_from_slice(kept);
    }
    Some(edited)
}

fn cookies(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';')
}

fn parts(cookie: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = cookie.splitn(2, |byte| *byte == b'=');
    Some((trim(parts.next()?), trim(parts.next()?)))
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}
