//! Request paths: what a backend may read in them that the router did not.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::query;

/// How often a later reader may decode a path: a proxy and a backend, each once.
const DECODINGS: usize = 2;

/// Tells whether a path hides a step to another place: a segment that becomes `.` or `..`, or vanishes before another
/// one, once it is decoded, its parameters are cut off (`..;x`, RFC 3986 §3.3), it ends at an encoded `?`, `#` or NUL, or
/// spaces and control characters around it are dropped.
///
/// The router resolves plain dot segments before a route is chosen, plain ones with parameters too. Servlet containers cut parameters off first, and so
/// find in `/open/..;/admin` the place `/admin`, whose policy was never asked. Slashes are merged too, all but the two that
/// Envoy leaves of a path of nothing else: a backend serves `/` for them, and an exact match of `/` was passed over.
#[must_use]
pub fn hides_step(target: &[u8]) -> bool {
    let mut path = Cow::Borrowed(query::split(target).0);
    if path.len() > 1 && path.iter().all(|byte| *byte == b'/') {
        return true;
    }
    for _ in 0..DECODINGS {
        if has_step(&path) {
            return true;
        }
        if !path.contains(&b'%') {
            return false;
        }
        path = Cow::Owned(percent_decode(&path).collect());
    }
    has_step(&path)
}

fn has_step(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| matches!(byte, b'/' | b'\\')).peekable();
    while let Some(segment) = segments.next() {
        let ends = |byte: &u8| matches!(byte, b';' | b'?' | b'#' | 0);
        let name = trim_blank(trim_blank(segment).split(ends).next().unwrap_or_default());
        let vanishes = name.is_empty() && !segment.is_empty() && segments.peek().is_some();
        if vanishes || matches!(name, b"." | b"..") {
            return true;
        }
    }
    false
}

/// Splits a request target into its path and the rest, which begins with `?` or `#`.
#[must_use]
pub fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    target
        .split_at_checked(end.unwrap_or(target.len()))
        .unwrap_or((target, b""))
}

/// Every path that someone behind the router may find in a request target.
#[derive(Debug)]
pub struct Readings<'a> {
    sent: &'a [u8],
    others: Vec<Vec<u8>>,
    query: Option<&'a [u8]>,
}

impl<'a> Readings<'a> {
    /// Reads a target: decoded up to twice, and each time also with what many backends overlook left out: parameters,
    /// repeated slashes, spaces around a segment, and whatever follows an encoded `?`, `#` or NUL.
    #[must_use]
    pub fn of(target: &'a [u8]) -> Self {
        let (sent, rest) = split(target);
        let mut readings = Self {
            sent,
            others: Vec::new(),
            query: rest.starts_with(b"?").then_some(rest),
        };
        for path in decodings(sent) {
            if path.iter().any(|byte| is_overlooked(*byte)) || path.array_windows().any(|pair| pair == b"//") {
                readings.insert(as_overlooked(&path));
                // As Envoy reads it: everything behind the first `;` is no part of the path.
                let end = path.iter().position(|byte| *byte == b';').unwrap_or(path.len());
                readings.insert(path.get(..end).unwrap_or_default().to_vec());
            }
            readings.insert(path);
        }
        readings
    }

    /// Iterates over the paths, each once, the one that was sent first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.sent).chain(self.others.iter().map(Vec::as_slice))
    }

    /// Returns the query with its `?`.
    #[must_use]
    pub const fn query(&self) -> Option<&'a [u8]> {
        self.query
    }

    fn insert(&mut self, path: Vec<u8>) {
        if path != self.sent && !self.others.contains(&path) {
            self.others.push(path);
        }
    }
}

/// Lists a path and what it becomes by decoding, up to twice.
#[must_use]
pub fn decodings(path: &[u8]) -> Vec<Vec<u8>> {
    let mut decodings = vec![path.to_vec()];
    for _ in 0..DECODINGS {
        let Some(last) = decodings.last().filter(|last| last.contains(&b'%')) else {
            break;
        };
        let decoded: Vec<u8> = percent_decode(last).collect();
        if decoded == *last {
            break;
        }
        decodings.push(decoded);
    }
    decodings
}

const fn is_overlooked(byte: u8) -> bool {
    matches!(byte, b';' | b'?' | b'#' | b'\\' | b' ') || byte.is_ascii_control()
}

