//! Small pieces of xDS messages that many resources share.

use envoy_types::pb::{
    envoy::config::core::v3::{
        self as core, Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, SocketAddress, address,
        config_source::ConfigSourceSpecifier, data_source, socket_address::PortSpecifier,
    },
    google::protobuf::{Any, BoolValue, Duration, UInt32Value},
};
use prost::{Message, Name};

/// Packs a message whose encoding is the same every time: one without maps of several entries.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// Encodes messages one after the other, which reads as their merge.
///
/// Generated map fields have no order, and a resource's version is the hash of its bytes: a message with several entries
/// is therefore written as one message per entry.
pub(crate) fn merged<M: Message>(parts: impl IntoIterator<Item = M>) -> Vec<u8> {
    parts.into_iter().flat_map(|part| part.encode_to_vec()).collect()
}

pub(crate) const fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(crate) const fn no() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

pub(crate) const fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) const fn milliseconds(milliseconds: u32) -> Option<Duration> {
    Some(Duration {
        seconds: (milliseconds / 1000) as i64,
        nanos: (milliseconds % 1000 * 1_000_000) as i32,
    })
}

pub(crate) fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(bytes)),
        ..DataSource::default()
    })
}

/// The stream that every resource comes by.
pub(crate) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

pub(crate) fn socket(address: &str, port: u32) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        })),
    })
}

pub(crate) fn header(
    name: &str,
    value: &str,
    action: core::header_value_option::HeaderAppendAction,
) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..core::HeaderValue::default()
        }),
        append_action: action.into(),
        keep_empty_value: true,
        ..core::HeaderValueOption::default()
    }
}
