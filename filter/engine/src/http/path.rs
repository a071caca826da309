//! Request paths: what a backend may read in them that the router did not.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::query;

/// How often a later reader may decode a path: a proxy and a backend, each once.
const DECODINGS: usize = 2;

/// Tells whether a path hides a step to another place: a segment that becomes `.` or `..`, or vanishes before another
/// one, once it is decoded, its parameters are cut off (`..;x`, RFC 3986 §3.3) or spaces around it are dropped.
///
/// The router resolves plain dot segments before a route is chosen. Servlet containers cut parameters off first, and so
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
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let vanishes = name.is_empty() && !segment.is_empty() && segments.peek().is_some();
        if vanishes || matches!(name.trim_ascii(), b"." | b"..") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::hides_step;

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
        ] {
            assert!(!hides_step(target.as_bytes()), "{target}");
        }
    }
}
