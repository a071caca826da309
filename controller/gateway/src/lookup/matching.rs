//! Envoy's matchers on headers, texts and query parameters, as far as route tables use them.

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{
        FilterStateMatcher, RegexMatcher, StringMatcher, filter_state_matcher, string_matcher::MatchPattern,
    },
};
use portcullis_engine::http::RequestHead;

use super::{
    path,
    unclear::{Unclear, whole},
};
use crate::{route::matches::HOST, table::CLAIMS};

/// Whether a route takes a request; `claims` is what the filter noted of the headers that it made, `name` is the route's, for
/// messages.
pub(crate) fn takes(
    matched: &RouteMatch,
    head: &RequestHead,
    claims: Option<&str>,
    name: &str,
) -> Result<bool, Unclear> {
    let rest = RouteMatch {
        path_specifier: None,
        headers: Vec::new(),
        query_parameters: Vec::new(),
        filter_state: Vec::new(),
        grpc: None,
        ..matched.clone()
    };
    whole(&format!("the match of {name}"), &rest)?;
    let target = first(head, b":path");
    let (path, query) = path::split(&target);
    if !path_matches(matched.path_specifier.as_ref(), path, name)? {
        return Ok(false);
    }
    if matched.grpc.is_some() && !is_grpc(head) {
        return Ok(false);
    }
    for matcher in &matched.headers {
        if !header(matcher, head, name)? {
            return Ok(false);
        }
    }
    for matcher in &matched.filter_state {
        if !state(matcher, claims, name)? {
            return Ok(false);
        }
    }
    for matcher in &matched.query_parameters {
        if !parameter(matcher, query, name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether Envoy takes the request for gRPC and answers it in gRPC's way.
pub(crate) fn is_grpc(head: &RequestHead) -> bool {
    let value = first(head, b"content-type");
    value
        .strip_prefix("application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

/// The value of the first line of a header; empty if there is none.
pub(crate) fn first(head: &RequestHead, name: &[u8]) -> String {
    head.values(name)
        .next()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default()
}

fn path_matches(specifier: Option<&PathSpecifier>, path: &str, name: &str) -> Result<bool, Unclear> {
    match specifier {
        Some(PathSpecifier::Prefix(prefix)) => Ok(path.starts_with(prefix.as_str())),
        Some(PathSpecifier::Path(exact)) => Ok(path == exact),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => Ok(path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))),
        Some(PathSpecifier::SafeRegex(regex)) => regex_matches(regex, path.as_bytes(), name),
        _ => Err(Unclear::new(format!(
            "{name} matches paths in a way that only Envoy knows"
        ))),
    }
}

/// Headers whose values Envoy makes up or takes away, depending on what only it knows.
pub(crate) fn is_opaque(name: &str) -> bool {
    matches!(name, "x-forwarded-for" | "x-request-id") || name.starts_with("x-envoy-")
}

fn header(matcher: &HeaderMatcher, head: &RequestHead, name: &str) -> Result<bool, Unclear> {
    if is_opaque(&matcher.name) {
        return Err(Unclear::new(format!(
            "{name} matches the header {:?}, which Envoy itself writes",
            matcher.name
        )));
    }
    // The head has its host without a port.
    let read = if matcher.name == HOST {
        ":authority"
    } else {
        &matcher.name
    };
    let lines: Vec<&[u8]> = head.values(read.as_bytes()).collect();
    let matches = match &matcher.header_match_specifier {
        Some(HeaderMatchSpecifier::PresentMatch(present)) => *present != lines.is_empty(),
        Some(HeaderMatchSpecifier::StringMatch(text)) => {
            if lines.is_empty() && !matcher.treat_missing_header_as_empty {
                return Ok(false);
            }
            string(text, &lines.join(&b","[..]), name)?
        }
        _ => {
            return Err(Unclear::new(format!(
                "{name} matches the header {:?} in a way that only Envoy knows",
                matcher.name
            )));
        }
    };
    Ok(matches != matcher.invert_match)
}

fn state(matcher: &FilterStateMatcher, claims: Option<&str>, name: &str) -> Result<bool, Unclear> {
    match (&*matcher.key, &matcher.matcher) {
        (CLAIMS, Some(filter_state_matcher::Matcher::StringMatch(text))) => {
            claims.map_or(Ok(false), |claims| string(text, claims.as_bytes(), name))
        }
        _ => Err(Unclear::new(format!(
            "{name} matches the state of a request in a way that only Envoy knows"
        ))),
    }
}

/// Of a repeated parameter the first one counts, and nothing is decoded.
fn parameter(matcher: &QueryParameterMatcher, query: &str, name: &str) -> Result<bool, Unclear> {
    let query = query.strip_prefix('?').unwrap_or_default();
    let value = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == matcher.name)
        .map(|(_, value)| value);
    match (&matcher.query_parameter_match_specifier, value) {
        (Some(QueryParameterMatchSpecifier::PresentMatch(present)), value) => Ok(*present == value.is_some()),
        (Some(QueryParameterMatchSpecifier::StringMatch(text)), Some(value)) => string(text, value.as_bytes(), name),
        (Some(QueryParameterMatchSpecifier::StringMatch(_)), None) => Ok(false),
        (None, _) => Err(Unclear::new(format!(
            "{name} matches a query parameter in a way that only Envoy knows"
        ))),
    }
}

fn string(matcher: &StringMatcher, value: &[u8], name: &str) -> Result<bool, Unclear> {
    let unclear = || Unclear::new(format!("{name} compares texts in a way that only Envoy knows"));
    if matcher.ignore_case {
        return Err(unclear());
    }
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => Ok(value == text.as_bytes()),
        Some(MatchPattern::Prefix(text)) => Ok(value.starts_with(text.as_bytes())),
        Some(MatchPattern::Suffix(text)) => Ok(value.ends_with(text.as_bytes())),
        Some(MatchPattern::Contains(text)) => Ok(value.windows(text.len()).any(|part| part == text.as_bytes())),
        Some(MatchPattern::SafeRegex(regex)) => regex_matches(regex, value, name),
        _ => Err(unclear()),
    }
}

/// Matches the whole text. On ASCII the two dialects agree in every pattern that a route may have; see [`crate::route`].
fn regex_matches(matcher: &RegexMatcher, text: &[u8], name: &str) -> Result<bool, Unclear> {
    if !text.is_ascii() {
        return Err(Unclear::new(format!(
            "{name} matches characters beyond ASCII against a regular expression"
        )));
    }
    whole_text(&matcher.regex)
        .map(|regex| regex.is_match(text))
        .ok_or_else(|| Unclear::new(format!("{name} has a regular expression that only Envoy reads")))
}

fn whole_text(pattern: &str) -> Option<regex::bytes::Regex> {
    let pattern = format!(r"\A(?:{pattern})\z");
    regex::bytes::RegexBuilder::new(&pattern)
        .size_limit(16 << 20)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::matches::exactly;

    fn head(lines: &[(&str, &str)]) -> RequestHead {
        let line = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        RequestHead {
            geography: None,
            headers: lines.iter().map(line).collect(),
        }
    }

    fn on_path(specifier: PathSpecifier, path: &str) -> bool {
        let matched = RouteMatch {
            path_specifier: Some(specifier),
            ..RouteMatch::default()
        };
        takes(&matched, &head(&[(":path", path)]), None, "r").unwrap()
    }

    #[test]
    fn a_path_matches_without_its_query() {
        let segments = || PathSpecifier::PathSeparatedPrefix("/a".to_owned());
        assert!(on_path(segments(), "/a") && on_path(segments(), "/a/b") && on_path(segments(), "/a?x"));
        assert!(!on_path(segments(), "/ab") && !on_path(segments(), "/"));
        assert!(on_path(PathSpecifier::Path("/a".to_owned()), "/a?/b"));
        assert!(!on_path(PathSpecifier::Path("/a".to_owned()), "/a/"));
        let regex = |text: &str| PathSpecifier::SafeRegex(crate::route::matches::regex(text));
        assert!(on_path(regex("/a|/b"), "/b?x") && !on_path(regex("/a|/b"), "/bc"));
    }

    #[test]
    fn lines_of_a_header_are_joined_and_an_absent_one_never_equals() {
        let two = head(&[("x", "1"), ("X", "2")]);
        assert!(header(&exactly("x", "1,2"), &two, "r").unwrap());
        assert!(!header(&exactly("x", "1"), &two, "r").unwrap());
        let inverted = HeaderMatcher {
            invert_match: true,
            ..exactly("y", "1")
        };
        assert!(!header(&inverted, &two, "r").unwrap());
        assert!(header(&exactly("x-request-id", "1"), &two, "r").is_err());
    }

    #[test]
    fn the_first_of_equal_parameters_counts_as_it_was_sent() {
        let matcher = |value: &str| QueryParameterMatcher {
            name: "q".to_owned(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(value.to_owned())),
                ..StringMatcher::default()
            })),
        };
        assert!(parameter(&matcher("1"), "?q=1&q=2", "r").unwrap());
        assert!(!parameter(&matcher("2"), "?q=1&q=2", "r").unwrap());
        assert!(!parameter(&matcher("a b"), "?q=a%20b", "r").unwrap());
        assert!(parameter(&matcher(""), "?q", "r").unwrap());
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let matched = RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            case_sensitive: crate::xds::no(),
            ..RouteMatch::default()
        };
        assert!(takes(&matched, &head(&[(":path", "/")]), None, "r").is_err());
        assert!(regex_matches(&crate::route::matches::regex("."), "é".as_bytes(), "r").is_err());
    }
}
