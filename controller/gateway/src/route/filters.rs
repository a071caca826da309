//! `spec.rules[].filters`.

use envoy_types::pb::envoy::{
    config::core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction},
    config::route::v3::redirect_action::RedirectResponseCode,
};
use gateway_api::httproutes::{
    HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirrorBackendRef,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectScheme, HttpRouteRulesFiltersType,
    HttpRouteRulesFiltersUrlRewrite,
};

use portcullis_attachment::cors_filter::cors_of_filter;

use super::{mirror, source::alike};
use crate::{report::Fault, xds::header};
use portcullis_engine::geography::PREFIX;

/// Edits of one message's headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Edits {
    pub(crate) add: Vec<HeaderValueOption>,
    pub(crate) remove: Vec<String>,
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewPath {
    Full(String),
    /// The prefix that the match names, without trailing slashes.
    Prefix(String),
}

/// `URLRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewrite {
    pub(crate) hostname: Option<String>,
    pub(crate) path: Option<NewPath>,
}

/// `RequestRedirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) scheme: Option<&'static str>,
    pub(crate) hostname: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<NewPath>,
    pub(crate) code: RedirectResponseCode,
}

/// The filters of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filters {
    pub(crate) request: Edits,
    pub(crate) response: Edits,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) mirrors: Vec<Copies>,
    pub(crate) cors: bool,
}

/// `RequestMirror`, before its backend is looked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copies {
    /// The path of the reference below `filters`.
    pub(crate) path: String,
    pub(crate) backend: HttpRouteRulesFiltersRequestMirrorBackendRef,
    /// Of a million requests.
    pub(crate) share: u32,
}

/// Header modifiers, whichever of the API's identical types they come as.
struct Modifier<'a> {
    set: Vec<(&'a str, &'a str)>,
    add: Vec<(&'a str, &'a str)>,
    remove: Vec<&'a str>,
}

macro_rules! modifier {
    ($spec:expr) => {
        Modifier {
            set: $spec
                .set
                .iter()
                .flatten()
                .map(|header| (header.name.as_str(), header.value.as_str()))
                .collect(),
            add: $spec
                .add
                .iter()
                .flatten()
                .map(|header| (header.name.as_str(), header.value.as_str()))
                .collect(),
            remove: $spec.remove.iter().flatten().map(String::as_str).collect(),
        }
    };
}

impl Filters {
    /// Reads the filters of a rule; `prefix_only` tells whether every match is by path prefix.
    pub(crate) fn read(specs: &[HttpRouteRulesFilters], prefix_only: bool) -> Result<Self, Fault> {
        let mut filters = Self::default();
        let mut seen: Vec<&HttpRouteRulesFiltersType> = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let path = format!("[{index}]");
            let repeatable = spec.r#type == HttpRouteRulesFiltersType::RequestMirror;
            if seen.contains(&&spec.r#type) && !repeatable {
                return Err(Fault::new(
                    "duplicate-filter",
                    format!("{path}.type"),
                    "a rule may have only one filter of this type",
                ));
            }
            seen.push(&spec.r#type);
            filters
                .one(index, spec, prefix_only)
                .map_err(|fault| fault.below(&path))?;
        }
        let beside = [
            (filters.rewrite.is_some(), "URLRewrite"),
            (!filters.mirrors.is_empty(), "RequestMirror"),
        ];
        let beside = beside.iter().find(|(set, _)| *set && filters.redirect.is_some());
        if let Some((_, other)) = beside {
            return Err(Fault::new(
                "incompatible-filters",
                "",
                format!("RequestRedirect and {other} cannot both apply to a request"),
            ));
        }
        Ok(filters)
    }

