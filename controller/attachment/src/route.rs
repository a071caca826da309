//! Routes of every kind, as bindings and policies see them.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    object::{self, ObjectRef},
    snapshot::Snapshot,
};

/// The kind of HTTP routes.
pub(crate) const HTTP_ROUTE: &str = "HTTPRoute";
/// The kind of gRPC routes.
pub(crate) const GRPC_ROUTE: &str = "GRPCRoute";
/// The kind of TCP routes.
pub(crate) const TCP_ROUTE: &str = "TCPRoute";
/// Every kind of route that is served.
pub const ROUTE_KINDS: [&str; 3] = [HTTP_ROUTE, GRPC_ROUTE, TCP_ROUTE];

/// The kinds of routes that listeners of a protocol can take; none if the protocol is not served.
#[must_use]
pub fn kinds_of(protocol: &str) -> &'static [&'static str] {
    match protocol {
        "HTTP" | "HTTPS" => &[HTTP_ROUTE, GRPC_ROUTE],
        "TCP" => &[TCP_ROUTE],
        _ => &[],
    }
}

/// What is common to routes of every kind.
pub(crate) struct Route<'a> {
    /// One of [`ROUTE_KINDS`].
    pub(crate) kind: &'static str,
    pub(crate) metadata: &'a ObjectMeta,
    pub(crate) parents: Vec<ParentReference<'a>>,
    pub(crate) hostnames: &'a [String],
    /// The rules' names; a route without rules has the one of the schema's default, which matches everything.
    pub(crate) rules: Vec<Option<&'a str>>,
}

/// A parentRef as it was written.
pub(crate) struct ParentReference<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) section_name: Option<&'a str>,
    pub(crate) port: Option<i32>,
}

/// All kinds have parentRefs of the same form, in types of their own.
macro_rules! parents {
    ($route:expr) => {
        $route
            .spec
            .parent_refs
            .iter()
            .flatten()
            .map(|parent| ParentReference {
                group: parent.group.as_deref(),
                kind: parent.kind.as_deref(),
                namespace: parent.namespace.as_deref(),
                name: &parent.name,
                section_name: parent.section_name.as_deref(),
                port: parent.port,
            })
            .collect()
    };
}

/// Both kinds of requests have these fields under the same names.
macro_rules! view {
    ($kind:expr, $route:expr) => {{
        let route = $route;
        let rules = route.spec.rules.iter().flatten();
        Route {
            kind: $kind,
            metadata: &route.metadata,
            parents: parents!(route),
            hostnames: route.spec.hostnames.as_deref().unwrap_or_default(),
            rules: or_one(rules.map(|rule| rule.name.as_deref()).collect()),
        }
    }};
}

/// A route without rules has one without a name.
fn or_one(rules: Vec<Option<&str>>) -> Vec<Option<&str>> {
    if rules.is_empty() { vec![None] } else { rules }
}

impl Route<'_> {
    pub(crate) fn object(&self) -> ObjectRef {
        ObjectRef::new(self.kind, object::namespace(self.metadata), object::name(self.metadata))
    }
}

/// Every route, oldest first, then by namespace, name and kind.
pub(crate) fn routes(snapshot: &Snapshot) -> Vec<Route<'_>> {
    let http = snapshot.http_routes.iter().map(|route| view!(HTTP_ROUTE, route));
    let grpc = snapshot.grpc_routes.iter().map(|route| view!(GRPC_ROUTE, route));
    let tcp = snapshot.tcp_routes.iter().map(|route| Route {
        kind: TCP_ROUTE,
        metadata: &route.metadata,
        parents: parents!(route),
        hostnames: &[],
        rules: or_one(route.spec.rules.iter().map(|rule| rule.name.as_deref()).collect()),
    });
    let mut routes: Vec<Route<'_>> = http.chain(grpc).chain(tcp).collect();
    routes.sort_by(|one, other| {
        let key = |route: &Route<'_>| Reverse(route.kind);
        object::age(one.metadata)
            .cmp(&object::age(other.metadata))
            .then_with(|| key(one).cmp(&key(other)))
    });
    routes
}
