//! `spec.rules[].matches`: the condition, and its place among the others.

use std::cmp::Reverse;

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};
use gateway_api::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod, HttpRouteRulesMatchesPath,
    HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParamsType,
};

use super::pattern;
use crate::report::{Fault, ignored};

/// One match of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Match {
    /// The index in `matches`; -1 for the match that a rule without any has.
    pub(crate) index: i64,
    /// The path prefix without trailing slashes, if the match is by prefix: what a rewrite replaces.
    pub(crate) prefix: Option<String>,
    /// The method asked for.
    pub(crate) method: Option<&'static str>,
    pub(crate) path: PathSpecifier,
    /// Without the method.
    pub(crate) headers: Vec<HeaderMatcher>,
    pub(crate) query: Vec<QueryParameterMatcher>,
    pub(crate) rank: Rank,
    /// What has no effect.
    pub(crate) warnings: Vec<Fault>,
}

/// The Gateway API's precedence, smallest first: the kind of path, its length, a method, headers, query parameters. The
/// API gives regular expressions no place; they come between exact paths and prefixes, as in Envoy Gateway.
///
/// Of gRPC, what names service and method comes first; then the length of the service's name decides, then of the
/// method's, regular expressions included (`GRPCRouteRule.matches`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    path: PathKind,
    length: Reverse<usize>,
    method: Reverse<usize>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathKind {
    Exact,
    Regular,
    Prefix,
}

/// The part of a match that is about the path.
pub(crate) struct Path {
    pub(crate) kind: PathKind,
    /// What counts for precedence.
    pub(crate) length: usize,
    /// As `length`, if the path names a method of gRPC.
    pub(crate) method: usize,
    pub(crate) prefix: Option<String>,
    pub(crate) specifier: PathSpecifier,
}

impl Path {
    pub(crate) fn any() -> Self {
        Self {
            kind: PathKind::Prefix,
            length: 0,
            method: 0,
            prefix: Some(String::new()),
            specifier: PathSpecifier::Prefix("/".to_owned()),
        }
    }
}

/// A condition on a header, whichever of the API's identical types it comes as.
pub(crate) struct HeaderCondition<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    pub(crate) regular: bool,
}

impl Match {
    /// The match of a rule that names none: every path.
    pub(crate) fn any() -> Self {
        Self {
            index: -1,
            ..Self::of(0, Path::any(), None, Vec::new(), Vec::new(), Vec::new())
        }
    }

    pub(crate) fn of(
        index: usize,
        path: Path,
        method: Option<&'static str>,
        headers: Vec<HeaderMatcher>,
        query: Vec<QueryParameterMatcher>,
        warnings: Vec<Fault>,
    ) -> Self {
        Self {
            index: i64::try_from(index).unwrap_or(i64::MAX),
            prefix: path.prefix,
            method,
            path: path.specifier,
            rank: Rank {
                path: path.kind,
                length: Reverse(path.length),
                method: Reverse(path.method.max(method.is_some().into())),
                headers: Reverse(headers.len()),
                query: Reverse(query.len()),
            },
            headers,
            query,
            warnings,
        }
    }

    /// Reads a match of an HTTPRoute; paths in faults are below the match.
    pub(crate) fn read(index: usize, spec: &HttpRouteRulesMatches) -> Result<Self, Fault> {
        let path = path(spec.path.as_ref())?;
        let mut warnings = Vec::new();
        let conditions = spec.headers.iter().flatten().map(|header| HeaderCondition {
            name: &header.name,
            value: &header.value,
            regular: header.r#type == Some(HttpRouteRulesMatchesHeadersType::RegularExpression),
        });
        let headers = headers(conditions, &mut warnings)?;
        let query = query(spec, &mut warnings)?;
        let method = spec.method.as_ref().map(method_name);
        if method == Some("CONNECT") {
            warnings.push(ignored("method", "CONNECT requests are refused, so nothing can match"));
        }
        Ok(Self::of(index, path, method, headers, query, warnings))
    }

