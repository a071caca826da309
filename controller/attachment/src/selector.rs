//! Label selectors (Kubernetes, `LabelSelector`).

use std::collections::BTreeMap;

/// One term of `matchExpressions`: key, operator and values.
pub type Expression<'a> = (&'a str, &'a str, &'a [String]);

/// Whether labels satisfy a selector of any of the types that the APIs have for one.
macro_rules! selects {
    ($selector:expr, $labels:expr) => {{
        let selector = $selector;
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            (expression.key.as_str(), expression.operator.as_str(), values)
        });
        $crate::selector::matches($labels, selector.match_labels.as_ref(), expressions)
    }};
}
pub(crate) use selects;

/// Whether labels satisfy every term; an unknown operator is satisfied by nothing.
#[must_use]
pub fn matches<'a>(
    labels: &BTreeMap<String, String>,
    exact: Option<&BTreeMap<String, String>>,
    expressions: impl IntoIterator<Item = Expression<'a>>,
) -> bool {
    let exact = exact.is_none_or(|exact| exact.iter().all(|(key, value)| labels.get(key) == Some(value)));
    exact
        && expressions.into_iter().all(|(key, operator, values)| {
            let value = labels.get(key);
            match operator {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => !value.is_some_and(|value| values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
