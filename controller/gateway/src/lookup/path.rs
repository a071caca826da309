//! What Envoy makes of a path before it selects a route: measured on Envoy 1.40 for every byte, plain and escaped.

/// A path after `path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT`, `normalize_path` and `merge_slashes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Normalized {
    /// It goes on as this.
    Path(String),
    /// Answered with 307 to this.
    Redirect(String),
    /// Answered with 400.
    Refused,
}

/// Normalises the target of a request; the query stays as it is.
pub(crate) fn normalize(target: &str) -> Normalized {
    let (path, query) = split(target);
    let (unescaped, escaped_slashes) = unescape_slashes(path);
    let Some(canonical) = canonical(without_parameters_of_dots(&unescaped).as_bytes()) else {
        return Normalized::Refused;
    };
    let path = format!("{}{query}", merge_slashes(&String::from_utf8_lossy(&canonical)));
    if escaped_slashes {
        Normalized::Redirect(path)
    } else {
        Normalized::Path(path)
    }
}

/// Path and query, the query with its `?`.
pub(crate) fn split(target: &str) -> (&str, &str) {
    target
        .find('?')
        .and_then(|at| target.split_at_checked(at))
        .unwrap_or((target, ""))
}

fn unescape_slashes(path: &str) -> (String, bool) {
    let mut unescaped = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        unescaped.push_str(before);
        let code = after.get(..2).map(str::to_ascii_lowercase);
        let slash = match code.as_deref() {
            Some("2f") => '/',
            Some("5c") => '\\',
            _ => {
                unescaped.push('%');
                rest = after;
                continue;
            }
        };
        unescaped.push(slash);
        rest = after.get(2..).unwrap_or_default();
    }
    unescaped.push_str(rest);
    let found = unescaped.len() != path.len();
    (unescaped, found)
}

/// Without what follows `.;` and `..;` at the start of a segment: Envoy takes these for dot segments, where the dots are not
/// escaped. Only `/` ends a segment here, and what is cut off is not looked at, be it NUL.
fn without_parameters_of_dots(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Dot segments resolved, `\` read as `/`, letters, digits, `-`, `_` and `~` without escape, and bytes that no URL may hold
/// with one. Nothing if Envoy refuses the path.
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    let mut output: Vec<u8> = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = dot(rest) {
            rest = if output.last() == Some(&b'/') {
                after_dot(after, &mut output)
            } else {
                output.push(b'.');
                after
            };
            continue;
        }
        rest = tail;
        match first {
            b'\\' => output.push(b'/'),
            b'%' => {
                let decoded = tail.get(..2).and_then(hex);
                match decoded {
                    Some(0) => return None,
                    Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') => {
                        output.push(byte);
                        rest = tail.get(2..).unwrap_or_default();
                    }
                    _ => output.push(b'%'),
                }
            }
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => output.extend(format!("%{first:02X}").as_bytes()),
            byte => output.push(*byte),
        }
    }
    Some(output)
}

/// What follows a dot, plain or escaped, at the start.
fn dot(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(b".")
        .or_else(|| path.strip_prefix(b"%2e"))
        .or_else(|| path.strip_prefix(b"%2E"))
}

/// Resolves what a dot at the start of a segment stands for, and returns what is left.
fn after_dot<'a>(after: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
    if let Some(rest) = end_of_segment(after) {
        return rest;
    }
    if let Some(rest) = dot(after).and_then(end_of_segment) {
        output.pop();
        while output.last().is_some_and(|byte| *byte != b'/') {
            output.pop();
        }
        if output.is_empty() {
            output.push(b'/');
        }
        return rest;
    }
    output.push(b'.');
    after
}

/// What follows a slash, or nothing at the end.
fn end_of_segment(path: &[u8]) -> Option<&[u8]> {
    match path.split_first() {
        None => Some(path),
        Some((b'/' | b'\\', rest)) => Some(rest),
        Some(_) => None,
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
}

fn merge_slashes(path: &str) -> String {
    if !path.contains("//") {
        return path.to_owned();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let start = if path.starts_with('/') { "/" } else { "" };
    let end = if path.ends_with('/') { "/" } else { "" };
    format!("{start}{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_what_envoy_was_seen_to_make_of_it() {
        // Each pair was read from Envoy 1.40.0.
        let cases = [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/%2e/b", "/a/b"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a//b", "/a/b"),
            ("//", "//"),
            ("///a//", "/a/"),
            ("/a?x=//../%2f", "/a?x=//../%2f"),
            ("/a%2", "/a%2"),
            ("/a%zz", "/a%zz"),
            ("/a\\b", "/a/b"),
            ("/a%23b", "/a%23b"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/a;x/../b", "/b"),
            ("/a/b/../../../c", "/c"),
            ("/a/b/%2e%2e/", "/a/"),
            ("/a//../b", "/a/b"),
            ("/A%41%7e%2d%5f", "/AA~-_"),
            ("/a%2eb", "/a.b"),
            ("/a%25b", "/a%25b"),
            ("/public/..;/admin", "/admin"),
            ("/public/..;x=1/admin", "/admin"),
            ("/public/.;x/admin", "/public/admin"),
            ("/a/..;x", "/"),
            ("/a/.;", "/a/"),
            ("/a/..;x?q", "/?q"),
            ("/a/..;x;y/b", "/b"),
            ("/a/b;c/..;d/e", "/a/e"),
            ("/a/.;b.;c/d", "/a/d"),
            ("/a//..;x/b", "/a/b"),
            ("/a/..;x//b", "/b"),
            ("/a/..;%00/b", "/b"),
            ("/a/..;x\\b", "/"),
            ("/a\\..;x/b", "/a/..;x/b"),
            ("/a/.;x\\..;y/b", "/a/b"),
            ("/a/%2e%2e;/b", "/a/..;/b"),
            ("/a/.%2e;x/b", "/a/..;x/b"),
            ("/a/..%3b/b", "/a/..%3b/b"),
            ("/a/...;/b", "/a/...;/b"),
            ("/a/..,x/b", "/a/..,x/b"),
            ("/a/.x;y/b", "/a/.x;y/b"),
            ("/;/a", "/;/a"),
            ("/a\"<>^`{|}b", "/a%22%3C%3E%5E%60%7B%7C%7Db"),
            ("/a!$&'()*+,-:;=@[]_~b", "/a!$&'()*+,-:;=@[]_~b"),
        ];
        for (target, expected) in cases {
            assert_eq!(normalize(target), Normalized::Path(expected.to_owned()), "{target}");
        }
    }

    #[test]
    fn escaped_slashes_are_redirected_and_nul_is_refused() {
        let cases = [
            ("/a%2fb", "/a/b"),
            ("/a%5cb", "/a/b"),
            ("/a%2f..%2fb", "/b"),
            ("/a%2fb?c%2fd", "/a/b?c%2fd"),
            ("/%2f/a", "/a"),
            ("/a%2F%2E%2E/b", "/b"),
            ("/a/..;x%2fb", "/b"),
            ("/a/..;%2f/c", "/c"),
            ("/a/b%5c..;x/c", "/a/b/..;x/c"),
            ("/a/b/..;%5cc", "/a/"),
        ];
        for (target, expected) in cases {
            assert_eq!(normalize(target), Normalized::Redirect(expected.to_owned()), "{target}");
        }
        assert_eq!(normalize("/a%00b"), Normalized::Refused);
    }
}
