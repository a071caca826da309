//! Ordered rules over what a request is; the first that matches decides.

use std::sync::Arc;

use crate::{
    address::{NetworkSet, parse_network},
    document::{self, Action},
    host::{Fault, Host},
    http::header::is_field_value,
    identity::Forwarded,
    policy::{PolicyError, at_most},
    request::Request,
};

/// The most rules of one policy.
const MAX_RULES: usize = 512;
/// The most networks of one policy, over all its rules.
const MAX_CIDRS: usize = 8192;
/// The longest name of a rule, in bytes: the name that Envoy Gateway gives an unnamed rule holds the policy's.
const MAX_NAME: usize = 512;

/// Compiled authorization.
#[derive(Debug)]
pub(crate) struct Authorization {
    default_action: Action,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    name: Arc<str>,
    action: Action,
    clients: NetworkSet,
}

/// What the rules decide, and the rule that did; `None` for the default action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) action: Action,
    pub(crate) rule: Option<Arc<str>>,
}

impl Authorization {
    pub(crate) fn compile(document: &document::Authorization) -> Result<Self, PolicyError> {
        at_most("authorization.rules", "rules", document.rules.len(), MAX_RULES)?;
        let cidrs = document.rules.iter().map(|rule| rule.client_cidrs.len()).sum();
        at_most("authorization.rules", "clientCIDRs", cidrs, MAX_CIDRS)?;
        let rules = document.rules.iter().enumerate();
        let rules = rules
            .map(|(index, rule)| Rule::compile(index, rule))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            default_action: document.default_action,
            rules,
        })
    }

    /// Decides by the rules; `None` while the identity that one of them asks for is not verified.
    ///
    /// A client whose address is unknown matches every rule that denies by address and none that allows by it.
    pub(crate) fn decide(
        &self,
        request: &Request<'_, impl Host>,
        _identity: Option<[&Forwarded; 2]>,
    ) -> Result<Option<Verdict>, Fault> {
        for rule in &self.rules {
            let matches = match request.client()? {
                Some(client) => rule.clients.contains(client),
                None => rule.action == Action::Deny,
            };
            if matches {
                return Ok(Some(Verdict {
                    action: rule.action,
                    rule: Some(Arc::clone(&rule.name)),
                }));
            }
        }
        Ok(Some(Verdict {
            action: self.default_action,
            rule: None,
        }))
    }
}

impl Rule {
    fn compile(index: usize, rule: &document::Rule) -> Result<Self, PolicyError> {
        let path = format!("authorization.rules[{index}]");
        if rule.name.is_empty() || rule.name.len() > MAX_NAME || !is_field_value(rule.name.as_bytes()) {
            return Err(PolicyError::new(
                format!("{path}.name"),
                "invalid-rule-name",
                format!("the name of a rule has 1 to {MAX_NAME} bytes and no control character"),
            ));
        }
        if !rule.methods.is_empty() || rule.path.is_some() || !rule.headers.is_empty() {
            return Err(PolicyError::new(
                path,
                "unsupported-field",
                "is not enforced".to_owned(),
            ));
        }
        if rule.client_cidrs.is_empty() {
            return Err(PolicyError::new(
                format!("{path}.principal.clientCIDRs"),
                "empty-rule",
                "a rule without a condition would match every request".to_owned(),
            )
            .fix("write \"0.0.0.0/0\" and \"::/0\" for every client".to_owned()));
        }
        let networks = rule.client_cidrs.iter().enumerate().map(|(at, text)| {
            parse_network(text).map_err(|fix| {
                let error = PolicyError::new(
                    format!("{path}.principal.clientCIDRs[{at}]"),
                    "invalid-cidr",
                    format!("{text:?} is not a CIDR"),
                );
                match fix {
                    Some(fix) => error.fix(format!("write {fix:?}")),
                    None => error,
                }
            })
        });
        Ok(Self {
            name: rule.name.as_str().into(),
            action: rule.action,
            clients: networks.collect::<Result<_, _>>()?,
        })
    }
}
