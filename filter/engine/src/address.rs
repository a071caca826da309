//! Client addresses and the networks that hold them; an IPv4 address mapped into IPv6 is its IPv4 address.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::{http::origin::parse_port, policy::told};

/// The address from which a request came, as the proxy determined it. Only what a [`crate::host::Host`] tells makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Reads what the proxy tells; `None` when there is no address or it cannot be read.
    ///
    /// The unspecified address (RFC 4291 §2.5.2) is none: it stands for a client of whom no trusted proxy told.
    pub(crate) fn read(told: &[u8]) -> Option<Self> {
        parse(told).filter(|address| !address.is_unspecified()).map(Self)
    }
}

/// Parses `ip`, `ip:port`, `[v6]` or `[v6]:port`, in canonical form; an IPv6 zone is ignored.
#[must_use]
pub fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = if let Some(bracketed) = text.strip_prefix('[') {
        let (inner, rest) = bracketed.split_once(']')?;
        check_port(rest)?;
        IpAddr::V6(without_zone(inner).parse().ok()?)
    } else if text.matches(':').nth(1).is_some() {
        IpAddr::V6(without_zone(text).parse().ok()?)
    } else {
        let (address, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
        check_port(port)?;
        IpAddr::V4(address.parse().ok()?)
    };
    Some(address.to_canonical())
}

/// `:port`, which Envoy writes as `:0` for an address from `x-forwarded-for`, or nothing.
fn check_port(rest: &str) -> Option<()> {
    match rest {
        "" | ":0" => Some(()),
        rest => parse_port(rest.strip_prefix(':')?.as_bytes()).map(drop),
    }
}

fn without_zone(text: &str) -> &str {
    text.split_once('%').map_or(text, |(address, _)| address)
}

/// Parses a network in CIDR notation, in canonical form: masked, and an IPv4 network mapped into IPv6 as IPv4.
///
/// # Errors
/// What to write instead, where that can be told.
pub fn parse_network(text: &str) -> Result<IpNet, Option<String>> {
    let Some((address, length)) = text.split_once('/') else {
        return Err(text.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(_) => told!("{address}/32"),
            IpAddr::V6(_) => told!("{address}/128"),
        }));
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(padded(address).map(|address| told!("{address}/{length}")));
    };
    let digits_only = (1..=3).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
    let network = length
        .parse::<u8>()
        .ok()
        .filter(|_| digits_only && (length == "0" || !length.starts_with('0')))
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or(None)?
        .trunc();
    Ok(canonical(network))
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    v6.prefix_len()
        .checked_sub(96)
        .zip(v6.network().to_ipv4_mapped())
        .and_then(|(length, address)| Ipv4Net::new(address, length).ok())
        .map_or(network, IpNet::V4)
}

/// Completes an IPv4 address of which only the first octets are written, `10.0.0` or `10.`.
fn padded(address: &str) -> Option<Ipv4Addr> {
    let octets: Vec<&str> = address.trim_end_matches('.').split('.').collect();
    if octets.len() > 3 {
        return None;
    }
    let mut octets = octets.into_iter().map(|octet| octet.parse::<u8>().ok());
    let mut next = || octets.next().unwrap_or(Some(0));
    Some(Ipv4Addr::new(next()?, next()?, next()?, next()?))
}

/// The first and the last address of an IPv4 network; `None` for whatever [`parse_network`] has to read.
///
/// A policy has thousands of networks, and every worker that meets it reads them while requests wait.
fn plain_v4(text: &[u8]) -> Option<(u32, u32)> {
    let mut address = 0_u32;
    let mut rest = text;
    for end in *b".../" {
        let (octet, after) = plain_number(rest)?;
        address = address << 8 | u32::from(u8::try_from(octet).ok()?);
        rest = after.strip_prefix(&[end])?;
    }
    let (length, b"") = plain_number(rest)? else {
        return None;
    };
    let hosts = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    (length <= 32).then_some((address & !hosts, address | hosts))
}

/// Reads a number of one to three digits that begins with another one than 0, or is 0.
fn plain_number(text: &[u8]) -> Option<(u16, &[u8])> {
    let digit = |byte: u8| u16::from(byte.wrapping_sub(b'0'));
    match text {
        [b'0', rest @ ..] if !rest.first().is_some_and(u8::is_ascii_digit) => Some((0, rest)),
        [b'0', ..] => None,
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            Some((digit(*a) * 100 + digit(*b) * 10 + digit(*c), rest))
        }
        [a @ b'0'..=b'9', b @ b'0'..=b'9', rest @ ..] => Some((digit(*a) * 10 + digit(*b), rest)),
        [a @ b'0'..=b'9', rest @ ..] => Some((digit(*a), rest)),
        _ => None,
    }
}

/// A set of networks, as sorted ranges that do not touch: a look-up is a binary search whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// A text that is no network, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoNetwork<'a> {
    pub(crate) index: usize,
    pub(crate) text: &'a str,
    /// What to write instead, where that can be told.
    pub(crate) fix: Option<String>,
}

