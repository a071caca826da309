//! One rule of a route: what happens to the requests that it matches.

use envoy_types::pb::envoy::{
    config::route::v3::{
        DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
        redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
        route::Action,
        route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier},
        weighted_cluster::ClusterWeight,
    },
    r#type::matcher::v3::RegexMatchAndSubstitute,
};

use super::{
    filters::{Copies, Edits, Filters, NewPath, Redirect, Rewrite},
    matches::{Match, regex},
    mirror::{Mirror, Withheld},
    source::{Kind, Source},
    timing::Timing,
};
use crate::{
    backends::{Backends, Reference},
    report::{Fault, ignored},
    xds::number,
};

/// A cluster that exists nowhere: requests of its share answer 500 (`cluster_not_found_response_code`).
pub(crate) const NO_CLUSTER: &str = "invalid-backend";

/// The most that a rule's header edits may come to over all its matches, in bytes: each match is a route of its own in
/// Envoy, under every hostname, and a table that is too large to be sent holds back the changes of all.
const MAX_EDITS: usize = 512 * 1024;

/// One rule, read once, wherever it is served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// The matches that could be read.
    pub(crate) matches: Vec<Match>,
    /// Whether there are others that could not.
    pub(crate) lost_matches: bool,
    outcome: Outcome,
    request: Edits,
    response: Edits,
    timing: Timing,
    mirrors: Vec<Mirror>,
    /// Whether its policy must answer for the CORS filter.
    pub(crate) cors: bool,
    /// The clusters that it sends to.
    pub(crate) clusters: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// Answers by itself.
    Status(u32),
    Forward {
        shares: Vec<Share>,
        rewrite: Option<Rewrite>,
    },
    Redirect(Redirect),
}

#[derive(Clone, Debug, PartialEq)]
struct Share {
    /// `None` answers 500.
    cluster: Option<String>,
    weight: u32,
    request: Edits,
    response: Edits,
}

/// What reading a rule found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Faults with the effect that the rule, or one of its matches, does not work as written.
    pub(crate) faults: Vec<Fault>,
    /// References that are not served, with the reason for `ResolvedRefs`.
    pub(crate) unresolved: Vec<(&'static str, Fault)>,
    pub(crate) warnings: Vec<Fault>,
    /// Backends without a ready endpoint.
    pub(crate) empty: Vec<String>,
}

/// The listener that a rule is served on, as far as redirects need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) https: bool,
    pub(crate) port: u16,
}

impl Rule {
    /// Reads a rule; paths of notes are below the rule.
    pub(crate) fn read(source: Source<'_>, backends: &mut Backends<'_>) -> (Self, Notes) {
        let mut notes = Notes::default();
        notes.faults.extend(source.fault.clone());
        let matches = matches(source.matches, &mut notes);
        let prefix_only = matches.iter().all(|each| each.prefix.is_some());
        let mut filters = Filters::read(&source.filters, prefix_only).unwrap_or_else(|fault| {
            notes.faults.push(fault.below("filters"));
            Filters::default()
        });
        let timing = Timing::read(source.kind, source.timeouts, source.retry).unwrap_or_else(|fault| {
            notes.faults.push(fault);
            Timing::default()
        });
        let from = (source.kind, source.namespace);
        let references = &*source.backend_refs;
        let shares = shares(references, from, backends, &mut notes);
        let mirrors = mirrors(&filters.mirrors, from, backends, &mut notes);
        let edits = shares
            .iter()
            .flat_map(|share| [&share.request, &share.response])
            .chain([&filters.request, &filters.response])
            .map(Edits::size)
            .sum::<usize>()
            .saturating_mul(matches.len());
        if edits > MAX_EDITS {
            filters = Filters::default();
            let message = format!(
                "the headers that the rule's filters change come to {edits} bytes over its matches, more than {MAX_EDITS}"
            );
            notes.faults.push(
                Fault::new("too-many", "filters", message).fix("change fewer headers, or give the rule fewer matches"),
            );
        }
        let lost_matches = notes.faults.iter().any(|fault| fault.path.starts_with("matches"));
        // A match that was read without a part of it would take more than it should.
        let failed = source.fault.is_some() || notes.faults.iter().any(|fault| !fault.path.starts_with("matches"));
        let clusters: Vec<String> = shares.iter().filter_map(|share| share.cluster.clone()).collect();
        let outcome = if failed {
            Outcome::Status(500)
        } else if let Some(redirect) = filters.redirect {
            for (path, set) in [
                ("backendRefs", !references.is_empty()),
                ("timeouts", source.timeouts.is_some()),
                ("retry", source.retry.is_some()),
            ] {
                if set {
                    notes.warnings.push(ignored(path, "the rule redirects every request"));
                }
            }
            Outcome::Redirect(redirect)
        } else if clusters.is_empty() {
            Outcome::Status(500)
        } else {
            Outcome::Forward {
                shares,
                rewrite: filters.rewrite,
            }
        };
        let clusters = if matches!(outcome, Outcome::Forward { .. }) {
            let copied = mirrors.iter().map(|mirror| mirror.cluster.clone());
            clusters.into_iter().chain(copied).collect()
        } else {
            Vec::new()
        };
        let rule = Self {
            matches,
            lost_matches,
            outcome,
            request: filters.request,
            response: filters.response,
            timing,
            mirrors,
            cors: filters.cors,
            clusters,
        };
        (rule, notes)
    }