    fn one(&mut self, index: usize, spec: &HttpRouteRulesFilters, prefix_only: bool) -> Result<(), Fault> {
        match spec.r#type {
            HttpRouteRulesFiltersType::RequestHeaderModifier => {
                let spec = required(spec.request_header_modifier.as_ref(), "requestHeaderModifier")?;
                self.request = modifier!(spec)
                    .edits()
                    .map_err(|fault| fault.below("requestHeaderModifier"))?;
            }
            HttpRouteRulesFiltersType::ResponseHeaderModifier => {
                let spec = required(spec.response_header_modifier.as_ref(), "responseHeaderModifier")?;
                self.response = modifier!(spec)
                    .edits()
                    .map_err(|fault| fault.below("responseHeaderModifier"))?;
            }
            HttpRouteRulesFiltersType::RequestRedirect => {
                let spec = required(spec.request_redirect.as_ref(), "requestRedirect")?;
                self.redirect = Some(redirect(spec, prefix_only).map_err(|fault| fault.below("requestRedirect"))?);
            }
            HttpRouteRulesFiltersType::UrlRewrite => {
                let spec = required(spec.url_rewrite.as_ref(), "urlRewrite")?;
                self.rewrite = Some(rewrite(spec, prefix_only).map_err(|fault| fault.below("urlRewrite"))?);
            }
            HttpRouteRulesFiltersType::RequestMirror => {
                let spec = required(spec.request_mirror.as_ref(), "requestMirror")?;
                self.mirrors.push(Copies {
                    path: format!("[{index}].requestMirror.backendRef"),
                    backend: spec.backend_ref.clone(),
                    share: mirror::share(spec).map_err(|fault| fault.below("requestMirror"))?,
                });
            }
            HttpRouteRulesFiltersType::ExtensionRef => return Err(unsupported("ExtensionRef")),
            // The filter that decides every request answers for it: the attachment puts it into the rule's document.
            HttpRouteRulesFiltersType::Cors => {
                cors_of_filter(required(spec.cors.as_ref(), "cors")?).map_err(|error| Fault {
                    code: error.code,
                    path: error.path,
                    message: error.message,
                    fix: error.fix,
                })?;
                self.cors = true;
            }
        }
        Ok(())
    }

    /// Reads the filters of one backendRef: only header modifiers are supported there.
    pub(crate) fn of_backend(specs: &[HttpRouteRulesBackendRefsFilters]) -> Result<(Edits, Edits), Fault> {
        let specs: Vec<HttpRouteRulesFilters> = alike(specs)?;
        let served = [
            HttpRouteRulesFiltersType::RequestHeaderModifier,
            HttpRouteRulesFiltersType::ResponseHeaderModifier,
        ];
        if let Some(index) = specs.iter().position(|spec| !served.contains(&spec.r#type)) {
            return Err(Fault::new(
                "unsupported-filter",
                format!("[{index}].type"),
                "only header modifiers are supported on a backendRef",
            ));
        }
        let filters = Self::read(&specs, false)?;
        Ok((filters.request, filters.response))
    }
}

impl Edits {
    /// What they take in a route, in bytes.
    pub(crate) fn size(&self) -> usize {
        let added = self.add.iter().filter_map(|option| option.header.as_ref());
        let added = added
            .map(|header| header.key.len() + header.value.len() + 16)
            .sum::<usize>();
        added + self.remove.iter().map(|name| name.len() + 8).sum::<usize>()
    }
}

impl Modifier<'_> {
    fn edits(&self) -> Result<Edits, Fault> {
        let mut edits = Edits::default();
        for (index, name) in self.remove.iter().enumerate() {
            let name = name.to_ascii_lowercase();
            mutable_name(&name).map_err(|fault| fault.below(&format!("remove[{index}]")))?;
            edits.remove.push(name);
        }
        let lists = [
            ("set", &self.set, HeaderAppendAction::OverwriteIfExistsOrAdd),
            ("add", &self.add, HeaderAppendAction::AppendIfExistsOrAdd),
        ];
        for (list, entries, action) in lists {
            for (index, (name, value)) in entries.iter().enumerate() {
                let name = name.to_ascii_lowercase();
                mutable_name(&name).map_err(|fault| fault.below(&format!("{list}[{index}].name")))?;
                check_value(value).map_err(|fault| fault.below(&format!("{list}[{index}].value")))?;
                // A value is literal here; Envoy would read %...% as a format.
                edits.add.push(header(&name, &value.replace('%', "%%"), action));
            }
        }
        Ok(edits)
    }
}

fn required<'a, T>(spec: Option<&'a T>, field: &str) -> Result<&'a T, Fault> {
    spec.ok_or_else(|| Fault::new("missing-filter-settings", field, "the filter's type needs this field"))
}

fn unsupported(what: &str) -> Fault {
    Fault::new(
        "unsupported-filter",
        "type",
        format!("the filter {what} is not supported: the rule answers 500"),
    )
}

/// A header field name (RFC 9110, `token`), lower case.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
        return Err(Fault::new(
            "invalid-header-name",
            "",
            format!("{name:?} is no header name"),
        ));
    }
    if name.starts_with(PREFIX) {
        let message = format!("the proxy tells its own filters in {PREFIX}* where a client is");
        return Err(
            Fault::new("reserved-header-name", "", message).fix("write a rule on clientIPGeoLocations in a policy")
        );
    }
    Ok(())
}

/// Fields that tell where a message ends and what its connection becomes (RFC 9112 §6, RFC 9110 §7.6.1, §7.8).
const FRAMING: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

