//! Who a request comes from, as a connection manager is told to find it out.

use std::net::IpAddr;

use envoy_types::pb::envoy::{
    config::{
        common::mutation_rules::v3::header_mutation::Action,
        core::v3::{CidrRange, TypedExtensionConfig, header_value_option::HeaderAppendAction},
    },
    extensions::{
        filters::network::http_connection_manager::v3::HttpConnectionManager,
        http::{
            early_header_mutation::header_mutation::v3::HeaderMutation,
            original_ip_detection::{custom_header::v3::CustomHeaderConfig, xff::v3::XffConfig},
        },
    },
};
use prost::{Message, Name};

use super::unclear::{Unclear, whole};

/// Header lines by lower-case name.
type Lines = Vec<(String, String)>;

/// What a connection manager does to find out the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detection {
    /// Headers taken away first, or set to a text.
    mutations: Vec<(String, Option<String>)>,
    /// The peer is the client, and nobody else's word counts.
    pub(crate) peer: bool,
    /// Tried in order where the peer is not.
    detectors: Vec<Detector>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Detector {
    /// The entry of `x-forwarded-for` after so many from the right.
    Hops(u32),
    /// The last entry of `x-forwarded-for` that no proxy of these networks is.
    Networks(Vec<Network>),
    /// A header that holds nothing else; the status if it holds none.
    Header(String, Option<u16>),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    pub(crate) fn read(range: &CidrRange) -> Result<Self, Unclear> {
        let address = range.address_prefix.parse();
        address
            .map(|address| Self {
                address,
                length: range.prefix_len.map_or(0, |length| length.value),
            })
            .map_err(|_| Unclear::new(format!("{:?} is no address", range.address_prefix)))
    }

    pub(crate) fn contains(&self, client: IpAddr) -> bool {
        match (self.address, client) {
            (IpAddr::V4(network), IpAddr::V4(client)) => {
                let shift = 32_u32.saturating_sub(self.length);
                let cut = |address: u32| address.checked_shr(shift).unwrap_or_default();
                cut(network.to_bits()) == cut(client.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(client)) => {
                let shift = 128_u32.saturating_sub(self.length);
                let cut = |address: u128| address.checked_shr(shift).unwrap_or_default();
                cut(network.to_bits()) == cut(client.to_bits())
            }
            _ => false,
        }
    }
}

impl Detection {
    /// Takes what is said about clients out of a connection manager.
    ///
    /// # Errors
    ///
    /// Some of it is not understood.
    pub(crate) fn take(manager: &mut HttpConnectionManager) -> Result<Self, Unclear> {
        let mut detection = Self {
            peer: manager.use_remote_address.take().is_some_and(|flag| flag.value),
            ..Self::default()
        };
        // What is appended to x-forwarded-for is nobody's business here: rules on that header are not answered.
        manager.skip_xff_append = false;
        for extension in std::mem::take(&mut manager.early_header_mutation_extensions) {
            let mutations: HeaderMutation = typed(&extension)?;
            for mutation in mutations.mutations {
                detection.mutations.push(match mutation.action {
                    Some(Action::Remove(name)) => (name, None),
                    Some(Action::Append(option))
                        if option.append_action == i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd) =>
                    {
                        let header = option.header.unwrap_or_default();
                        (header.key, Some(header.value))
                    }
                    _ => return Err(Unclear::new("a header is changed early in a way that only Envoy knows")),
                });
            }
        }
        for extension in std::mem::take(&mut manager.original_ip_detection_extensions) {
            detection.detectors.push(Detector::read(&extension)?);
        }
        Ok(detection)
    }

    /// Changes the headers as the connection manager does first.
    pub(crate) fn mutate(&self, lines: &mut Lines) {
        for (name, value) in &self.mutations {
            lines.retain(|(sent, _)| !sent.eq_ignore_ascii_case(name));
            lines.extend(value.iter().map(|value| (name.to_ascii_lowercase(), value.clone())));
        }
    }

    /// The client of a request, or the status that it is refused with.
    ///
    /// # Errors
    ///
    /// It is written in a way that only Envoy reads.
    pub(crate) fn client(&self, peer: IpAddr, lines: &Lines) -> Result<Result<IpAddr, u16>, Unclear> {
        if self.peer {
            return Ok(Ok(peer));
        }
        for detector in &self.detectors {
            let found = match detector {
                Detector::Hops(skipped) => {
                    let entries = forwarded(lines);
                    let entry = entries
                        .iter()
                        .rev()
                        .nth(usize::try_from(*skipped).unwrap_or(usize::MAX));
                    match entry {
                        Some(entry) => address(entry)?,
                        None => None,
                    }
                }
                Detector::Networks(networks) => untrusted(peer, &forwarded(lines), networks)?,
                Detector::Header(name, status) => {
                    let line = lines.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name));
                    let found = match line {
                        Some((_, value)) => address(value)?,
                        None => None,
                    };
                    if let (None, Some(status)) = (found, status) {
                        return Ok(Err(*status));
                    }
                    found
                }
            };
            if let Some(client) = found {
                return Ok(Ok(client));
            }
        }
        Ok(Ok(peer))
    }
}

