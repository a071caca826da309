//! Secrets inside shown resources.

use serde_json::{Value, json};

/// `[redacted]`, as the base64 that a bytes field is written in.
pub(super) const REDACTED: &str = "W3JlZGFjdGVkXQ==";

/// The messages whose bytes no one may read.
const SECRET_TYPES: [&str; 2] = [
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.GenericSecret",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
];

/// Replaces inline bytes below every secret, however deep.
pub(super) fn redact(value: &mut Value) {
    walk(value, &mut |secret| hide(secret));
}

/// Calls `edit` with every secret.
pub(super) fn walk(value: &mut Value, edit: &mut impl FnMut(&mut Value)) {
    let secret = value
        .get("@type")
        .and_then(Value::as_str)
        .is_some_and(|name| SECRET_TYPES.contains(&name));
    if secret {
        edit(value);
        return;
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, edit)),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, edit)),
        _ => {}
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if matches!(name.as_str(), "inline_bytes" | "inline_string") {
                    *field = json!(REDACTED);
                } else {
                    hide(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}
