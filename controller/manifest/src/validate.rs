//! A tree against a schema: faults with their places, and the value as an API server would store it.

use std::collections::HashSet;

use portcullis_attachment::finding::Severity;
use serde_json::{Map, Value as Json};

use crate::{
    near, pattern,
    place::{Position, field, index},
    rules,
    schema::{Kind, Schema},
    tree::{Node, Value},
};

/// A fault of one object.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) position: Position,
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

/// How an object is walked.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// No value may appear in a message.
    pub(crate) secret: bool,
    /// Null means that a field is absent, as where an API server decodes a kind itself.
    pub(crate) null_is_absent: bool,
}

/// Checks a whole object. Rules (CEL) are judged only if everything else is right, as an API server does.
pub(crate) fn validate(root: &Node, schema: &Schema, manner: Manner) -> (Json, Vec<Fault>) {
    let mut walk = Walk {
        manner,
        faults: Vec::new(),
    };
    let json = walk.value(root, root.position, schema, "").unwrap_or_default();
    if walk.faults.is_empty() {
        walk.rules(Some(root), root.position, &json, schema, "");
    }
    (json, walk.faults)
}

struct Walk {
    manner: Manner,
    faults: Vec<Fault>,
}

impl Walk {
    fn fault(&mut self, position: Position, code: &'static str, path: &str, message: String, fix: Option<String>) {
        self.faults.push(Fault {
            position,
            severity: Severity::Error,
            code,
            path: path.to_owned(),
            message,
            fix,
        });
    }

    /// A value for a message.
    fn shown(&self, value: &str) -> String {
        if self.manner.secret {
            return "the value".to_owned();
        }
        match value.char_indices().nth(64) {
            Some((end, _)) => format!("{:?}", format!("{}...", value.get(..end).unwrap_or_default())),
            None => format!("{value:?}"),
        }
    }

