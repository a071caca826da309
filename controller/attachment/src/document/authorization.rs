//! `spec.authorization`.

use portcullis_api::security_policy::{Authorization, AuthorizationAction, AuthorizationRule};
use portcullis_engine::{
    document::{self, Action, Document, Rule},
    policy::Policy,
};

use super::{Builder, salted};
use crate::fault::{Fault, Feature};

impl Builder<'_> {
    pub(super) fn authorization(&mut self, authorization: &Authorization) {
        let before = self.build.faults.len();
        let mut rules = Vec::new();
        for (index, rule) in authorization.rules.iter().enumerate() {
            if let Some(rule) = self.rule(index, rule) {
                rules.push(rule);
            }
        }
        let default_action = match authorization.default_action {
            Some(AuthorizationAction::Allow) => Action::Allow,
            None | Some(AuthorizationAction::Deny) => Action::Deny,
            Some(AuthorizationAction::Unknown) => {
                let path = "spec.authorization.defaultAction".to_owned();
                self.unsupported_field(Feature::Authorization, path, "this action");
                return;
            }
        };
        let part = document::Authorization { default_action, rules };
        let alone = |part: document::Authorization| Document {
            authorization: Some(part),
            ..Document::default()
        };
        if self.build.faults.len() != before {
            return;
        }
        if Policy::compile(&self.labelled(&alone(part.clone())), &salted()).is_ok() {
            self.build.document.authorization = Some(part);
            return;
        }
        // One rule at a time, so that the author learns of every rule's fault at once.
        for (index, rule) in part.rules.iter().enumerate() {
            let single = document::Authorization {
                default_action,
                rules: vec![rule.clone()],
            };
            let place = |path: String| path.replacen("rules[0]", &format!("rules[{index}]"), 1);
            self.compile(Feature::Authorization, &alone(single), place);
        }
        if self.build.faults.len() == before {
            self.compile(Feature::Authorization, &alone(part), |path| path);
        }
    }

    fn rule(&mut self, index: usize, rule: &AuthorizationRule) -> Option<Rule> {
        let before = self.build.faults.len();
        let path = format!("spec.authorization.rules[{index}]");
        let principal = rule.principal.as_ref();
        let fields = [
            (rule.action == AuthorizationAction::Unknown, "action"),
            (rule.operation.is_some(), "operation"),
            (rule.cel.is_some(), "cel"),
            (
                principal.is_some_and(|principal| principal.jwt.is_some()),
                "principal.jwt",
            ),
            (
                principal.is_some_and(|principal| !principal.headers.is_empty()),
                "principal.headers",
            ),
            (
                principal.is_some_and(|principal| !principal.client_ip_geo_locations.is_empty()),
                "principal.clientIPGeoLocations",
            ),
        ];
        for (present, field) in fields {
            if present {
                self.unsupported_field(Feature::Authorization, format!("{path}.{field}"), field);
            }
        }
        let client_cidrs = principal
            .map(|principal| principal.client_cidrs.clone())
            .unwrap_or_default();
        // In a document an absent part is no restriction: such a rule would match everybody.
        if client_cidrs.is_empty() && self.build.faults.len() == before {
            let (path, message) = if principal.is_some() {
                let message = "at least one of clientCIDRs, jwt, headers, or clientIPGeoLocations must be specified";
                (format!("{path}.principal"), message)
            } else {
                (path.clone(), "at least one of principal or cel must be specified")
            };
            self.fault(Fault {
                feature: Feature::Authorization,
                code: "empty-rule",
                condition: format!("{message} ({path})"),
                path,
                message: message.to_owned(),
                fix: Some("write principal.clientCIDRs".to_owned()),
            });
        }
        (self.build.faults.len() == before).then(|| Rule {
            name: rule.name.clone().unwrap_or_else(|| {
                format!(
                    "{}/{}/{}/authorization/rule/{index}",
                    self.author.kind.name().to_ascii_lowercase(),
                    self.author.namespace,
                    self.author.name
                )
            }),
            action: if rule.action == AuthorizationAction::Allow {
                Action::Allow
            } else {
                Action::Deny
            },
            client_cidrs,
            methods: Vec::new(),
            path: None,
            headers: Vec::new(),
        })
    }
}