impl Detector {
    fn read(extension: &TypedExtensionConfig) -> Result<Self, Unclear> {
        let type_url = extension.typed_config.as_ref().map(|config| config.type_url.as_str());
        if type_url == Some(CustomHeaderConfig::type_url().as_str()) {
            let config: CustomHeaderConfig = typed(extension)?;
            let status = config
                .reject_with_status
                .map(|status| u16::try_from(status.code).unwrap_or(403));
            let rest = CustomHeaderConfig {
                header_name: String::new(),
                reject_with_status: None,
                ..config.clone()
            };
            whole("the detection of clients by a header", &rest)?;
            return Ok(Self::Header(config.header_name, status));
        }
        let config: XffConfig = typed(extension)?;
        match &config.xff_trusted_cidrs {
            None => Ok(Self::Hops(config.xff_num_trusted_hops)),
            Some(trusted) => Ok(Self::Networks(
                trusted.cidrs.iter().map(Network::read).collect::<Result<_, _>>()?,
            )),
        }
    }
}

/// Reads an extension of one type.
fn typed<M: Message + Name + Default>(extension: &TypedExtensionConfig) -> Result<M, Unclear> {
    extension
        .typed_config
        .as_ref()
        .filter(|config| config.type_url == M::type_url())
        .and_then(|config| M::decode(config.value.as_slice()).ok())
        .ok_or_else(|| Unclear::new(format!("the extension {} is one that only Envoy knows", extension.name)))
}

fn forwarded(lines: &Lines) -> Vec<String> {
    let values: Vec<&str> = lines
        .iter()
        .filter(|(name, _)| name == "x-forwarded-for")
        .map(|(_, value)| value.as_str())
        .collect();
    if values.is_empty() {
        return Vec::new();
    }
    values
        .join(",")
        .split(',')
        .map(|entry| entry.trim().to_owned())
        .collect()
}

/// The last entry that no trusted proxy is, if a trusted proxy sent the request; none if an entry before it is no address,
/// or if there are more than 20 of them (Envoy, `Utility::getLastNonTrustedAddressFromXFF`). Empty ones do not count.
fn untrusted(peer: IpAddr, entries: &[String], networks: &[Network]) -> Result<Option<IpAddr>, Unclear> {
    let trusted = |address: IpAddr| networks.iter().any(|network| network.contains(address));
    if !trusted(peer) {
        return Ok(None);
    }
    let entries: Vec<&String> = entries.iter().filter(|entry| !entry.is_empty()).collect();
    if entries.len() > 20 {
        return Ok(None);
    }
    let mut last = None;
    for entry in entries.into_iter().rev() {
        let Some(found) = address(entry)? else {
            return Ok(None);
        };
        last = Some(found);
        if !trusted(found) {
            return Ok(last);
        }
    }
    Ok(last)
}

/// An address as Envoy reads it; what only looks like one is not judged.
fn address(text: &str) -> Result<Option<IpAddr>, Unclear> {
    if let Ok(address) = text.parse() {
        return Ok(Some(address));
    }
    let alike = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'%' | b'[' | b']');
    if !text.is_empty() && text.bytes().all(alike) && text.contains(['.', ':']) {
        return Err(Unclear::new(format!("{text:?} may be an address for Envoy or not")));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(detector: Detector, peer: &str, forwarded: &str) -> Option<IpAddr> {
        let detection = Detection {
            detectors: vec![detector, Detector::Header("x-none".to_owned(), None)],
            ..Detection::default()
        };
        let lines = vec![
            ("x-forwarded-for".to_owned(), forwarded.to_owned()),
            ("x-none".to_owned(), "0.0.0.0".to_owned()),
        ];
        detection.client(peer.parse().unwrap(), &lines).unwrap().ok()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn hops_count_from_the_right_and_what_is_missing_is_nobody() {
        assert_eq!(client(Detector::Hops(0), "10.0.0.1", "1.1.1.1, 2.2.2.2"), ip("2.2.2.2"));
        assert_eq!(client(Detector::Hops(1), "10.0.0.1", "1.1.1.1, 2.2.2.2"), ip("1.1.1.1"));
        assert_eq!(client(Detector::Hops(2), "10.0.0.1", "1.1.1.1, 2.2.2.2"), ip("0.0.0.0"));
        assert_eq!(client(Detector::Hops(0), "10.0.0.1", "unknown"), ip("0.0.0.0"));
    }

    #[test]
    fn trusted_proxies_are_passed_over() {
        let networks = || {
            let range = CidrRange {
                address_prefix: "10.0.0.0".to_owned(),
                prefix_len: crate::xds::number(8),
            };
            Detector::Networks(vec![Network::read(&range).unwrap()])
        };
        assert_eq!(
            client(networks(), "10.0.0.1", "9.9.9.9, 1.1.1.1, 10.0.0.2"),
            ip("1.1.1.1")
        );
        assert_eq!(client(networks(), "11.0.0.1", "1.1.1.1"), ip("0.0.0.0"));
        assert_eq!(client(networks(), "10.0.0.1", "x, 10.0.0.2"), ip("0.0.0.0"));
        assert_eq!(client(networks(), "10.0.0.1", "x, 1.1.1.1"), ip("1.1.1.1"));
        assert_eq!(client(networks(), "10.0.0.1", "1.1.1.1, , 10.0.0.2,"), ip("1.1.1.1"));
        let chain = |proxies: usize| format!("1.1.1.1{}", ", 10.0.0.2".repeat(proxies));
        assert_eq!(client(networks(), "10.0.0.1", &chain(19)), ip("1.1.1.1"));
        assert_eq!(client(networks(), "10.0.0.1", &chain(20)), ip("0.0.0.0"));
    }

    #[test]
    fn a_header_that_must_be_there_is_asked_for() {
        let detection = Detection {
            detectors: vec![Detector::Header("x-client".to_owned(), Some(403))],
            ..Detection::default()
        };
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(detection.client(peer, &Vec::new()).unwrap(), Err(403));
        let odd = vec![("x-client".to_owned(), "1.2.3".to_owned())];
        assert!(detection.client(peer, &odd).is_err());
    }
}