    /// Checks a value and returns it with defaults; nothing if it is of the wrong type.
    fn value(&mut self, node: &Node, at: Position, schema: &Schema, path: &str) -> Option<Json> {
        match (&node.value, schema.kind) {
            (_, Kind::Any) => Some(plain(node)),
            (Value::Bool(value), Kind::Bool) => Some(Json::Bool(*value)),
            (Value::Int(number), Kind::Integer | Kind::Number | Kind::IntOrString) => {
                self.number(*number, at, schema, path);
                Some(Json::from(*number))
            }
            (Value::Float(number), Kind::Number) => Some(Json::from(*number)),
            (Value::Float(number), Kind::Integer) if number.fract() == 0.0 && number.abs() < 9e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
                let number = *number as i64;
                self.number(number, at, schema, path);
                Some(Json::from(number))
            }
            (Value::String(text), Kind::String | Kind::IntOrString) => {
                self.text(text, at, schema, path);
                Some(Json::String(text.clone()))
            }
            (Value::Sequence(nodes), Kind::List) => Some(self.list(nodes, at, schema, path)),
            (Value::Mapping(_), Kind::Object) => Some(self.object(node, at, schema, path)),
            _ => {
                let (message, fix) = wrong_type(node, schema.kind, self.manner.secret);
                self.fault(at, "wrong-type", path, message, fix);
                None
            }
        }
    }

    fn object(&mut self, node: &Node, at: Position, schema: &Schema, path: &str) -> Json {
        let Value::Mapping(entries) = &node.value else {
            return Json::Null;
        };
        let mut fields = Map::new();
        let mut named = Vec::new();
        for entry in entries {
            let path = &field(path, &entry.key);
            if entry.repeated {
                let message = "is given twice".to_owned();
                self.fault(
                    entry.position,
                    "duplicate-key",
                    path,
                    message,
                    Some("remove one of the two".to_owned()),
                );
                continue;
            }
            named.push(entry.key.as_str());
            let Some(schema) = schema.field(&entry.key) else {
                if schema.open {
                    fields.insert(entry.key.clone(), plain(&entry.node));
                } else {
                    self.unknown(&entry.key, entry.position, schema, path);
                }
                continue;
            };
            if matches!(entry.node.value, Value::Null) && schema.kind != Kind::Any {
                // What kubectl writes: `creationTimestamp: null`.
                let absent = self.manner.null_is_absent || path.starts_with("metadata.");
                if schema.default.is_none() && !absent {
                    let message = "has no value".to_owned();
                    let fix = Some("give it a value, or remove it".to_owned());
                    self.fault(entry.position, "wrong-type", path, message, fix);
                }
                continue;
            }
            let at = entry.node.position_under(entry.position);
            if let Some(value) = self.value(&entry.node, at, schema, path) {
                fields.insert(entry.key.clone(), value);
            }
        }
        for name in &schema.required {
            let defaulted = schema.properties.get(name).is_some_and(|field| field.default.is_some());
            if !named.contains(&name.as_str()) && !defaulted {
                let message = "is required".to_owned();
                self.fault(
                    at,
                    "missing-field",
                    &field(path, name),
                    message,
                    Some(format!("add {name:?}")),
                );
            }
        }
        for (name, schema) in &schema.properties {
            if let Some(default) = &schema.default
                && !fields.contains_key(name)
                && (!named.contains(&name.as_str()) || is_null(node, name))
            {
                fields.insert(name.clone(), default.clone());
            }
        }
        self.length(fields.len(), at, schema, path, "an object", "fields");
        Json::Object(fields)
    }

    fn unknown(&mut self, name: &str, at: Position, schema: &Schema, path: &str) {
        let names = || schema.properties.keys().map(String::as_str);
        let fix = match near::nearest(name, names()) {
            Some(meant) => format!("write {meant:?}"),
            None if names().count() <= 8 => format!("write {}", near::list(&names().collect::<Vec<_>>())),
            None => "remove it".to_owned(),
        };
        self.fault(at, "unknown-field", path, "is not a field here".to_owned(), Some(fix));
    }

    fn list(&mut self, nodes: &[Node], at: Position, schema: &Schema, path: &str) -> Json {
        self.length(nodes.len(), at, schema, path, "a list", "entries");
        let Some(items) = &schema.items else {
            return Json::Array(nodes.iter().map(plain).collect());
        };
        let mut values: Vec<Json> = Vec::new();
        // Looked up, not compared with each other: a list may be as long as a file.
        let mut seen = HashSet::new();
        for (number, node) in nodes.iter().enumerate() {
            let path = &index(path, number);
            let Some(value) = self.value(node, node.position, items, path) else {
                continue;
            };
            let identity = || -> Vec<Option<String>> {
                let keys = schema.keys.iter();
                keys.map(|key| value.get(key).map(Json::to_string)).collect()
            };
            if !schema.keys.is_empty() && !seen.insert(identity()) {
                let keys = schema.keys.join(" and ");
                let message = format!("an entry before it has the same {keys}");
                self.fault(
                    node.position,
                    "duplicate-entry",
                    path,
                    message,
                    Some(format!("give it another {keys}")),
                );
            }
            values.push(value);
        }
        Json::Array(values)
    }

    fn number(&mut self, number: i64, at: Position, schema: &Schema, path: &str) {
        self.one_of(&Json::from(number), at, schema, path);
        if !schema.allowed.is_empty() {
            return;
        }
        let (low, high) = (schema.minimum, schema.maximum);
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let range = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("from {low}"),
                (None, Some(high)) => format!("up to {high}"),
                (None, None) => String::new(),
            };
            let number = if self.manner.secret {
                "the value".to_owned()
            } else {
                number.to_string()
            };
            let fix = Some(format!("write a number {range}"));
            self.fault(at, "out-of-range", path, format!("{number} is out of range"), fix);
        }
    }

    fn text(&mut self, text: &str, at: Position, schema: &Schema, path: &str) {
        self.one_of(&Json::from(text), at, schema, path);
        self.length(text.chars().count(), at, schema, path, "a text", "characters");
        if let Some(expected) = &schema.pattern
            && schema.allowed.is_empty()
            && !expected.regex.is_match(text)
        {
            let (code, what, fix) = pattern::explain(&expected.source, text, &expected.regex);
            let fix = fix.filter(|_| !self.manner.secret);
            self.fault(at, code, path, format!("{} is not {what}", self.shown(text)), fix);
        }
        if schema.bytes && !pattern::is_base64(text) {
            let message = format!("{} is not base64", self.shown(text));
            let fix = if self.manner.secret {
                "encode it, or put the plain text under stringData"
            } else {
                "encode it"
            };
            self.fault(at, "invalid-base64", path, message, Some(fix.to_owned()));
        }
    }

    fn one_of(&mut self, value: &Json, at: Position, schema: &Schema, path: &str) {
        if schema.allowed.is_empty() || schema.allowed.contains(value) {
            return;
        }
        let names: Vec<String> = schema
            .allowed
            .iter()
            .filter(|allowed| !allowed.is_null())
            .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fix =
            near::nearest(&text, names.iter().copied()).map_or_else(|| near::list(&names), |name| format!("{name:?}"));
        let message = format!("{} is not one of the values that are allowed here", self.shown(&text));
        self.fault(at, "unknown-value", path, message, Some(format!("write {fix}")));
    }

    fn length(&mut self, length: usize, at: Position, schema: &Schema, path: &str, what: &str, unit: &str) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let counted = |number: u64| match (number, unit) {
            (1, "entries") => "1 entry".to_owned(),
            (1, _) => format!("1 {}", unit.trim_end_matches('s')),
            _ => format!("{number} {unit}"),
        };
        if let Some(least) = schema.min_length.filter(|least| length < *least) {
            let message = format!("has {}, fewer than {least}", counted(length));
            let fix = format!("write {what} of at least {}", counted(least));
            self.fault(at, "too-short", path, message, Some(fix));
        }
        if let Some(most) = schema.max_length.filter(|most| length > *most) {
            let message = format!("has {}, more than {most}", counted(length));
            let fix = format!("write {what} of at most {}", counted(most));
            self.fault(at, "too-long", path, message, Some(fix));
        }
    }

    /// Judges the rules of a value and of all values in it.
    fn rules(&mut self, node: Option<&Node>, at: Position, json: &Json, schema: &Schema, path: &str) {
        for rule in rules::broken(&schema.rules, json) {
            let fix = pattern::mend_rule(&rule.message).map(str::to_owned);
            self.fault(at, "invalid-combination", path, rule.message.clone(), fix);
        }
        match json {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let Some(schema) = schema.field(name) else { continue };
                    let entry = node.and_then(|node| node.entry(name));
                    let at = entry.map_or(at, |entry| entry.node.position_under(entry.position));
                    self.rules(entry.map(|entry| &entry.node), at, value, schema, &field(path, name));
                }
            }
            Json::Array(values) => {
                let Some(items) = &schema.items else { return };
                for (number, value) in values.iter().enumerate() {
                    let node = node.and_then(|node| match &node.value {
                        Value::Sequence(nodes) => nodes.get(number),
                        _ => None,
                    });
                    self.rules(
                        node,
                        node.map_or(at, |node| node.position),
                        value,
                        items,
                        &index(path, number),
                    );
                }
            }
            _ => {}
        }
    }
}

