//! Hostnames of listeners and routes (Gateway API, `Hostname`): exact, `*.suffix`, or `*` for any.

/// The hostname that stands for any.
pub const ANY: &str = "*";

/// Writes a hostname as everything here compares it: lower case; `*` for an absent or empty one.
#[must_use]
pub fn normalize(hostname: Option<&str>) -> String {
    match hostname {
        None | Some("") => ANY.to_owned(),
        Some(hostname) => hostname.to_ascii_lowercase(),
    }
}

/// Whether every host that `hostname` stands for is one that `pattern` stands for.
///
/// A wildcard covers one or more labels: `*.example.com` covers `a.b.example.com`, but not `example.com`.
#[must_use]
pub fn covers(pattern: &str, hostname: &str) -> bool {
    if pattern == ANY || pattern == hostname {
        return true;
    }
    let Some(suffix) = wildcard_suffix(pattern) else {
        return false;
    };
    // The suffix keeps its leading dot, so that `*.example.com` does not cover `badexample.com`.
    let hostname = wildcard_suffix(hostname).unwrap_or(hostname);
    hostname.len() > suffix.len() && hostname.ends_with(suffix)
}

/// The hosts that both stand for, if any: the more specific of the two.
#[must_use]
pub fn intersection<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if covers(one, other) {
        Some(other)
    } else if covers(other, one) {
        Some(one)
    } else {
        None
    }
}

/// How specific a hostname is: exact beats wildcard, a longer suffix beats a shorter one, anything beats `*`.
#[must_use]
pub fn specificity(hostname: &str) -> (u8, usize) {
    if hostname == ANY {
        (0, 0)
    } else if let Some(suffix) = wildcard_suffix(hostname) {
        (1, suffix.len())
    } else {
        (2, hostname.len())
    }
}

/// `.example.com` of `*.example.com`.
fn wildcard_suffix(hostname: &str) -> Option<&str> {
    hostname.strip_prefix('*').filter(|suffix| suffix.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersects_both_ways() {
        let cases: [(&str, &str, Option<&str>); 13] = [
            ("*", "a.example.com", Some("a.example.com")),
            ("a.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "a.b.example.com", Some("a.b.example.com")),
            ("*.example.com", "example.com", None),
            ("*.example.com", "badexample.com", None),
            ("*.example.com", ".example.com", None),
            ("*.com", "*.a.com", Some("*.a.com")),
            ("*.example.com", "*.example.com", Some("*.example.com")),
            ("*.example.com", "*.example.org", None),
            ("*.example.com", "*.badexample.com", None),
            ("*.example.com", "*", Some("*.example.com")),
            ("a.example.com", "b.example.com", None),
        ];
        for (one, other, expected) in cases {
            assert_eq!(intersection(one, other), expected, "{one} {other}");
            assert_eq!(intersection(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn orders_by_specificity() {
        let ordered = ["*", "*.com", "*.example.com", "example.com", "a.example.com"];
        assert!(ordered.is_sorted_by_key(|hostname| specificity(hostname)));
    }
}
