//! A rule as it is written, whichever kind of route it belongs to.

use std::borrow::Cow;

use gateway_api::{
    experimental::tcproutes::TcpRouteRules,
    grpcroutes::GrpcRouteRules,
    httproutes::{HttpRouteRules, HttpRouteRulesBackendRefs, HttpRouteRulesFilters, HttpRouteRulesTimeouts},
};
use portcullis_api::http_route::HttpRouteRetry;
use serde::{Serialize, de::DeserializeOwned};

use super::{grpc, matches::Match};
use crate::report::Fault;

/// A kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Grpc,
    Tcp,
}

impl Kind {
    /// The name of the kind in manifests.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tcp => "TCPRoute",
        }
    }

    /// What becomes of what is sent to a backend without endpoints.
    pub(crate) const fn unanswered(self) -> &'static str {
        match self {
            Self::Http | Self::Grpc => "requests are answered 503",
            Self::Tcp => "connections are closed",
        }
    }
}

/// One rule in the terms of HTTPRoute, of which all but the matches of a GRPCRoute is a part.
pub(crate) struct Source<'a> {
    pub(crate) kind: Kind,
    pub(crate) namespace: &'a str,
    /// One per entry of `matches`.
    pub(crate) matches: Vec<Result<Match, Fault>>,
    pub(crate) filters: Cow<'a, [HttpRouteRulesFilters]>,
    pub(crate) backend_refs: Cow<'a, [HttpRouteRulesBackendRefs]>,
    pub(crate) timeouts: Option<&'a HttpRouteRulesTimeouts>,
    pub(crate) retry: Option<&'a HttpRouteRetry>,
    /// Why the rule cannot be read at all.
    pub(crate) fault: Option<Fault>,
}

impl<'a> Source<'a> {
    pub(crate) fn http(spec: &'a HttpRouteRules, retry: Option<&'a HttpRouteRetry>, namespace: &'a str) -> Self {
        Self {
            kind: Kind::Http,
            namespace,
            matches: (0..)
                .zip(spec.matches.iter().flatten())
                .map(|(index, spec)| Match::read(index, spec))
                .collect(),
            filters: Cow::Borrowed(spec.filters.as_deref().unwrap_or_default()),
            backend_refs: Cow::Borrowed(spec.backend_refs.as_deref().unwrap_or_default()),
            timeouts: spec.timeouts.as_ref(),
            retry,
            fault: None,
        }
    }

    pub(crate) fn grpc(spec: &GrpcRouteRules, namespace: &'a str) -> Self {
        let mut fault = None;
        let filters = alike(spec.filters.as_deref().unwrap_or_default()).unwrap_or_else(|why| {
            fault = Some(why.below("filters"));
            Vec::new()
        });
        let backend_refs = alike(spec.backend_refs.as_deref().unwrap_or_default()).unwrap_or_else(|why| {
            fault = Some(why.below("backendRefs"));
            Vec::new()
        });
        Self {
            kind: Kind::Grpc,
            namespace,
            matches: (0..)
                .zip(spec.matches.iter().flatten())
                .map(|(index, spec)| grpc::read(index, spec))
                .collect(),
            filters: Cow::Owned(filters),
            backend_refs: Cow::Owned(backend_refs),
            timeouts: None,
            retry: None,
            fault,
        }
    }

    /// The only rule of a TCPRoute, or one of several.
    pub(crate) fn tcp(spec: &TcpRouteRules, alone: bool, namespace: &'a str) -> Self {
        let mut fault = (!alone).then(|| {
            let message = "a TCPRoute has one rule, for nothing tells its connections apart";
            Fault::new("too-many", "", message).fix("write one rule, with all the backendRefs")
        });
        let backend_refs = alike(&spec.backend_refs).unwrap_or_else(|why| {
            fault = Some(why.below("backendRefs"));
            Vec::new()
        });
        Self {
            kind: Kind::Tcp,
            namespace,
            matches: Vec::new(),
            filters: Cow::Borrowed(&[]),
            backend_refs: Cow::Owned(backend_refs),
            timeouts: None,
            retry: None,
            fault,
        }
    }
}

/// Reads values of one type as another that has all their fields: the API's types repeat each other.
pub(crate) fn alike<One: Serialize, Other: DeserializeOwned>(values: &[One]) -> Result<Vec<Other>, Fault> {
    values
        .iter()
        .map(|value| serde_json::to_value(value).and_then(serde_json::from_value))
        .collect::<Result<Vec<Other>, _>>()
        .map_err(|error| Fault::new("unreadable-object", "", error.to_string()))
}