fn is_null(node: &Node, name: &str) -> bool {
    node.get(name).is_some_and(|node| matches!(node.value, Value::Null))
}

/// A value that no schema describes.
pub(crate) fn plain(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::String(text.clone()),
        Value::Sequence(nodes) => Json::Array(nodes.iter().map(plain).collect()),
        Value::Mapping(entries) => {
            let fields = entries.iter().filter(|entry| !entry.repeated);
            Json::Object(fields.map(|entry| (entry.key.clone(), plain(&entry.node))).collect())
        }
    }
}

/// What is wrong with a type, and how to write the right one.
fn wrong_type(node: &Node, expected: Kind, secret: bool) -> (String, Option<String>) {
    let found = match &node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "an object",
    };
    let wanted = match expected {
        Kind::Any => "a value",
        Kind::Bool => "true or false",
        Kind::Integer => "a whole number",
        Kind::Number => "a number",
        Kind::String => "a text",
        Kind::IntOrString => "a whole number or a text",
        Kind::List => "a list",
        Kind::Object => "an object",
    };
    let fix = match (&node.value, expected) {
        (Value::Int(number), Kind::String) if !secret => format!("write {:?}", number.to_string()),
        (Value::Bool(value), Kind::String) if !secret => format!("write {:?}", value.to_string()),
        (Value::Int(_) | Value::Float(_) | Value::Bool(_), Kind::String) => "put it in quotes".to_owned(),
        (Value::String(text), Kind::Integer) if !secret && text.parse::<i64>().is_ok() => {
            format!("write {text} without quotes")
        }
        (Value::String(text), Kind::Bool) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => "write true".to_owned(),
            "no" | "off" | "n" | "false" => "write false".to_owned(),
            _ => "write true or false".to_owned(),
        },
        (Value::String(text), Kind::List) if !secret && text.chars().count() <= 64 => format!("write [{text:?}]"),
        (Value::Mapping(_), Kind::List) => "put \"- \" before its first field".to_owned(),
        (Value::Sequence(nodes), Kind::Object) if nodes.len() == 1 => "remove the \"- \"".to_owned(),
        _ => format!("write {wanted}"),
    };
    (format!("is {found}, where {wanted} is expected"), Some(fix))
}
