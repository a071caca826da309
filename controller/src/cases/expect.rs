//! An answer against what a case expects.

use portcullis_gateway::lookup::{Answer, End};
use portcullis_manifest::policy_test::Expect;
use serde::Serialize;

use crate::answers::{OF_PROXY, View};

/// One expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mismatch {
    /// The field of `expect`.
    pub field: String,
    /// What it says.
    pub expected: String,
    /// What is.
    pub actual: String,
}

/// Compares; in the order of the specification.
///
/// # Errors
///
/// What a case asks for cannot be told.
pub(crate) fn mismatches(expect: &Expect, answer: &Answer, view: &View) -> Result<Vec<Mismatch>, String> {
    let mut found = Vec::new();
    let mut compare = |field: &str, holds: bool, expected: &str, actual: &str| {
        if !holds {
            found.push(Mismatch {
                field: field.to_owned(),
                expected: expected.to_owned(),
                actual: actual.to_owned(),
            });
        }
    };
    let forwarded = matches!(answer.end, End::Forward { .. });
    if let Some(status) = expect.status {
        let actual = match (view.status, forwarded) {
            (Some(status), _) => status.to_string(),
            (None, true) => "the backend's: the request is allowed".to_owned(),
            (None, false) => "none: the connection is closed".to_owned(),
        };
        compare("status", view.status == Some(status), &status.to_string(), &actual);
    }
    let texts = [
        ("reason", &expect.reason, view.reason),
        ("policy", &expect.policy, view.policy.as_deref()),
        ("rule", &expect.rule, view.rule.as_deref()),
        ("principal", &expect.principal, view.principal.as_deref()),
    ];
    for (field, expected, actual) in texts {
        if let Some(expected) = expected {
            compare(field, actual == Some(expected), expected, actual.unwrap_or("none"));
        }
    }
    if let Some(allow) = expect.allow {
        compare(
            "allow",
            allow == view.allow,
            &allow.to_string(),
            &view.allow.to_string(),
        );
    }
    for (name, expected) in &expect.headers {
        let lines = view.headers.get(name);
        let field = format!("headers.{name}");
        if lines.is_none() && forwarded {
            return Err(format!("{field} is the backend's"));
        }
        let actual = lines.map(|lines| lines.join(","));
        let holds = match (expected, &actual) {
            (None, actual) => actual.is_none(),
            (Some(_), None) => false,
            (Some(pattern), Some(joined)) => {
                glob(pattern, joined) || lines.is_some_and(|lines| lines.iter().any(|line| glob(pattern, line)))
            }
        };
        let expected = expected.as_deref().unwrap_or("absent");
        compare(&field, holds, expected, actual.as_deref().unwrap_or("absent"));
    }
    if let Some(expected) = &expect.upstream {
        match &answer.end {
            End::Forward {
                upstream: Ok(upstream), ..
            } => {
                let joined = |name: &str| {
                    let values: Vec<&str> = upstream.values(name).collect();
                    (!values.is_empty()).then(|| values.join(","))
                };
                for (name, pattern) in &expected.set {
                    if OF_PROXY.contains(&name.as_str()) {
                        return Err(format!("upstream.set.{name}: Envoy itself writes that header"));
                    }
                    let actual = joined(name);
                    let holds = actual.as_deref().is_some_and(|actual| glob(pattern, actual));
                    let field = format!("upstream.set.{name}");
                    compare(&field, holds, pattern, actual.as_deref().unwrap_or("absent"));
                }
                for name in &expected.removed {
                    let actual = joined(name);
                    compare(
                        &format!("upstream.removed.{name}"),
                        actual.is_none(),
                        "absent",
                        // It may be a credential.
                        "still there",
                    );
                }
                if let Some(pattern) = &expected.path {
                    let actual = joined(":path").unwrap_or_default();
                    compare("upstream.path", glob(pattern, &actual), pattern, &actual);
                }
            }
            End::Forward { upstream: Err(why), .. } => return Err(why.to_string()),
            _ => compare("upstream", false, "a request to a backend", "none"),
        }
    }
    Ok(found)
}

/// Whether a text is as a pattern says, in which `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, after)) = rest
            .split_once(part)
            .filter(|_| !part.is_empty())
            .or_else(|| part.is_empty().then_some(("", rest)))
        else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, holds) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("Bearer*", "Bearer realm=\"x\"", true),
            ("*x*", "axb", true),
            ("*x*", "ab", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, text), holds, "{pattern} {text}");
        }
    }
}
