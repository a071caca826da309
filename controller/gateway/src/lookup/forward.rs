//! What a route does to a request and to its answer.

use envoy_types::pb::envoy::config::{
    core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction},
    route::v3::{
        RedirectAction, Route, RouteAction, RouteMatch, WeightedCluster,
        redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
        route_action::{ClusterSpecifier, HostRewriteSpecifier},
        route_match::PathSpecifier,
        weighted_cluster::ClusterWeight,
    },
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use portcullis_engine::{
    http::{RequestHead, origin::without_port},
    step::{HeaderEdit, apply},
};

use super::{
    matching::first,
    path,
    unclear::{Unclear, whole},
};

/// Header lines of a message.
pub(crate) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The clusters with their weights, of which chance chooses one.
    pub clusters: Vec<(String, u32)>,
    /// The head of the request as a backend gets it, pseudo headers included.
    pub headers: Vec<(String, String)>,
}

impl Upstream {
    /// The values of a header.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Applies a route's header modifiers: removals first.
///
/// # Errors
///
/// One of them is not understood.
pub(crate) fn modify(add: &[HeaderValueOption], remove: &[String], lines: &mut Lines) -> Result<(), Unclear> {
    let removals: Vec<HeaderEdit> = remove
        .iter()
        .map(|name| HeaderEdit::Remove(name.clone().into_bytes().into()))
        .collect();
    apply(&removals, lines);
    for option in add {
        let Some(header) = &option.header else { continue };
        let unclear = || Unclear::new(format!("the modifier of the header {} is not a plain one", header.key));
        // A lone % starts one of Envoy's own values.
        let value = header.value.replace("%%", "\0");
        if value.contains('%') || !header.raw_value.is_empty() {
            return Err(unclear());
        }
        let (name, value) = (header.key.clone().into_bytes(), value.replace('\0', "%").into_bytes());
        let change = match HeaderAppendAction::try_from(option.append_action) {
            Ok(HeaderAppendAction::AppendIfExistsOrAdd) => HeaderEdit::Add(name.into(), value.into()),
            Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => HeaderEdit::Set(name.into(), value.into()),
            _ => return Err(unclear()),
        };
        apply(&[change], lines);
    }
    Ok(())
}

/// The clusters of a route with their weights, and the shares of those that change headers.
///
/// # Errors
///
/// The route chooses a cluster in another way.
pub(crate) fn clusters(action: &RouteAction) -> Result<Vec<ClusterWeight>, Unclear> {
    let plain = |name: &str| ClusterWeight {
        name: name.to_owned(),
        weight: crate::xds::number(1),
        ..ClusterWeight::default()
    };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok(vec![plain(name)]),
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            let rest = WeightedCluster {
                clusters: Vec::new(),
                ..all.clone()
            };
            whole("a choice between clusters", &rest)?;
            Ok(all.clusters.clone())
        }
        _ => Err(Unclear::new(
            "a route chooses its cluster in a way that only Envoy knows",
        )),
    }
}

/// What a backend gets.
///
/// # Errors
///
/// The route changes the request in a way that is not understood, or chance decides how.
pub(crate) fn upstream(route: &Route, action: &RouteAction, head: &RequestHead) -> Result<Upstream, Unclear> {
    let shares = clusters(action)?;
    let rest = RouteAction {
        cluster_specifier: None,
        cluster_not_found_response_code: 0,
        timeout: None,
        idle_timeout: None,
        max_stream_duration: None,
        retry_policy: None,
        request_mirror_policies: Vec::new(),
        prefix_rewrite: String::new(),
        regex_rewrite: None,
        host_rewrite_specifier: None,
        append_x_forwarded_host: false,
        ..action.clone()
    };
    whole(&format!("the action of the route {}", route.name), &rest)?;
    let mut lines = head.headers.clone();
    if let [first_share, others @ ..] = shares.as_slice() {
        let edits = |share: &ClusterWeight| {
            (
                share.request_headers_to_add.clone(),
                share.request_headers_to_remove.clone(),
            )
        };
        if others.iter().any(|share| edits(share) != edits(first_share)) {
            return Err(Unclear::new("chance chooses a backend, and each changes other headers"));
        }
        modify(
            &first_share.request_headers_to_add,
            &first_share.request_headers_to_remove,
            &mut lines,
        )?;
    }
    modify(
        &route.request_headers_to_add,
        &route.request_headers_to_remove,
        &mut lines,
    )?;
    let path = rewritten(
        route.r#match.as_ref(),
        Some(action.prefix_rewrite.as_str()).filter(|prefix| !prefix.is_empty()),
        action.regex_rewrite.as_ref(),
        &first(head, b":path"),
    )?;
    let mut set = |name: &str, value: String| {
        apply(
            &[HeaderEdit::Set(
                name.to_owned().into_bytes().into(),
                value.into_bytes().into(),
            )],
            &mut lines,
        );
    };
    set(":path", path);
    match &action.host_rewrite_specifier {
        None => {}
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            if action.append_x_forwarded_host {
                set("x-forwarded-host", first(head, b":authority"));
            }
            set(":authority", host.clone());
        }
        Some(_) => return Err(Unclear::new("the host is rewritten in a way that only Envoy knows")),
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Upstream {
        clusters: shares
            .into_iter()
            .map(|share| (share.name, share.weight.map_or(0, |weight| weight.value)))
            .collect(),
        headers: lines.iter().map(|(name, value)| (text(name), text(value))).collect(),
    })
}

