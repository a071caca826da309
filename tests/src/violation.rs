//! What a definition forbids: for every limit of its schema a spec that breaks it.

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Map, Value, json};

/// A spec that breaks one limit of the schema; what else is wrong with it is left to the rules (CEL).
#[derive(Clone, Debug)]
pub struct Violation {
    /// The field at fault, as `spec.rules[0].name`.
    pub path: String,
    /// The limit, for messages: `required`, `maxLength` ...
    pub limit: &'static str,
    /// The spec.
    pub spec: Value,
}

/// Breaks every limit of a definition once, field by field.
///
/// # Panics
/// On a pattern for which no sample is known.
#[must_use]
pub fn violations(definition: &Value) -> Vec<Violation> {
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
    strip(&mut schema);
    let mut walk = Walk::default();
    walk.value(&schema, "spec", &|spec| spec.unwrap_or_default());
    walk.found
}

#[derive(Default)]
struct Walk {
    /// Objects repeat: how a backend is reached is the same in four places.
    seen: HashSet<String>,
    found: Vec<Violation>,
}

/// Puts a value, or nothing, where it belongs in a spec.
type Wrap<'a> = &'a dyn Fn(Option<Value>) -> Value;

impl Walk {
    fn add(&mut self, path: &str, limit: &'static str, wrap: Wrap<'_>, value: Option<Value>) {
        self.found.push(Violation {
            path: path.to_owned(),
            limit,
            spec: wrap(value),
        });
    }

    fn value(&mut self, schema: &Value, path: &str, wrap: Wrap<'_>) {
        let mut add = |limit, value| self.add(path, limit, wrap, Some(value));
        if let Some(other) = of_another_type(schema) {
            add("type", other);
        }
        if let Some(allowed) = schema["enum"].as_array() {
            let other = if allowed[0].is_string() {
                json!("no-such-value")
            } else {
                json!(9999)
            };
            add("enum", other);
            return;
        }
        match schema["type"].as_str() {
            Some("string") => {
                if schema["pattern"].is_string() {
                    add("pattern", json!("!\n!"));
                }
                if let Some(least) = length(schema, "minLength") {
                    add("minLength", json!("a".repeat(least - 1)));
                }
                if let Some(most) = length(schema, "maxLength") {
                    add("maxLength", json!("a".repeat(most + 1)));
                }
            }
            Some("integer") => {
                for (limit, step) in [("minimum", -1), ("maximum", 1)] {
                    if let Some(bound) = schema[limit].as_f64() {
                        #[expect(clippy::cast_possible_truncation, reason = "bounds are whole and below 2^53")]
                        add(limit, json!(bound as i64 + step));
                    }
                }
                if schema["format"] == "int32" {
                    add("format", json!(i64::from(i32::MAX) + 1));
                }
            }
            Some("array") => self.list(schema, path, wrap),
            Some("object") => self.object(schema, path, wrap),
            // A number or a text; the pattern is of the text.
            None if schema["pattern"].is_string() => add("pattern", json!("!\n!")),
            Some("boolean") | None => {}
            Some(other) => panic!("{path} is of type {other}"),
        }
    }

    fn list(&mut self, schema: &Value, path: &str, wrap: Wrap<'_>) {
        let item = minimal(&schema["items"]);
        if let Some(least) = length(schema, "minItems") {
            self.add(path, "minItems", wrap, Some(json!(vec![item.clone(); least - 1])));
        }
        if let Some(most) = length(schema, "maxItems") {
            self.add(path, "maxItems", wrap, Some(json!(vec![item.clone(); most + 1])));
        }
        if schema["x-kubernetes-list-map-keys"].is_array() {
            let path = format!("{path}[1]");
            self.add(&path, "x-kubernetes-list-map-keys", wrap, Some(json!([item, item])));
        }
        self.value(&schema["items"], &format!("{path}[0]"), &|value| {
            wrap(Some(value.into_iter().collect()))
        });
    }

    fn object(&mut self, schema: &Value, path: &str, wrap: Wrap<'_>) {
        if !self.seen.insert(schema.to_string()) {
            return;
        }
        let whole = minimal(schema);
        let with = |name: &str, value: Option<Value>| {
            let mut object = whole.as_object().cloned().unwrap_or_default();
            match value {
                Some(value) => object.insert(name.to_owned(), value),
                None => object.remove(name),
            };
            wrap(Some(Value::Object(object)))
        };
        if schema["additionalProperties"].is_object() {
            let path = format!("{path}.key");
            self.value(&schema["additionalProperties"], &path, &|value| with("key", value));
            return;
        }
        if schema["x-kubernetes-preserve-unknown-fields"] != true {
            let path = format!("{path}.noSuchField");
            self.add(
                &path,
                "unknown field",
                &|value| with("noSuchField", value),
                Some(json!({})),
            );
        }
        let none = Map::new();
        for (name, property) in schema["properties"].as_object().unwrap_or(&none) {
            let path = format!("{path}.{name}");
            let wrap = |value| with(name, value);
            if property["default"].is_null() {
                if is_required(schema, name) {
                    self.add(&path, "required", &wrap, None);
                } else if property["type"].is_string() {
                    self.add(&path, "null", &wrap, Some(Value::Null));
                }
            }
            self.value(property, &path, &wrap);
        }
    }
}

/// The least that a schema asks for.
fn minimal(schema: &Value) -> Value {
    if let Some(allowed) = schema["enum"].as_array() {
        return allowed[0].clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(true),
        Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("string") => json!(text(schema)),
        Some("array") => json!(vec![minimal(&schema["items"]); length(schema, "minItems").unwrap_or(0)]),
        Some("object") => {
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            let required = properties.iter().filter(|(name, _)| is_required(schema, name));
            Value::Object(
                required
                    .map(|(name, property)| (name.clone(), minimal(property)))
                    .collect(),
            )
        }
        _ if schema["x-kubernetes-int-or-string"] == true => json!(1),
        _ => json!({}),
    }
}

/// A text that a schema takes.
fn text(schema: &Value) -> String {
    let samples = [
        "a",
        "1s",
        "10.0.0.0/8",
        "192.0.2.1",
        "2027-01-31T00:00:00Z",
        "a.mmdb",
        "https://example.com",
        "System",
        "YQ==",
    ];
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    let regex = Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let least = length(schema, "minLength").unwrap_or(0);
    let fits = |sample: &&&str| {
        sample.len() >= least && regex.is_match(sample) && (schema["format"] != "byte" || **sample == "YQ==")
    };
    let sample = samples.iter().find(fits);
    (*sample.unwrap_or_else(|| panic!("no sample for {schema}"))).to_owned()
}

fn of_another_type(schema: &Value) -> Option<Value> {
    match schema["type"].as_str() {
        Some("string") => Some(json!(7)),
        Some(_) => Some(json!("text")),
        None if schema["x-kubernetes-int-or-string"] == true => Some(json!(true)),
        None => None,
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"]
        .as_array()
        .is_some_and(|required| required.iter().any(|field| field == name))
}

/// A limit on a length, unless it limits nothing.
fn length(schema: &Value, limit: &str) -> Option<usize> {
    let length = schema[limit].as_u64().filter(|length| *length > 0)?;
    usize::try_from(length).ok()
}

/// Removes what is only to be read.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}
