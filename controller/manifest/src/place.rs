//! Where something stands in a file, and paths of fields.

use serde::Serialize;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The name under which the file was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A place in a file whose name is known from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    pub(crate) fn in_file(self, file: &str) -> Place {
        Place {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
        }
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Field(String),
    Index(usize),
}

/// Appends a field to a path; a name that a path could not hold bare is quoted: `metadata.labels["app.kubernetes.io/name"]`.
pub(crate) fn field(path: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match (path.is_empty(), bare) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name:?}]"),
    }
}

/// Appends an index to a path.
pub(crate) fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Splits a path into its steps; what is not well-formed ends it.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        match first {
            '.' => rest = rest.strip_prefix('.').unwrap_or_default(),
            '[' => {
                let inner = rest.strip_prefix('[').unwrap_or_default();
                if inner.starts_with('"') {
                    let mut values = serde_json::Deserializer::from_str(inner).into_iter::<String>();
                    let Some(Ok(name)) = values.next() else { break };
                    let end = values.byte_offset();
                    steps.push(Step::Field(name));
                    rest = inner.get(end..).unwrap_or_default();
                    rest = rest.strip_prefix(']').unwrap_or(rest);
                } else {
                    let Some((number, tail)) = inner.split_once(']') else {
                        break;
                    };
                    let Ok(number) = number.parse() else { break };
                    steps.push(Step::Index(number));
                    rest = tail;
                }
            }
            _ => {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (name, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
                steps.push(Step::Field(name.to_owned()));
                rest = tail;
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{Step, field, index, steps};

    #[test]
    fn a_path_is_split_as_it_was_built() {
        let path = field(
            &index(&field(&field("", "spec"), "rules"), 12),
            "app.kubernetes.io/\"name\"",
        );
        assert_eq!(path, r#"spec.rules[12]["app.kubernetes.io/\"name\""]"#);
        assert_eq!(
            steps(&path),
            [
                Step::Field("spec".to_owned()),
                Step::Field("rules".to_owned()),
                Step::Index(12),
                Step::Field("app.kubernetes.io/\"name\"".to_owned()),
            ]
        );
    }

    #[test]
    fn a_malformed_path_ends_where_it_is_malformed() {
        assert_eq!(steps("spec[x].name"), [Step::Field("spec".to_owned())]);
        assert_eq!(steps("spec[\"x"), [Step::Field("spec".to_owned())]);
    }
}