impl NetworkSet {
    /// Parses networks as [`parse_network`] does.
    pub(crate) fn parse<'a>(networks: impl Iterator<Item = &'a str>) -> Result<Self, NoNetwork<'a>> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (index, text) in networks.enumerate() {
            if let Some(range) = plain_v4(text.as_bytes()) {
                v4.push(range);
                continue;
            }
            match parse_network(text) {
                Ok(IpNet::V4(net)) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                Ok(IpNet::V6(net)) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
                Err(fix) => return Err(NoNetwork { index, text, fix }),
            }
        }
        Ok(Self {
            v4: merge(v4, |end| end.checked_add(1)),
            v6: merge(v6, |end| end.checked_add(1)),
        })
    }

    /// Tells whether the set holds the client's address.
    #[must_use]
    pub fn contains(&self, client: ClientAddress) -> bool {
        self.holds(client.0)
    }

    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => is_within(&self.v4, u32::from(address)),
            IpAddr::V6(address) => is_within(&self.v6, u128::from(address)),
        }
    }
}

fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|(first, last), (_, end)| {
        // No next value: the range before reaches the highest address and holds whatever follows.
        let touches = next(*end).is_none_or(|after| *first <= after);
        if touches {
            *end = *end.max(last);
        }
        touches
    });
    ranges.into()
}

fn is_within<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after
        .checked_sub(1)
        .and_then(|at| ranges.get(at))
        .is_some_and(|(_, last)| value <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_of_an_address_is_read() {
        for (text, address) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:443", "10.1.2.3"),
            ("10.1.2.3:0", "10.1.2.3"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:65535", "2001:db8::1"),
            ("[::ffff:10.1.2.3]:5", "10.1.2.3"),
            ("::ffff:a01:203", "10.1.2.3"),
            ("[fe80::1%eth0]:80", "fe80::1"),
            ("fe80::1%2", "fe80::1"),
        ] {
            assert_eq!(parse(text.as_bytes()), address.parse().ok(), "{text}");
        }
    }

    #[test]
    fn whatever_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            "10.1.2.3:",
            "10.1.2.3:65536",
            "10.1.2.3:x",
            "10.1.2",
            "010.1.2.3",
            "10.1.2.3 ",
            "[10.1.2.3]:80",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "2001:db8::g",
            "/run/socket",
            "10.1.2.3,10.1.2.4",
            "10.1.2.3:+80",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }

    #[test]
    fn networks_are_canonical_and_mistakes_are_explained() {
        for (text, network) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            assert_eq!(parse_network(text).ok(), network.parse().ok(), "{text}");
        }
        for (text, fix) in [
            ("10.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("::1", Some("::1/128")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/08", None),
            ("10.0.0.0/+8", None),
            ("010.0.0.0/8", None),
            (" 10.0.0.0/8", None),
            ("10.0.0.0/8/8", None),
            ("host/8", None),
            ("", None),
        ] {
            assert_eq!(parse_network(text), Err(fix.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let networks = [
            "10.0.1.0/24",
            "10.0.0.0/24",
            "10.0.0.128/25",
            "255.255.255.0/24",
            "255.0.0.0/8",
            "::/0",
            "::1/128",
        ];
        let set = NetworkSet::parse(networks.into_iter()).unwrap();
        assert_eq!(set.v4.len(), 2);
        assert_eq!(set.v6.len(), 1);
        assert!(set.holds("10.0.1.255".parse().unwrap()));
        assert!(!set.holds("10.0.2.0".parse().unwrap()));
        assert!(!set.holds("9.255.255.255".parse().unwrap()));
        assert!(set.holds("255.255.255.255".parse().unwrap()));
    }

    #[test]
    fn plain_networks_are_read_as_all_others_are() {
        let ends = |text: &str| match parse_network(text) {
            Ok(IpNet::V4(net)) => Some((u32::from(net.network()), u32::from(net.broadcast()))),
            _ => None,
        };
        let numbers = [
            "0", "1", "9", "10", "32", "33", "99", "100", "255", "256", "999", "00", "01", "1000", "", "+1", "a",
        ];
        let mut plain = 0;
        for number in numbers {
            for text in [
                format!("{number}.2.3.4/24"),
                format!("1.{number}.3.4/8"),
                format!("1.2.{number}.4/32"),
                format!("1.2.3.{number}/0"),
                format!("201.102.3.4/{number}"),
                format!("1.2.3.4/{number} "),
                format!("1.2.3.4.5/{number}"),
                format!("1.2.3/{number}"),
                format!("::ffff:1.2.3.4/{number}"),
            ] {
                let read = plain_v4(text.as_bytes());
                assert!(read.is_none() || read == ends(&text), "{text}: {read:?}");
                plain += usize::from(read.is_some());
            }
        }
        for length in 0..=32 {
            let text = format!("203.0.113.7/{length}");
            assert_eq!(plain_v4(text.as_bytes()), ends(&text), "{text}");
        }
        assert!(plain > 30, "{plain}");
    }

    #[test]
    fn the_first_text_that_is_no_network_is_told() {
        let mistake = |texts: &[&'static str]| NetworkSet::parse(texts.iter().copied()).unwrap_err();
        let (text, fix) = ("10.0/16", Some("10.0.0.0/16".to_owned()));
        assert_eq!(
            mistake(&["::/0", "10.0.0.0/8", "10.0/16", "x"]),
            NoNetwork { index: 2, text, fix }
        );
        assert_eq!(
            mistake(&["10.0.0.0/33"]),
            NoNetwork {
                index: 0,
                text: "10.0.0.0/33",
                fix: None
            }
        );
    }
}
