//! Claims by their names, as headers and as scopes.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::json::{Object, Value};

/// Finds a claim. A name is first looked for as it stands, dots included, and then within objects, the longest name of an object first.
#[must_use]
pub fn find<'c>(claims: &'c Object, name: &str) -> Option<&'c Value> {
    let mut found = None;
    any(claims, name, &mut |value| {
        found = Some(value);
        true
    });
    found
}

/// Tells whether one of the values that a name may stand for is as asked, in the order in which [`find`] looks for them.
pub fn any<'c>(claims: &'c Object, name: &str, asked: &mut dyn FnMut(&'c Value) -> bool) -> bool {
    if claims.get(name).is_some_and(&mut *asked) {
        return true;
    }
    name.rmatch_indices('.').any(|(dot, _)| {
        let (outer, inner) = name.split_at_checked(dot).unwrap_or_default();
        match claims.get(outer) {
            Some(Value::Object(object)) => any(object, inner.strip_prefix('.').unwrap_or(inner), asked),
            _ => false,
        }
    })
}

/// Writes a claim as a header's value; `None` for what has none: `null` and the empty text. Lists and objects are JSON in base64.
#[must_use]
pub fn header_value(claim: &Value) -> Option<Vec<u8>> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(text.as_bytes().to_vec()).filter(|text| !text.is_empty()),
        Value::Bool(_) | Value::Number(_) => Some(written(claim).into_bytes()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(written(claim)).into_bytes()),
    }
}

fn written(claim: &Value) -> String {
    let mut text = String::new();
    claim.write(&mut text);
    text
}

/// Tells whether a scope is in `scope` or `scp`, each a list or names with spaces between them (RFC 8693 §4.2).
#[must_use]
pub fn has_scope(claims: &Object, scope: &str) -> bool {
    ["scope", "scp"].iter().any(|name| match claims.get(name) {
        Some(Value::String(scopes)) => scopes.split(' ').any(|other| other == scope),
        Some(Value::Array(scopes)) => scopes.iter().any(|other| other.as_str() == Some(scope)),
        _ => false,
    })
}