fn as_overlooked(path: &[u8]) -> Vec<u8> {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#' | 0));
    let path = path.get(..end.unwrap_or(path.len())).unwrap_or_default();
    let mut read = Vec::with_capacity(path.len());
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        if read.last() != Some(&b'/') {
            read.push(b'/');
        }
        read.extend_from_slice(trim_blank(name));
    }
    read
}

fn trim_blank(mut text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte == b' ' || byte.is_ascii_control();
    while let Some((first, rest)) = text.split_first().filter(|(first, _)| is_blank(first)) {
        let _ = first;
        text = rest;
    }
    while let Some((last, rest)) = text.split_last().filter(|(last, _)| is_blank(last)) {
        let _ = last;
        text = rest;
    }
    text
}

/// Writes a configured path as the router leaves a request's: unreserved characters and slashes decoded, slashes merged, and
/// dot segments resolved (RFC 3986 §6.2.2).
#[must_use]
pub fn normalized(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let octet = rest.get(..3).and_then(|escape| percent_decode(escape).next());
        match octet {
            Some(octet) if *first == b'%' && octet != b'%' && is_decoded_by_router(octet) => {
                decoded.push(octet);
                rest = rest.get(3..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        ends_open = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut path = Vec::with_capacity(decoded.len());
    for segment in &segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if ends_open || path.is_empty() {
        path.push(b'/');
    }
    path
}

const fn is_decoded_by_router(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::{Readings, hides_step, normalized};

    #[test]
    fn a_path_is_read_as_backends_may_read_it() {
        for (target, others) in [
            ("/admin", &[][..]),
            ("/admin?x=%41;b", &[]),
            ("/a%2541", &["/a%41", "/aA"]),
            ("/a;x=1/b;y", &["/a/b", "/a"]),
            ("/a%20/b", &["/a /b", "/a/b"]),
            ("/a%3fb", &["/a?b", "/a"]),
            ("/a%00.png", &["/a\0.png", "/a"]),
            ("/a%5Cb", &["/a\\b", "/a/b"]),
            ("/a%252fb", &["/a%2fb", "/a/b"]),
            ("/a%2f%2fb", &["/a//b", "/a/b"]),
            ("/100%", &[]),
        ] {
            let readings = Readings::of(target.as_bytes());
            let mut read: Vec<_> = readings
                .others
                .iter()
                .map(|path| String::from_utf8_lossy(path))
                .collect();
            let mut expected = others.to_vec();
            read.sort_unstable();
            expected.sort_unstable();
            assert_eq!(read, expected, "{target}");
        }
    }

    #[test]
    fn a_configured_path_is_normalized_as_a_requests() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/a;b=1/c%20d%C3%A9", "/a;b=1/c%20d%C3%A9"),
            ("/%61%2Db%25", "/a-b%25"),
            ("/a//b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a%2fb\\c", "/a/b/c"),
            ("/%", "/%"),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&normalized(path.as_bytes())),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn hidden_steps_are_found() {
        for target in [
            "/open/..;/admin",
            "/open/..;a=1;b/admin?x",
            "/open/.;/admin",
            "/open/..%3b/admin",
            "/open/%2e%2e;/admin",
            "/open/..",
            "/open/../admin",
            "/open/%252e%252e/admin",
            "/open/..%20/admin",
            "/open/..%09",
            "/open/..%255cadmin",
            "/open/x%252f..%252fadmin",
            "/;a/admin",
            "/%3ba=1/admin",
            "..;/admin",
            "//",
            "///?x",
            "/open/..%01/admin",
            "/open/..%0b/admin",
            "/open/..%0b",
            "/open/%0c../admin",
            "/open/..%3f/admin",
            "/open/..%23/admin",
            "/open/..%2500/admin",
            "/open/%2500../admin",
            "/open/..%20%3bx/admin",
            "/%20/admin",
            "/%1f/admin",
        ] {
            assert!(hides_step(target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn parameters_dots_and_signs_in_names_are_no_steps() {
        for target in [
            "",
            "*",
            "/",
            "/a/b/",
            "/a//b",
            "/;jsessionid=1",
            "/a/;jsessionid=1",
            "/a;v=1.1/b;w=..",
            "/.well-known/x",
            "/...",
            "/..a/a..;b",
            "/100%/%zz",
            "/a?x=/..;/b",
            "/%25",
            "/a%20b/%20",
            "/a/;x",
            "/a/%3fx",
            "/a%3f/..b%23",
        ] {
            assert!(!hides_step(target.as_bytes()), "{target}");
        }
    }
}