    /// The condition in Envoy's form.
    pub(crate) fn condition(&self) -> RouteMatch {
        let method = self.method.map(|method| exactly(":method", method));
        RouteMatch {
            path_specifier: Some(self.path.clone()),
            headers: method.into_iter().chain(self.headers.iter().cloned()).collect(),
            query_parameters: self.query.clone(),
            ..RouteMatch::default()
        }
    }

    /// The condition of a preflight for a request that would match: browsers send it with OPTIONS, an Origin and the
    /// method to come.
    pub(crate) fn preflight(&self) -> Option<RouteMatch> {
        let method = self.method.filter(|method| *method != "OPTIONS")?;
        let fixed = [
            exactly(":method", "OPTIONS"),
            present("origin"),
            exactly("access-control-request-method", method),
        ];
        Some(RouteMatch {
            path_specifier: Some(self.path.clone()),
            headers: fixed.into_iter().chain(self.headers.iter().cloned()).collect(),
            query_parameters: self.query.clone(),
            ..RouteMatch::default()
        })
    }
}

pub(crate) fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        ..RegexMatcher::default()
    }
}

pub(crate) fn exactly(name: &str, value: &str) -> HeaderMatcher {
    header(name, string(value))
}

fn present(name: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..HeaderMatcher::default()
    }
}

fn header(name: &str, matcher: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..HeaderMatcher::default()
    }
}

fn string(value: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(value.to_owned())),
        ..StringMatcher::default()
    }
}

fn pattern_of(value: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(regex(value))),
        ..StringMatcher::default()
    }
}

fn path(spec: Option<&HttpRouteRulesMatchesPath>) -> Result<Path, Fault> {
    let value = spec.and_then(|path| path.value.as_deref()).unwrap_or("/");
    let kind = spec
        .and_then(|path| path.r#type.as_ref())
        .unwrap_or(&HttpRouteRulesMatchesPathType::PathPrefix);
    let mut prefix = None;
    let (kind, length, specifier) = match kind {
        HttpRouteRulesMatchesPathType::Exact => {
            literal_path(value)?;
            (PathKind::Exact, value.len(), PathSpecifier::Path(value.to_owned()))
        }
        HttpRouteRulesMatchesPathType::PathPrefix => {
            literal_path(value)?;
            let segments = value.trim_end_matches('/');
            prefix = Some(segments.to_owned());
            let specifier = if segments.is_empty() {
                PathSpecifier::Prefix("/".to_owned())
            } else {
                PathSpecifier::PathSeparatedPrefix(segments.to_owned())
            };
            (PathKind::Prefix, segments.len(), specifier)
        }
        HttpRouteRulesMatchesPathType::RegularExpression => {
            pattern::check(value).map_err(|why| invalid_regex("path.value", &why))?;
            (PathKind::Regular, value.len(), PathSpecifier::SafeRegex(regex(value)))
        }
    };
    Ok(Path {
        kind,
        length,
        method: 0,
        prefix,
        specifier,
    })
}

/// Which Envoy takes for `:authority`, with the port that the client wrote. A match on a host must not be evaded by writing one.
pub(crate) const HOST: &str = "host";

/// A pattern of a host, with whatever stands in the place of its port.
fn with_any_port(pattern: &str) -> String {
    format!("(?:{pattern})(?::[^:]*)?")
}

pub(crate) fn headers<'a>(
    conditions: impl Iterator<Item = HeaderCondition<'a>>,
    warnings: &mut Vec<Fault>,
) -> Result<Vec<HeaderMatcher>, Fault> {
    let mut seen = Vec::new();
    let mut headers = Vec::new();
    for (index, entry) in conditions.enumerate() {
        let path = format!("headers[{index}]");
        let name = entry.name.to_ascii_lowercase();
        super::filters::check_name(&name).map_err(|fault| fault.below(&format!("{path}.name")))?;
        if seen.contains(&name) {
            warnings.push(ignored(&path, "an entry before it names the same header (Gateway API)"));
            continue;
        }
        if entry.regular {
            pattern::check(entry.value).map_err(|why| invalid_regex(&format!("{path}.value"), &why))?;
        } else {
            super::filters::check_value(entry.value).map_err(|fault| fault.below(&format!("{path}.value")))?;
        }
        let matcher = match (name == HOST, entry.regular) {
            (true, true) => pattern_of(&with_any_port(entry.value)),
            (true, false) => pattern_of(&with_any_port(&pattern::literal(entry.value))),
            (false, true) => pattern_of(entry.value),
            (false, false) => string(entry.value),
        };
        if name.contains('_') {
            warnings.push(ignored(
                &path,
                "a request with _ in a header name is answered 400, so nothing can match",
            ));
        }
        headers.push(header(&name, matcher));
        seen.push(name);
    }
    Ok(headers)
}

