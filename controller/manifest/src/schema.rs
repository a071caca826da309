//! The schema of a kind in the form that validation walks: what an API server's structural schema says.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{LazyLock, Mutex, PoisonError},
};

use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use crate::rules::Rule;

/// What a value must be.
#[derive(Default)]
pub(crate) struct Schema {
    pub(crate) kind: Kind,
    pub(crate) properties: BTreeMap<String, Self>,
    /// The schema of a map's values.
    pub(crate) values: Option<Box<Self>>,
    /// Unknown fields stay (`x-kubernetes-preserve-unknown-fields`).
    pub(crate) open: bool,
    pub(crate) required: Vec<String>,
    pub(crate) items: Option<Box<Self>>,
    /// The fields that identify an entry of a list (`x-kubernetes-list-map-keys`).
    pub(crate) keys: Vec<String>,
    pub(crate) allowed: Vec<Json>,
    pub(crate) pattern: Option<Pattern>,
    /// Of a text in characters, of a list in entries.
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    pub(crate) default: Option<Json>,
    /// Base64 (`format: byte`).
    pub(crate) bytes: bool,
    pub(crate) rules: Vec<Rule>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any type.
    #[default]
    Any,
    Bool,
    Integer,
    Number,
    String,
    IntOrString,
    List,
    Object,
}

/// A regular expression with its source, by which the message is chosen.
pub(crate) struct Pattern {
    pub(crate) source: String,
    pub(crate) regex: Regex,
}

impl Pattern {
    /// Compiles a pattern with the meaning that it has for an API server (Go's RE2: `\w` and `\d` are ASCII).
    pub(crate) fn new(source: &str) -> Option<Self> {
        let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
        let regex = match patterns.get(source) {
            Some(regex) => regex.clone(),
            None => {
                let ascii = RegexBuilder::new(source).unicode(false).build();
                let regex = ascii.or_else(|_| Regex::new(source)).ok()?;
                patterns.insert(source.to_owned(), regex.clone());
                regex
            }
        };
        Some(Self {
            source: source.to_owned(),
            regex,
        })
    }
}

/// Expressions by their source: schemas repeat a few of them hundreds of times.
static PATTERNS: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

impl Schema {
    /// Reads an OpenAPI v3 schema without references; what it does not know it does not check.
    pub(crate) fn compile(json: &Json) -> Self {
        let int_or_string = flag(json, "x-kubernetes-int-or-string");
        let kind = match json.get("type").and_then(Json::as_str) {
            _ if int_or_string => Kind::IntOrString,
            Some("boolean") => Kind::Bool,
            Some("integer") => Kind::Integer,
            Some("number") => Kind::Number,
            Some("string") => Kind::String,
            Some("array") => Kind::List,
            Some("object") => Kind::Object,
            _ => Kind::Any,
        };
        let properties: BTreeMap<_, _> = entries(json, "properties")
            .map(|(name, property)| (name.clone(), Self::compile(property)))
            .collect();
        let values = json
            .get("additionalProperties")
            .filter(|values| values.is_object())
            .map(|values| Box::new(Self::compile(values)));
        let (min, max) = match kind {
            Kind::List => ("minItems", "maxItems"),
            Kind::Object => ("minProperties", "maxProperties"),
            _ => ("minLength", "maxLength"),
        };
        let format = json.get("format").and_then(Json::as_str);
        let int32 = format == Some("int32");
        Self {
            kind,
            open: flag(json, "x-kubernetes-preserve-unknown-fields")
                || json.get("additionalProperties") == Some(&Json::Bool(true)),
            properties,
            values,
            required: texts(json, "required"),
            items: json.get("items").map(|items| Box::new(Self::compile(items))),
            keys: texts(json, "x-kubernetes-list-map-keys"),
            allowed: json.get("enum").and_then(Json::as_array).cloned().unwrap_or_default(),
            pattern: json.get("pattern").and_then(Json::as_str).and_then(Pattern::new),
            min_length: json.get(min).and_then(Json::as_u64),
            max_length: json.get(max).and_then(Json::as_u64),
            minimum: bound(json, "minimum").or_else(|| int32.then_some(i32::MIN.into())),
            maximum: bound(json, "maximum").or_else(|| int32.then_some(i32::MAX.into())),
            default: json.get("default").cloned(),
            bytes: format == Some("byte"),
            rules: json
                .get("x-kubernetes-validations")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
                .filter_map(|rule| {
                    let source = rule.get("rule")?.as_str()?;
                    let message = rule.get("message").and_then(Json::as_str).unwrap_or(source);
                    Rule::new(source, message)
                })
                .collect(),
        }
    }

    /// The schema of a field, if the object has such a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.values.as_deref())
    }

    /// The schemas below that a path names; `[]` stands for the entries of a list: `spec.listeners[].port`.
    pub(crate) fn at(&mut self, path: &str) -> Option<&mut Self> {
        let mut schema = self;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let name = step.trim_end_matches("[]");
            schema = schema.properties.get_mut(name)?;
            if name != step {
                schema = schema.items.as_deref_mut()?;
            }
        }
        Some(schema)
    }
}

fn entries<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = (&'a String, &'a Json)> {
    json.get(name).and_then(Json::as_object).into_iter().flatten()
}

fn texts(json: &Json, name: &str) -> Vec<String> {
    let list = json.get(name).and_then(Json::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

fn flag(json: &Json, name: &str) -> bool {
    json.get(name).and_then(Json::as_bool).unwrap_or_default()
}

/// A bound, which the types write as a float.
fn bound(json: &Json, name: &str) -> Option<i64> {
    let value = json.get(name)?;
    value.as_i64().or_else(|| {
        let value = value.as_f64()?;
        // 2^53: every whole number below is exact.
        #[expect(clippy::cast_possible_truncation, reason = "whole and small enough")]
        (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
    })
}
