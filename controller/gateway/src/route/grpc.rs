//! `GRPCRoute.spec.rules[].matches`: a gRPC request's path is `/SERVICE/METHOD`.

use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use gateway_api::grpcroutes::{
    GrpcRouteRulesMatches, GrpcRouteRulesMatchesHeadersType, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType,
};

use super::{
    matches::{HeaderCondition, Match, Path, PathKind, headers, invalid_regex, regex},
    pattern,
};
use crate::report::Fault;

/// The longest service or method name (`GRPCMethodMatch`), in bytes.
const MAX_NAME: usize = 1024;

/// Reads a match; paths in faults are below the match.
pub(crate) fn read(index: usize, spec: &GrpcRouteRulesMatches) -> Result<Match, Fault> {
    let path = match &spec.method {
        None => Path::any(),
        Some(method) => path(method).map_err(|fault| fault.below("method"))?,
    };
    let conditions = spec.headers.iter().flatten().map(|header| HeaderCondition {
        name: &header.name,
        value: &header.value,
        regular: header.r#type == Some(GrpcRouteRulesMatchesHeadersType::RegularExpression),
    });
    let mut warnings = Vec::new();
    let headers = headers(conditions, &mut warnings)?;
    Ok(Match::of(index, path, None, headers, Vec::new(), warnings))
}

fn path(spec: &GrpcRouteRulesMatchesMethod) -> Result<Path, Fault> {
    // An empty name is as good as none (`GRPCMethodMatch`).
    let service = spec.service.as_deref().filter(|name| !name.is_empty());
    let method = spec.method.as_deref().filter(|name| !name.is_empty());
    let regular = spec.r#type == Some(GrpcRouteRulesMatchesMethodType::RegularExpression);
    let check = |field: &str, value: Option<&str>, valid: fn(&str) -> bool| match value {
        Some(value) if value.len() > MAX_NAME => Err(Fault::new(
            "invalid-grpc-method",
            field,
            format!("the name is longer than {MAX_NAME} bytes"),
        )),
        Some(value) if regular => pattern::check(value).map_err(|why| invalid_regex(field, &why)),
        Some(value) if !valid(value) => Err(Fault::new(
            "invalid-grpc-method",
            field,
            format!("{value:?} is no name of a gRPC {field}"),
        )),
        _ => Ok(()),
    };
    check("service", service, is_service)?;
    check("method", method, is_identifier)?;
    let length = |name: Option<&str>| name.map_or(0, str::len);
    let pattern = |part: Option<&str>| part.map_or_else(|| "[^/]+".to_owned(), |part| format!("(?:{part})"));
    let (kind, specifier) = match (service, method) {
        (None, None) => {
            return Err(Fault::new(
                "invalid-grpc-method",
                "",
                "neither service nor method is named",
            ));
        }
        (Some(service), Some(method)) if !regular => {
            (PathKind::Exact, PathSpecifier::Path(format!("/{service}/{method}")))
        }
        (Some(service), None) if !regular => (PathKind::Prefix, PathSpecifier::Prefix(format!("/{service}/"))),
        // Names hold nothing that a regular expression reads otherwise.
        _ => {
            let whole = format!("/{}/{}", pattern(service), pattern(method));
            // Each part may be small enough alone.
            pattern::check(&whole).map_err(|why| invalid_regex("", &why))?;
            (PathKind::Prefix, PathSpecifier::SafeRegex(regex(&whole)))
        }
    };
    Ok(Path {
        kind,
        length: length(service),
        method: length(method),
        prefix: None,
        specifier,
    })
}

/// `(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*`
fn is_service(name: &str) -> bool {
    name.strip_prefix('.').unwrap_or(name).split('.').all(is_identifier)
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(service: Option<&str>, method: Option<&str>, regular: bool) -> GrpcRouteRulesMatchesMethod {
        GrpcRouteRulesMatchesMethod {
            service: service.map(str::to_owned),
            method: method.map(str::to_owned),
            r#type: regular.then_some(GrpcRouteRulesMatchesMethodType::RegularExpression),
        }
    }

    #[test]
    fn names_make_paths() {
        let cases = [
            (spec(Some("a.B"), Some("C"), false), "/a.B/C"),
            (spec(Some("a.B"), None, false), "/a.B/"),
            (spec(Some("a.B"), Some(""), false), "/a.B/"),
            (spec(None, Some("C_1"), false), "/[^/]+/(?:C_1)"),
            (spec(Some("a|b"), Some("c|d"), true), "/(?:a|b)/(?:c|d)"),
            (spec(Some("a|b"), None, true), "/(?:a|b)/[^/]+"),
        ];
        for (spec, wanted) in cases {
            let path = path(&spec).unwrap();
            let written = match &path.specifier {
                PathSpecifier::Path(path) | PathSpecifier::Prefix(path) => path.as_str(),
                PathSpecifier::SafeRegex(regex) => regex.regex.as_str(),
                other => panic!("{other:?}"),
            };
            assert_eq!(written, wanted);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(MAX_NAME + 1);
        let cases = [
            (spec(None, None, false), ""),
            (spec(Some(""), Some(""), false), ""),
            (spec(Some("a/b"), None, false), "service"),
            (spec(Some("a..b"), None, false), "service"),
            (spec(Some("1a"), None, false), "service"),
            (spec(Some("a%2fb"), None, false), "service"),
            (spec(Some("a"), Some("b.c"), false), "method"),
            (spec(Some("a"), Some("b?c"), false), "method"),
            (spec(Some(&long), None, false), "service"),
            (spec(Some("("), None, true), "service"),
            (spec(Some("a)|(b"), None, true), "service"),
        ];
        for (spec, wanted) in cases {
            assert_eq!(
                path(&spec).err().map(|fault| fault.path).as_deref(),
                Some(wanted),
                "{spec:?}"
            );
        }
    }
}