    /// Whether some of its requests are copied.
    pub(crate) const fn copies(&self) -> bool {
        !self.mirrors.is_empty()
    }

    /// The route of one match, without name, condition and metadata; copies of requests lack what is withheld.
    pub(crate) fn route(&self, matched: &Match, place: Place, withheld: &Withheld) -> Route {
        let mut route = Route {
            request_headers_to_add: self.request.add.clone(),
            request_headers_to_remove: self.request.remove.clone(),
            response_headers_to_add: self.response.add.clone(),
            response_headers_to_remove: self.response.remove.clone(),
            ..Route::default()
        };
        route.action = Some(match &self.outcome {
            Outcome::Status(status) => answer(*status),
            Outcome::Redirect(redirect) => Action::Redirect(redirect.action(matched, place)),
            Outcome::Forward { shares, rewrite } => {
                let mut action = RouteAction {
                    cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError.into(),
                    timeout: self.timing.timeout,
                    retry_policy: self.timing.retry.clone(),
                    request_mirror_policies: if withheld.everything() {
                        Vec::new()
                    } else {
                        self.mirrors.iter().map(|mirror| mirror.policy(withheld)).collect()
                    },
                    ..RouteAction::default()
                };
                specify(&mut action, shares);
                if let Some(rewrite) = rewrite {
                    rewrite.apply(&mut action, matched);
                    if rewrite.hostname.is_some() {
                        // Envoy appends the host that was asked for; what a client wrote there must not come first.
                        route.request_headers_to_remove.push("x-forwarded-host".to_owned());
                    }
                }
                Action::Route(action)
            }
        });
        route
    }
}

impl Rule {
    /// The clusters that connections go to, by weight; one that is absent closes its share of them. None closes all.
    pub(crate) fn weights(&self) -> Vec<(Option<&str>, u32)> {
        match &self.outcome {
            Outcome::Forward { shares, .. } => shares
                .iter()
                .map(|share| (share.cluster.as_deref(), share.weight))
                .collect(),
            Outcome::Status(_) | Outcome::Redirect(_) => Vec::new(),
        }
    }
}

/// Answers without a backend and without a body.
pub(crate) fn answer(status: u32) -> Action {
    Action::DirectResponse(DirectResponseAction {
        status,
        ..DirectResponseAction::default()
    })
}

fn matches(read: Vec<Result<Match, Fault>>, notes: &mut Notes) -> Vec<Match> {
    if read.is_empty() {
        return vec![Match::any()];
    }
    let mut matches = Vec::new();
    for (index, read) in read.into_iter().enumerate() {
        let path = format!("matches[{index}]");
        match read {
            Ok(mut read) => {
                notes
                    .warnings
                    .extend(read.warnings.drain(..).map(|fault| fault.below(&path)));
                matches.push(read);
            }
            Err(mut fault) => {
                fault.fix.get_or_insert_with(|| {
                    "repair it: until then rules of this route under another policy answer 500".to_owned()
                });
                notes.faults.push(fault.below(&path));
            }
        }
    }
    matches
}

/// The backends that get copies; one that is not served gets none, and the rule works without it (`HTTPRequestMirrorFilter`).
fn mirrors(specs: &[Copies], from: (Kind, &str), backends: &mut Backends<'_>, notes: &mut Notes) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for spec in specs {
        let path = format!("filters{}", spec.path);
        match backends.resolve(from, &Reference::of_mirror(&spec.backend)) {
            Ok(resolved) => {
                notes
                    .warnings
                    .extend(resolved.warnings.into_iter().map(|fault| fault.below(&path)));
                if spec.share > 0 {
                    mirrors.push(Mirror {
                        cluster: resolved.cluster,
                        share: spec.share,
                    });
                }
            }
            Err(unresolved) => notes
                .unresolved
                .push((unresolved.reason, unresolved.fault.below(&path))),
        }
    }
    mirrors
}

