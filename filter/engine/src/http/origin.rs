//! Web origins (RFC 6454) and the patterns that allow them.

use crate::policy::{PolicyError, TELLS, told};

/// The longest origin that is looked at, in bytes; a host name has 253 at most.
pub const MAX_BYTES: usize = 512;

/// One origin with a host, split. Case and default ports make no difference between origins; see [`Pattern::matches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The scheme, as sent.
    pub scheme: &'a [u8],
    /// The host, as sent; an IPv6 address with its brackets.
    pub host: &'a [u8],
    /// The port, `None` for none and for the scheme's default.
    pub port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// Parses `scheme://host[:port]`; `None` for anything else, `null` and a list of origins included.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (scheme, authority) = split_scheme(text)?;
        let (host, port) = split_port(authority)?;
        if !is_host(host) {
            return None;
        }
        Some(Self {
            scheme,
            host,
            port: port.filter(|port| Some(*port) != default_port(scheme)),
        })
    }
}

impl<'a> Origin<'a> {
    /// Reads the origin of an absolute URL, such as a `Referer`; `None` for what no browser sends as one: user information,
    /// a fragment, or bytes that a URL cannot hold.
    #[must_use]
    pub fn of_url(url: &'a [u8]) -> Option<Self> {
        if !url
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\'))
        {
            return None;
        }
        let colon = url.iter().position(|byte| *byte == b':')?;
        let host = colon.checked_add(3)?;
        let end = url
            .iter()
            .enumerate()
            .position(|(at, byte)| at >= host && matches!(byte, b'/' | b'?'));
        Self::parse(url.get(..end.unwrap_or(url.len()))?)
    }

    /// Tells whether the scheme is one of the web's, which a host of its own can have.
    pub(crate) fn is_web(&self) -> bool {
        default_port(self.scheme).is_some()
    }

    /// Tells whether the scheme is `http`.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"http")
    }
}

/// An authority without its last colon and what follows it, as Envoy compares hosts (`ignore_port_in_host_matching`).
#[must_use]
pub fn without_port(authority: &[u8]) -> &[u8] {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let bracket = authority.iter().rposition(|byte| *byte == b']');
    match colon {
        // A colon within brackets is part of an IPv6 address.
        Some(colon) if bracket.is_none_or(|bracket| bracket < colon) => authority.get(..colon).unwrap_or(authority),
        _ => authority,
    }
}

/// Reads the host of an `:authority`, its port left out; `None` if it holds none.
pub(crate) fn host_of(authority: &[u8]) -> Option<&[u8]> {
    let (host, _) = split_port(authority)?;
    is_host(host).then_some(host)
}

/// What an entry of `allowOrigins` lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `*`: whatever the origin.
    Any,
    /// `scheme://host[:port]`, the host perhaps with a wildcard.
    Hosts {
        /// Lower case.
        scheme: Box<[u8]>,
        /// The host part.
        host: HostPattern,
        /// The port, folded as in [`Origin::port`].
        port: PortPattern,
    },
}

/// The host of an entry of `allowOrigins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// `*.example.com`: one or more labels before this lower-case suffix, which begins with its dot.
    Below(Box<[u8]>),
    /// This lower-case host.
    Exact(Box<[u8]>),
}

/// The port of an entry of `allowOrigins`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPattern {
    /// Every port: `https://*` has always meant that in Envoy Gateway.
    Any,
    /// This port; `None` is the scheme's default.
    Exact(Option<u16>),
}

