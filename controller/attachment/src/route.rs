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
/// Every kind of route that is served.
pub const ROUTE_KINDS: [&str; 2] = [HTTP_ROUTE, GRPC_ROUTE];

/// What is common to routes of every kind.
pub(crate) struct Route<'a> {
    /// One of [`ROUTE_KINDS`].
    pub(crate) kind: &'static str,
    pub(crate) metadata: &'a ObjectMeta,
    pub(crate) parents: Vec<ParentReference<'a>>,
    pub(crate) hostnames: &'a [String],
    /// The rules' names; a route without rules has the one of the schema's default, which matches every path.
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

/// Both kinds have these fields under the same names, in types of their own.
macro_rules! view {
    ($kind:expr, $route:expr) => {{
        let route = $route;
        let parents = route.spec.parent_refs.iter().flatten().map(|parent| ParentReference {
            group: parent.group.as_deref(),
            kind: parent.kind.as_deref(),
            namespace: parent.namespace.as_deref(),
            name: &parent.name,
            section_name: parent.section_name.as_deref(),
            port: parent.port,
        });
        let rules: Vec<Option<&str>> = route
            .spec
            .rules
            .iter()
            .flatten()
            .map(|rule| rule.name.as_deref())
            .collect();
        Route {
            kind: $kind,
            metadata: &route.metadata,
            parents: parents.collect(),
            hostnames: route.spec.hostnames.as_deref().unwrap_or_default(),
            rules: if rules.is_empty() { vec![None] } else { rules },
        }
    }};
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
    let mut routes: Vec<Route<'_>> = http.chain(grpc).collect();
    routes.sort_by(|one, other| {
        let key = |route: &Route<'_>| Reverse(route.kind);
        object::age(one.metadata)
            .cmp(&object::age(other.metadata))
            .then_with(|| key(one).cmp(&key(other)))
    });
    routes
}