fn shares(
    references: &[gateway_api::httproutes::HttpRouteRulesBackendRefs],
    from: (Kind, &str),
    backends: &mut Backends<'_>,
    notes: &mut Notes,
) -> Vec<Share> {
    let mut shares = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let path = format!("backendRefs[{index}]");
        let weight = u32::try_from(reference.weight.unwrap_or(1))
            .ok()
            .filter(|weight| *weight <= 1_000_000);
        let Some(weight) = weight else {
            notes.faults.push(Fault::new(
                "invalid-weight",
                format!("{path}.weight"),
                "the weight is not between 0 and 1000000",
            ));
            continue;
        };
        let edits = Filters::of_backend(reference.filters.as_deref().unwrap_or_default());
        let mut share = Share {
            cluster: None,
            weight,
            request: Edits::default(),
            response: Edits::default(),
        };
        match backends.resolve(from, &Reference::of_backend(reference)) {
            Ok(resolved) => {
                notes
                    .warnings
                    .extend(resolved.warnings.into_iter().map(|fault| fault.below(&path)));
                if resolved.empty {
                    notes.empty.push(resolved.cluster.clone());
                }
                share.cluster = Some(resolved.cluster);
            }
            Err(unresolved) => notes
                .unresolved
                .push((unresolved.reason, unresolved.fault.below(&path))),
        }
        match edits {
            Ok((request, response)) => (share.request, share.response) = (request, response),
            Err(fault) => {
                // What the filter would have done is unknown here, so nothing may be sent without it.
                share.cluster = None;
                notes
                    .unresolved
                    .push(("UnsupportedValue", fault.below("filters").below(&path)));
            }
        }
        // A weight of zero is never chosen.
        if weight > 0 {
            shares.push(share);
        }
    }
    shares
}

fn specify(action: &mut RouteAction, shares: &[Share]) {
    let name = |share: &Share| share.cluster.clone().unwrap_or_else(|| NO_CLUSTER.to_owned());
    action.cluster_specifier = Some(match shares {
        [only] if only.request == Edits::default() && only.response == Edits::default() => {
            ClusterSpecifier::Cluster(name(only))
        }
        shares => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: shares
                .iter()
                .map(|share| ClusterWeight {
                    name: name(share),
                    weight: number(share.weight),
                    request_headers_to_add: share.request.add.clone(),
                    request_headers_to_remove: share.request.remove.clone(),
                    response_headers_to_add: share.response.add.clone(),
                    response_headers_to_remove: share.response.remove.clone(),
                    ..ClusterWeight::default()
                })
                .collect(),
            ..WeightedCluster::default()
        }),
    });
}

/// What to do with a path in Envoy's terms.
enum PathEdit {
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

impl NewPath {
    /// The edit that replaces the matched prefix by whole segments, or the whole path.
    fn edit(&self, matched: &Match) -> PathEdit {
        let substitute = |pattern: &str, by: &str| {
            PathEdit::Regex(RegexMatchAndSubstitute {
                pattern: Some(regex(pattern)),
                substitution: by.replace('\\', "\\\\"),
            })
        };
        match (self, matched.prefix.as_deref().unwrap_or_default()) {
            (Self::Full(path), _) => substitute("^.*$", path),
            // `/` matches every path, whose own slash stays.
            (Self::Prefix(by), "") => PathEdit::Prefix(format!("{by}/")),
            // `/old/x` becomes `/x`, `/old` becomes `/`.
            (Self::Prefix(by), prefix) if by.is_empty() => substitute(&format!("^{}/?", regex::escape(prefix)), "/"),
            (Self::Prefix(by), _) => PathEdit::Prefix(by.clone()),
        }
    }
}

impl Rewrite {
    fn apply(&self, action: &mut RouteAction, matched: &Match) {
        if let Some(hostname) = &self.hostname {
            action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(hostname.clone()));
            action.append_x_forwarded_host = true;
        }
        match self.path.as_ref().map(|path| path.edit(matched)) {
            None => {}
            Some(PathEdit::Prefix(prefix)) => action.prefix_rewrite = prefix,
            Some(PathEdit::Regex(regex)) => action.regex_rewrite = Some(regex),
        }
    }
}

impl Redirect {
    fn action(&self, matched: &Match, place: Place) -> RedirectAction {
        let well_known = |scheme: &str| if scheme == "https" { 443 } else { 80 };
        let own = if place.https { "https" } else { "http" };
        let scheme = self.scheme.unwrap_or(own);
        // HTTPRequestRedirectFilter.port: the scheme's own port if a scheme is given, else the listener's; a port that
        // the scheme implies is left out.
        let port = match (self.port, self.scheme) {
            (Some(port), _) => port,
            (None, Some(scheme)) => well_known(scheme),
            (None, None) => place.port,
        };
        RedirectAction {
            host_redirect: self.hostname.clone().unwrap_or_default(),
            port_redirect: if port == well_known(scheme) { 0 } else { port.into() },
            response_code: self.code.into(),
            scheme_rewrite_specifier: self
                .scheme
                .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned())),
            path_rewrite_specifier: self.path.as_ref().map(|path| match path {
                NewPath::Full(path) => PathRewriteSpecifier::PathRedirect(path.clone()),
                NewPath::Prefix(_) => match path.edit(matched) {
                    PathEdit::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
                    PathEdit::Regex(regex) => PathRewriteSpecifier::RegexRewrite(regex),
                },
            }),
            ..RedirectAction::default()
        }
    }
}