impl Pattern {
    /// Parses an entry of `allowOrigins` in the form of Envoy Gateway's `Origin` type; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let bytes = text.as_bytes();
        if bytes.len() > 253 {
            return None;
        }
        let (scheme, authority) = split_scheme(bytes)?;
        let (host, port) = split_port(authority)?;
        let pattern = match host {
            b"*" => HostPattern::Any,
            [b'*', suffix @ ..] => {
                let name = suffix.strip_prefix(b".")?;
                is_name(name).then(|| HostPattern::Below(suffix.to_ascii_lowercase().into()))?
            }
            name => is_name(name).then(|| HostPattern::Exact(name.to_ascii_lowercase().into()))?,
        };
        let port = match (&pattern, port) {
            (HostPattern::Any, None) => PortPattern::Any,
            (_, port) => PortPattern::Exact(port.filter(|port| Some(*port) != default_port(scheme))),
        };
        Some(Self::Hosts {
            scheme: scheme.to_ascii_lowercase().into(),
            host: pattern,
            port,
        })
    }

    /// Tells whether the entry names no host: `*`, `https://*`.
    #[must_use]
    pub const fn names_no_host(&self) -> bool {
        matches!(
            self,
            Self::Any
                | Self::Hosts {
                    host: HostPattern::Any,
                    ..
                }
        )
    }

    /// Tells whether the entry lets an origin in, case and default ports ignored.
    #[must_use]
    pub fn matches(&self, origin: &Origin<'_>) -> bool {
        let Self::Hosts { scheme, host, port } = self else {
            return true;
        };
        let host_matches = match host {
            HostPattern::Any => true,
            HostPattern::Exact(name) => origin.host.eq_ignore_ascii_case(name),
            HostPattern::Below(suffix) => origin
                .host
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| origin.host.split_at_checked(at))
                .is_some_and(|(labels, end)| is_name(labels) && end.eq_ignore_ascii_case(suffix)),
        };
        let port_matches = match port {
            PortPattern::Any => true,
            PortPattern::Exact(port) => *port == origin.port,
        };
        host_matches && port_matches && origin.scheme.eq_ignore_ascii_case(scheme)
    }
}

fn split_scheme(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = text.split_at_checked(colon)?;
    let authority = rest.strip_prefix(b"://")?;
    let (first, others) = scheme.split_first()?;
    let valid = first.is_ascii_alphabetic()
        && others
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    valid.then_some((scheme, authority))
}

/// Splits `host[:port]`; `None` when the port is not a number from 1 to 65535.
fn split_port(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let after_bracket = authority.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    let Some(colon) = authority.iter().skip(after_bracket).position(|byte| *byte == b':') else {
        return Some((authority, None));
    };
    let (host, rest) = authority.split_at_checked(after_bracket.checked_add(colon)?)?;
    Some((host, Some(parse_port(rest.strip_prefix(b":")?)?)))
}

/// Parses a port; `None` unless it is one to five digits, from 1 to 65535.
#[must_use]
pub(crate) fn parse_port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) {
        return None;
    }
    let mut port: u32 = 0;
    for digit in digits {
        port = port * 10 + char::from(*digit).to_digit(10)?;
    }
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn default_port(scheme: &[u8]) -> Option<u16> {
    if scheme.eq_ignore_ascii_case(b"https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case(b"http") {
        Some(80)
    } else {
        None
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        name => is_name(name),
    }
}

/// Tells whether the bytes are labels with single dots between them.
fn is_name(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'.').all(|label| {
        !label.is_empty()
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

/// The error for an entry that is no origin, with what was probably meant.
pub(crate) fn invalid_pattern(path: String, text: &str) -> PolicyError {
    let error = PolicyError::new(path, "invalid-origin", told!("{text:?} is not an origin"));
    if !TELLS {
        return error;
    }
    let host = text.split_once("://").map_or(text, |(_, host)| host);
    let bare = host.split('/').next().unwrap_or_default();
    match Pattern::parse(&format!("https://{bare}")) {
        Some(_) if text.contains("://") => error.fix(told!("write scheme, host and port only")),
        Some(_) => error.fix(told!("write {:?}", told!("https://{bare}"))),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn what_stands_in_the_place_of_a_port_is_left_out() {
        // As Envoy 1.40.0 compares hosts.
        let cases: [(&str, &str); 9] = [
            ("x.y", "x.y"),
            ("x.y:80", "x.y"),
            ("x.y:99999", "x.y"),
            ("x.y:abc", "x.y"),
            ("x.y:", "x.y"),
            ("x:1:2", "x:1"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ];
        for (authority, expected) in cases {
            assert_eq!(without_port(authority.as_bytes()), expected.as_bytes(), "{authority}");
        }
    }
}
