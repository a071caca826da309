//! Client addresses and the networks that hold them; an IPv4 address mapped into IPv6 is its IPv4 address.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::http::origin::parse_port;

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
            IpAddr::V4(_) => format!("{address}/32"),
            IpAddr::V6(_) => format!("{address}/128"),
        }));
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(padded(address).map(|address| format!("{address}/{length}")));
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

/// A set of networks, as sorted ranges that do not touch: a look-up is a binary search whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl NetworkSet {
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

impl FromIterator<IpNet> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        Self {
            v4: merge(v4, |end| end.checked_add(1)),
            v6: merge(v6, |end| end.checked_add(1)),
        }
    }
}

fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            // No next value: the range before reaches the highest address and holds whatever follows.
            Some((_, end)) if next(*end).is_none_or(|after| first <= after) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
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
        let set: NetworkSet = [
            "10.0.1.0/24",
            "10.0.0.0/24",
            "10.0.0.128/25",
            "255.255.255.0/24",
            "255.0.0.0/8",
            "::/0",
            "::1/128",
        ]
        .iter()
        .map(|text| parse_network(text).unwrap())
        .collect();
        assert_eq!(set.v4.len(), 2);
        assert_eq!(set.v6.len(), 1);
        assert!(set.holds("10.0.1.255".parse().unwrap()));
        assert!(!set.holds("10.0.2.0".parse().unwrap()));
        assert!(!set.holds("9.255.255.255".parse().unwrap()));
        assert!(set.holds("255.255.255.255".parse().unwrap()));
    }
}
