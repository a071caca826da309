//! Why a parent does not take a route.

use std::collections::BTreeSet;

use crate::{
    finding::{self, Finding, Severity},
    listeners::Listener,
    object::{self, ObjectRef},
    route::Route,
    status::{Condition, ConditionStatus, ParentRef},
};

/// Why a parent does not take a route, for its status and for its author.
pub(super) struct Refusal {
    reason: &'static str,
    message: String,
    code: &'static str,
    /// The field: of the route if it begins with `spec.`, or else of the parentRef.
    field: &'static str,
    finding: String,
    fix: Option<String>,
}

impl Refusal {
    /// None of the listeners that the parentRef selects is usable.
    pub(super) fn not_ready(finding: String) -> Box<Self> {
        Box::new(Self {
            reason: "NoReadyListeners",
            message: "There are no ready listeners for this parent ref".to_owned(),
            code: "no-ready-listeners",
            field: "",
            finding,
            fix: Some("repair the listener".to_owned()),
        })
    }

    /// The parentRef selects no listener.
    pub(super) fn no_match(named: &str, parent: &ParentRef, listeners: &[&Listener<'_>]) -> Box<Self> {
        let names: Vec<&str> = listeners.iter().map(|listener| listener.spec.name.as_str()).collect();
        let ports = |named: Option<&str>| {
            let ports: BTreeSet<String> = listeners
                .iter()
                .filter(|listener| named.is_none_or(|name| name == listener.spec.name))
                .map(|listener| listener.spec.port.to_string())
                .collect();
            let ports: Vec<String> = ports.into_iter().collect();
            Some(format!("write port {}", ports.join(" or ")))
        };
        let (field, wanted, fix) = match (parent.section_name.as_deref(), parent.port) {
            (None, None) => ("", "at all".to_owned(), Some("give it one".to_owned())),
            (None, Some(port)) => (".port", format!("on port {port}"), ports(None)),
            (Some(section), Some(port)) if names.contains(&section) => (
                ".port",
                format!("named {section:?} on port {port}"),
                ports(Some(section)),
            ),
            (Some(section), _) => (".sectionName", format!("named {section:?}"), finding::one_of(&names)),
        };
        Box::new(Self {
            reason: "NoMatchingParent",
            message: "No listeners match this parent ref".to_owned(),
            code: "no-matching-parent",
            field,
            finding: format!("{named} has no listener {wanted}"),
            fix,
        })
    }

    /// No listener that the parentRef selects admits the route.
    pub(super) fn not_allowed(named: &str, route: &Route<'_>) -> Box<Self> {
        Box::new(Self {
            reason: "NotAllowedByListeners",
            message: "No listeners included by this parent ref allowed this attachment.".to_owned(),
            code: "not-allowed-by-listeners",
            field: "",
            finding: format!(
                "no listener of {named} allows {}s of namespace {}",
                route.kind,
                object::namespace(route.metadata)
            ),
            fix: Some("admit them in the listener's allowedRoutes".to_owned()),
        })
    }

    /// Listeners of other objects have the hosts that the route wants.
    pub(super) fn taken(route: &Route<'_>, finding: &str) -> Box<Self> {
        let fix = "refer to the object that has the more specific listener".to_owned();
        Self::no_hostname(route, finding.to_owned(), fix)
    }

    /// The listeners serve none of the hosts that the route wants.
    pub(super) fn elsewhere(named: &str, route: &Route<'_>, listeners: &[&Listener<'_>]) -> Box<Self> {
        let hostnames: BTreeSet<String> = listeners
            .iter()
            .map(|listener| format!("{:?}", listener.hostname))
            .collect();
        let hostnames: Vec<String> = hostnames.into_iter().collect();
        let finding = format!("no listener of {named} serves a hostname of this route");
        Self::no_hostname(route, finding, format!("use hostnames within {}", hostnames.join(", ")))
    }

    fn no_hostname(route: &Route<'_>, finding: String, fix: String) -> Box<Self> {
        Box::new(Self {
            reason: "NoMatchingListenerHostname",
            message: format!(
                "There were no hostname intersections between the {} and this parent ref's Listener(s).",
                route.kind
            ),
            code: "no-matching-hostname",
            field: "spec.hostnames",
            finding,
            fix: Some(fix),
        })
    }

    /// What the author is told, and the parent's `Accepted`; `path` is that of the parentRef.
    pub(super) fn tell(self, object: ObjectRef, path: &str) -> (Finding, Condition) {
        let finding = Finding {
            severity: Severity::Error,
            code: self.code,
            object,
            path: if self.field.starts_with("spec.") {
                self.field.to_owned()
            } else {
                format!("{path}{}", self.field)
            },
            message: self.finding,
            fix: self.fix,
        };
        let accepted = Condition {
            r#type: "Accepted",
            status: ConditionStatus::False,
            reason: self.reason,
            message: self.message,
        };
        (finding, accepted)
    }
}
