//! The claims of a verified token, as expressions read them.

use std::sync::Arc;

use super::value::Value;
use crate::jwt::json::{self, Number, Object};

/// The namespace under which Envoy's own filter keeps claims, and under which they are read here too.
pub(crate) const NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// An object of a token: a map whose values are made when somebody looks at them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a> {
    members: &'a Object,
    /// Whether `scope` and `scp` are lists, however the token writes them.
    lists_scopes: bool,
}

impl<'a> Claims<'a> {
    /// As the token has them.
    pub(crate) const fn new(members: &'a Object) -> Self {
        Self {
            members,
            lists_scopes: false,
        }
    }

    /// As Envoy's filter writes them down: `scope` and `scp` are taken apart at their spaces, if there is something in them.
    pub(crate) const fn in_metadata(members: &'a Object) -> Self {
        Self {
            members,
            lists_scopes: true,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.members.iter().count()
    }

    pub(crate) fn weight(self) -> usize {
        self.members.weight()
    }

    pub(crate) fn names(self) -> impl Iterator<Item = Value<'a>> {
        self.members.iter().map(|(name, _)| text(name))
    }

    pub(crate) fn get(self, name: &str) -> Option<Value<'a>> {
        match self.members.get(name)? {
            json::Value::String(scopes)
                if self.lists_scopes && (name == "scope" || name == "scp") && !scopes.is_empty() =>
            {
                let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
                Some(Value::list(scopes.map(text).collect()))
            }
            claim => value(claim),
        }
    }

    /// Makes all values at once; `None` if one of them is none here.
    pub(crate) fn to_map(self) -> Option<Value<'a>> {
        let entries = self.members.iter();
        let entries = entries.map(|(name, _)| Some((text(name), self.get(name)?)));
        entries
            .collect::<Option<Vec<_>>>()
            .map(|entries| Value::Map(Arc::new(entries)))
    }
}

const fn text(text: &str) -> Value<'_> {
    Value::Text(std::borrow::Cow::Borrowed(text.as_bytes()))
}

/// What a claim is worth; `None` for a list with a number that is none here.
fn value(claim: &json::Value) -> Option<Value<'_>> {
    Some(match claim {
        json::Value::Null => Value::Null,
        json::Value::Bool(value) => Value::Bool(*value),
        json::Value::Number(value) => return number(value),
        json::Value::String(value) => text(value),
        json::Value::Array(items) => Value::list(items.iter().map(value).collect::<Option<_>>()?),
        json::Value::Object(members) => Value::Claims(Claims::new(members)),
    })
}

/// A whole number as exactly as CEL has it, any other as the nearest double; `None` beyond the largest.
fn number(number: &Number) -> Option<Value<'static>> {
    let digits = number.to_string();
    if let Ok(whole) = digits.parse() {
        return Some(Value::Int(whole));
    }
    if let Ok(whole) = digits.parse() {
        return Some(Value::Uint(whole));
    }
    digits
        .parse()
        .ok()
        .filter(|double: &f64| double.is_finite())
        .map(Value::Double)
}
