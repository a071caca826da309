//! Rules that verified claims select: no client comes to them by what it writes.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::{
    config::route::v3::RouteMatch,
    r#type::matcher::v3::{FilterStateMatcher, StringMatcher, filter_state_matcher, string_matcher::MatchPattern},
};
use portcullis_attachment::selecting::{Selecting, backend_name};

use super::host::Served;

/// Where the filter notes the headers that it made, in the state of the request.
pub(crate) const CLAIMS: &str = "wasm.portcullis.claims";

/// The policies of a virtual host whose claims select routes.
pub(super) struct Guards<'a>(Vec<(&'a Served, &'a Selecting)>);

impl<'a> Guards<'a> {
    pub(super) fn of(served: &'a [Served]) -> Self {
        let each = |served: &'a Served| {
            let selecting = served.policy.iter().flat_map(|policy| &policy.selecting);
            selecting.map(move |selecting| (served, selecting))
        };
        Self(served.iter().flat_map(each).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that bear on a rule: a route's policy on routes of its own namespace only, for a tenant's must not change which of
    /// another tenant's rules a request meets.
    fn on(&self, rule: &Served) -> impl Iterator<Item = (&'a Served, &'a Selecting)> {
        let near = |served: &Served, selecting: &Selecting| {
            selecting.everywhere || namespace(&served.route) == namespace(&rule.route)
        };
        let all = self.0.iter().copied();
        all.filter(move |(served, selecting)| near(served, selecting))
    }

    /// Lets a match take no request by a header that one of these policies sets, unless it was set so.
    pub(super) fn guard(&self, rule: &Served, condition: &mut RouteMatch) {
        let set: BTreeSet<&str> = self
            .on(rule)
            .filter_map(|(_, selecting)| selecting.headers.as_ref())
            .flatten()
            .map(String::as_str)
            .collect();
        let names = condition.headers.iter().map(|matcher| backend_name(&matcher.name));
        let names: BTreeSet<String> = names.filter(|name| set.contains(name.as_str())).collect();
        condition.filter_state = names
            .into_iter()
            .map(|name| FilterStateMatcher {
                key: CLAIMS.to_owned(),
                matcher: Some(filter_state_matcher::Matcher::StringMatch(StringMatcher {
                    match_pattern: Some(MatchPattern::Contains(format!(",{name},"))),
                    ..StringMatcher::default()
                })),
            })
            .collect();
    }

    /// Whether a match of a rule must stay shut: it asks for a header, and which ones the policy of another rule of its route, or
    /// of the whole Gateway, would have guarded cannot be read.
    pub(super) fn shuts(&self, rule: &Served, condition: &RouteMatch) -> bool {
        !condition.headers.is_empty()
            && self.on(rule).any(|(served, selecting)| {
                selecting.headers.is_none() && (selecting.everywhere || served.route == rule.route)
            })
    }
}

/// The namespace of `httproute/namespace/name`.
fn namespace(route: &str) -> Option<&str> {
    route.split('/').nth(1)
}
