//! Resources as JSON that people read and Envoy loads.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

use crate::Resource;

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
    let message = DESCRIPTORS.as_ref().and_then(|pool| {
        let name = resource.type_url.rsplit('/').next()?;
        DynamicMessage::decode(pool.get_message_by_name(name)?, resource.body.clone()).ok()
    });
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(true);
    let value = message.and_then(|message| {
        message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .ok()
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