fn query(spec: &HttpRouteRulesMatches, warnings: &mut Vec<Fault>) -> Result<Vec<QueryParameterMatcher>, Fault> {
    let mut seen = Vec::new();
    let mut parameters = Vec::new();
    for (index, entry) in spec.query_params.iter().flatten().enumerate() {
        let path = format!("queryParams[{index}]");
        if !(1..=256).contains(&entry.name.len()) {
            return Err(Fault::new(
                "invalid-query-parameter",
                format!("{path}.name"),
                "the name is empty or longer than 256 bytes",
            ));
        }
        if seen.contains(&&entry.name) {
            warnings.push(ignored(
                &path,
                "an entry before it names the same parameter (Gateway API)",
            ));
            continue;
        }
        let matcher = match entry.r#type {
            Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression) => {
                pattern::check(&entry.value).map_err(|why| invalid_regex(&format!("{path}.value"), &why))?;
                pattern_of(&entry.value)
            }
            Some(HttpRouteRulesMatchesQueryParamsType::Exact) | None => string(&entry.value),
        };
        parameters.push(QueryParameterMatcher {
            name: entry.name.clone(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(matcher)),
        });
        seen.push(&entry.name);
    }
    Ok(parameters)
}

pub(crate) fn invalid_regex(path: &str, why: &str) -> Fault {
    Fault::new(
        "invalid-regex",
        path,
        format!("no regular expression that Envoy reads as written: {why}"),
    )
}

/// A path as the Gateway API allows it (`HTTPPathMatch`); one that is written otherwise could never match.
fn literal_path(value: &str) -> Result<(), Fault> {
    let lower = value.to_ascii_lowercase();
    let why = if !value.starts_with('/') {
        "does not start with /"
    } else if value.len() > 1024 {
        "is longer than 1024 bytes"
    } else if value.contains("//") {
        "contains //, which is merged before matching"
    } else if value.split('/').any(|segment| segment == "." || segment == "..") {
        "contains . or .. as a segment, which is resolved before matching"
    } else if lower.contains("%2f") {
        "contains %2f, which is decoded before matching"
    } else if value.contains(['#', '?']) {
        "contains # or ?"
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        "contains a character that no path may contain; percent-encode it"
    } else {
        return Ok(());
    };
    Err(Fault::new("invalid-path", "path.value", format!("{value:?} {why}")))
}

const fn method_name(method: &HttpRouteRulesMatchesMethod) -> &'static str {
    match method {
        HttpRouteRulesMatchesMethod::Get => "GET",
        HttpRouteRulesMatchesMethod::Head => "HEAD",
        HttpRouteRulesMatchesMethod::Post => "POST",
        HttpRouteRulesMatchesMethod::Put => "PUT",
        HttpRouteRulesMatchesMethod::Delete => "DELETE",
        HttpRouteRulesMatchesMethod::Connect => "CONNECT",
        HttpRouteRulesMatchesMethod::Options => "OPTIONS",
        HttpRouteRulesMatchesMethod::Trace => "TRACE",
        HttpRouteRulesMatchesMethod::Patch => "PATCH",
    }
}
