//! Resources as JSON that people read and Envoy loads.

use std::sync::LazyLock;

use envoy_types::pb::envoy::config::route::v3::{FilterConfig, RouteConfiguration};
use prost::{Message, Name, bytes::Bytes};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

use crate::{
    Resource,
    chain::{RECHECK, rechecked},
    resource::ROUTE_CONFIGURATION,
};

mod redaction;
mod snippet;

pub use snippet::snippet;

/// The descriptors of every message that a configuration is made of; `tests/gateway/descriptors.rs` holds them up to
/// date.
static DESCRIPTORS: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(include_bytes!("envoy.binpb").as_slice()).ok());

/// A resource as JSON, with its type under `@type` and every secret replaced by `[redacted]`.
///
/// Names are those of the API reference (`snake_case`), defaults are left out, messages inside `Any` are written out.
#[must_use]
pub fn show(resource: &Resource) -> Value {
    let mut value = open(resource);
    redaction::redact(&mut value);
    value
}

/// A resource as JSON, secrets included.
fn open(resource: &Resource) -> Value {
    let (body, rechecked) = without_rechecks(resource);
    let message = DESCRIPTORS.as_ref().and_then(|pool| {
        let name = resource.type_url.rsplit('/').next()?;
        DynamicMessage::decode(pool.get_message_by_name(name)?, body).ok()
    });
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(true);
    let value = message.and_then(|message| {
        message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .ok()
    });
    let value = value.map(|mut value| {
        for (host, route) in rechecked {
            if let Some(Value::Object(route)) = value.pointer_mut(&format!("/virtual_hosts/{host}/routes/{route}")) {
                let enabled = json!({"@type": FilterConfig::type_url(), "config": {}});
                route.insert("typed_per_filter_config".to_owned(), json!({ RECHECK: enabled }));
            }
        }
        value
    });
    let mut shown = Map::from_iter([("@type".to_owned(), json!(resource.type_url))]);
    match value {
        Some(Value::Object(fields)) => shown.extend(fields),
        // Only a resource that another version wrote could fail to decode.
        _ => {
            shown.insert("name".to_owned(), json!(resource.name));
        }
    }
    Value::Object(shown)
}

/// Takes out of a route table what the JSON form of messages cannot say: an `Any` that is there and empty. Tells of which routes,
/// by the positions of virtual host and route.
fn without_rechecks(resource: &Resource) -> (Bytes, Vec<(usize, usize)>) {
    let table = Some(resource).filter(|resource| resource.type_url == ROUTE_CONFIGURATION);
    let Some(mut table) = table.and_then(|resource| RouteConfiguration::decode(resource.body.clone()).ok()) else {
        return (resource.body.clone(), Vec::new());
    };
    let mut found = Vec::new();
    for (place, host) in table.virtual_hosts.iter_mut().enumerate() {
        for (position, route) in host.routes.iter_mut().enumerate() {
            if route.typed_per_filter_config == rechecked() {
                route.typed_per_filter_config.clear();
                found.push((place, position));
            }
        }
    }
    if found.is_empty() {
        return (resource.body.clone(), found);
    }
    (table.encode_to_vec().into(), found)
}