/// A name that a modifier may touch: not the host, by which the route was chosen, no pseudo header, and nothing by which
/// one message would end inside another: connections to a backend are shared by all routes to it.
fn mutable_name(name: &str) -> Result<(), Fault> {
    if FRAMING.contains(&name) {
        return Err(Fault::new(
            "immutable-header",
            "",
            format!("{name:?} cannot be modified: it tells where messages end and how connections are used"),
        )
        .fix("remove it"));
    }
    if name == "host" || name.starts_with(':') {
        return Err(Fault::new(
            "immutable-header",
            "",
            format!("{name:?} cannot be modified: the route was chosen by it"),
        )
        .fix("use the URLRewrite filter for the host"));
    }
    check_name(name)
}

/// A header field value that Envoy takes (RFC 9110, `field-value`).
pub(crate) fn check_value(value: &str) -> Result<(), Fault> {
    if value.len() > 4096 {
        return Err(Fault::new(
            "invalid-header-value",
            "",
            "the value is longer than 4096 bytes",
        ));
    }
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(Fault::new(
            "invalid-header-value",
            "",
            "the value contains a control character",
        ));
    }
    Ok(())
}

fn redirect(spec: &HttpRouteRulesFiltersRequestRedirect, prefix_only: bool) -> Result<Redirect, Fault> {
    let path = match &spec.path {
        None => None,
        Some(path) => {
            let new = new_path(
                path.replace_full_path.as_deref(),
                path.replace_prefix_match.as_deref(),
                prefix_only,
            );
            Some(new.map_err(|fault| fault.below("path"))?)
        }
    };
    let port = match spec.port {
        None => None,
        Some(port) => Some(
            u16::try_from(port)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| Fault::new("invalid-port", "port", format!("{port} is not between 1 and 65535")))?,
        ),
    };
    let code = match spec.status_code.unwrap_or(302) {
        301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        other => {
            return Err(Fault::new(
                "invalid-redirect-code",
                "statusCode",
                format!("{other} is none of 301, 302, 303, 307 and 308"),
            ));
        }
    };
    Ok(Redirect {
        scheme: spec.scheme.as_ref().map(|scheme| match scheme {
            HttpRouteRulesFiltersRequestRedirectScheme::Http => "http",
            HttpRouteRulesFiltersRequestRedirectScheme::Https => "https",
        }),
        hostname: hostname(spec.hostname.as_deref())?,
        port,
        path,
        code,
    })
}

fn rewrite(spec: &HttpRouteRulesFiltersUrlRewrite, prefix_only: bool) -> Result<Rewrite, Fault> {
    let path = match &spec.path {
        None => None,
        Some(path) => {
            let new = new_path(
                path.replace_full_path.as_deref(),
                path.replace_prefix_match.as_deref(),
                prefix_only,
            );
            Some(new.map_err(|fault| fault.below("path"))?)
        }
    };
    Ok(Rewrite {
        hostname: hostname(spec.hostname.as_deref())?,
        path,
    })
}

fn hostname(hostname: Option<&str>) -> Result<Option<String>, Fault> {
    let Some(hostname) = hostname else { return Ok(None) };
    let valid = (1..=253).contains(&hostname.len())
        && hostname
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    if valid {
        Ok(Some(hostname.to_ascii_lowercase()))
    } else {
        Err(Fault::new(
            "invalid-hostname",
            "hostname",
            format!("{hostname:?} is no host name"),
        ))
    }
}

fn new_path(full: Option<&str>, prefix: Option<&str>, prefix_only: bool) -> Result<NewPath, Fault> {
    let valid = |path: &str| {
        path.len() <= 1024
            && (path.is_empty() || path.starts_with('/'))
            && path
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'?')
    };
    let invalid = |field: &str, path: &str| {
        Fault::new(
            "invalid-path",
            field,
            format!("{path:?} is no path: it starts with / and has no query, fragment, space or control character"),
        )
    };
    match (full, prefix) {
        (Some(full), None) => {
            if !valid(full) {
                return Err(invalid("replaceFullPath", full));
            }
            let full = if full.is_empty() { "/" } else { full };
            Ok(NewPath::Full(full.to_owned()))
        }
        (None, Some(prefix)) => {
            if !prefix_only {
                return Err(Fault::new(
                    "prefix-rewrite-without-prefix",
                    "replacePrefixMatch",
                    "every match of the rule must be of type PathPrefix",
                ));
            }
            if !valid(prefix) {
                return Err(invalid("replacePrefixMatch", prefix));
            }
            Ok(NewPath::Prefix(prefix.trim_end_matches('/').to_owned()))
        }
        _ => Err(Fault::new(
            "missing-filter-settings",
            "type",
            "exactly one of replaceFullPath and replacePrefixMatch is needed",
        )),
    }
}
