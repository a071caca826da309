//! Lines of the access log that every listener writes.

use std::fmt;

use serde_json::Value;

/// One decided request.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(Value);

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

    /// Whether the gateway answered by itself, and by its configuration: neither a backend did, nor did its absence.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let of_backend = ["upstream", "no_healthy_upstream", "cluster_not_found"];
        let details = self.get("details").unwrap_or_default();
        let answered = self.get("status").is_some_and(|status| status != "0");
        answered && self.get("upstream").is_none() && !of_backend.iter().any(|start| details.starts_with(start))
    }

    /// Why the request ended as it did.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.get("reason")
    }
}