fn rewritten(
    matched: Option<&RouteMatch>,
    prefix: Option<&str>,
    regex: Option<&RegexMatchAndSubstitute>,
    target: &str,
) -> Result<String, Unclear> {
    let (path, query) = path::split(target);
    if let Some(by) = prefix {
        let replaced = match matched.and_then(|matched| matched.path_specifier.as_ref()) {
            Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => prefix.as_str(),
            Some(PathSpecifier::Path(_)) => path,
            _ => return Err(Unclear::new("a prefix is rewritten where no prefix was matched")),
        };
        return Ok(format!("{by}{}{query}", path.strip_prefix(replaced).unwrap_or(path)));
    }
    let Some(regex) = regex else {
        return Ok(target.to_owned());
    };
    let pattern = regex.pattern.as_ref().map(|pattern| pattern.regex.as_str());
    let compiled = pattern.and_then(|pattern| regex::Regex::new(pattern).ok());
    // RE2 writes `\\` for a backslash and `\1` for a group.
    let by = regex.substitution.replace(r"\\", "\0");
    if by.contains('\\') {
        return Err(Unclear::new("a path is rewritten with groups of a regular expression"));
    }
    let by = by.replace('\0', r"\");
    let compiled =
        compiled.ok_or_else(|| Unclear::new("a path is rewritten by an expression that only Envoy reads"))?;
    Ok(format!("{}{query}", compiled.replace_all(path, regex::NoExpand(&by))))
}

/// Status and location of a redirect.
///
/// # Errors
///
/// It says something that is not understood.
pub(crate) fn redirect(route: &Route, action: &RedirectAction, head: &RequestHead) -> Result<(u16, String), Unclear> {
    let target = first(head, b":path");
    let (_, query) = path::split(&target);
    let path = match &action.path_rewrite_specifier {
        None => target.clone(),
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.contains('?') => path.clone(),
        Some(PathRewriteSpecifier::PathRedirect(path)) => format!("{path}{query}"),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            rewritten(route.r#match.as_ref(), Some(prefix), None, &target)?
        }
        Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
            rewritten(route.r#match.as_ref(), None, Some(regex), &target)?
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            return Err(Unclear::new("a redirect's path is made in a way that only Envoy knows"));
        }
    };
    let scheme = match &action.scheme_rewrite_specifier {
        None => first(head, b":scheme"),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => scheme.clone(),
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https".to_owned(),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => first(head, b":scheme"),
    };
    let host = if action.host_redirect.is_empty() {
        let authority = first(head, b":authority");
        match action.port_redirect {
            0 => authority,
            _ => String::from_utf8_lossy(without_port(authority.as_bytes())).into_owned(),
        }
    } else {
        action.host_redirect.clone()
    };
    let port = match action.port_redirect {
        0 => String::new(),
        port => format!(":{port}"),
    };
    if action.strip_query {
        return Err(Unclear::new("a redirect drops the query"));
    }
    let status = match RedirectResponseCode::try_from(action.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return Err(Unclear::new("a redirect has a status that only Envoy knows")),
    };
    Ok((status, format!("{scheme}://{host}{port}{path}")))
}
