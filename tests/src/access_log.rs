//! Lines of the access log that every listener writes.

use serde_json::Value;

/// One decided request.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(Value);

impl Entry {
    /// Reads every complete line.
    #[must_use]
    pub fn parse_all(text: &str) -> Vec<Self> {
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| Self(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))))
            .collect()
    }

    /// One field; `None` where Envoy has nothing to write.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<String> {
        match &self.0[field] {
            Value::Null => None,
            Value::String(text) if text == "-" || text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Why the request ended as it did.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.get("reason")
    }
}
