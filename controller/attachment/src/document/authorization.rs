//! `spec.authorization`.

use portcullis_api::security_policy::{
    Authorization, AuthorizationAction, AuthorizationRule, CertificatePrincipal, ClientIpGeoLocation, HttpMethod,
    JwtClaimValueType, JwtPrincipal, Operation, PathMatchType, Principal, UriMatchType,
};
use portcullis_engine::{
    cel::{
        self,
        source::{self, SourceError},
    },
    document::{
        self, Action, Anonymous, ClaimMatch, ClaimType, Document, Expression, GeoLocation, HeaderMatch, Node,
        PathMatch, Rule,
    },
    policy::Policy,
};

use super::Builder;
use crate::{
    fault::{Fault, Feature, Notice},
    object::PolicyKind,
};

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
        let asks_tokens = part.rules.iter().any(asks_tokens);
        let jwt = self.build.document.jwt.clone().filter(|_| asks_tokens);
        let alone = |part: document::Authorization| Document {
            jwt: jwt.clone(),
            authorization: Some(part),
            ..Document::default()
        };
        // Without the providers nothing can be said of rules on their tokens; what is wrong with them is told already.
        let unknown = asks_tokens && self.build.faults.iter().any(|fault| fault.feature == Feature::Jwt);
        if self.build.faults.len() != before || unknown {
            return;
        }
        let document = self.labelled(&alone(part.clone()));
        if Policy::compile(&document, &self.salted(&document)).is_ok() {
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
        let owner = self.owners.rules;
        let path = format!("spec.authorization.rules[{index}]");
        let principal = rule.principal.as_ref();
        if rule.action == AuthorizationAction::Unknown {
            self.unsupported_field(Feature::Authorization, format!("{path}.action"), "action");
        }
        let empty = Principal::default();
        let Principal {
            client_cidrs,
            headers,
            jwt,
            client_certificate,
            client_ip_geo_locations,
        } = principal.unwrap_or(&empty);
        // In a document an absent part is no restriction: such a rule would match everybody.
        let only_cel = principal.is_none() && rule.cel.is_some();
        let nobody = client_cidrs.is_empty()
            && headers.is_empty()
            && jwt.is_none()
            && client_certificate.is_none()
            && client_ip_geo_locations.is_empty();
        let anybody = nobody && !only_cel;
        if anybody && self.build.faults.len() == before {
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
                fix: Some("write principal.clientCIDRs, as in [0.0.0.0/0, \"::/0\"] for everybody".to_owned()),
            });
        }
        let (methods, path_match) = self.operation(&path, rule.operation.as_ref());
        let jwt = jwt.as_ref().and_then(|jwt| self.token(&path, jwt));
        let certificate = client_certificate
            .as_ref()
            .and_then(|asked| self.certificate(&path, asked));
        let cel = rule
            .cel
            .as_ref()
            .and_then(|text| self.expression(format!("{path}.cel"), rule.action, text));
        (self.build.faults.len() == before).then(|| Rule {
            name: rule.name.clone().unwrap_or_else(|| {
                format!(
                    "{}/{}/{}/authorization/rule/{index}",
                    owner.kind.name().to_ascii_lowercase(),
                    owner.namespace,
                    owner.name
                )
            }),
            action: if rule.action == AuthorizationAction::Allow {
                Action::Allow
            } else {
                Action::Deny
            },
            client_cidrs: client_cidrs.iter().collect(),
            geo_locations: client_ip_geo_locations.iter().map(place).collect(),
            certificate,
            methods,
            path: path_match,
            headers: headers
                .iter()
                .map(|header| HeaderMatch {
                    name: header.name.clone(),
                    values: header.values.clone(),
                })
                .collect(),
            cel,
            jwt,
        })
    }

    /// What a rule asks of a certificate.
    fn certificate(&mut self, rule: &str, asked: &CertificatePrincipal) -> Option<document::CertificatePrincipal> {
        let path = format!("{rule}.principal.clientCertificate");
        // An API server drops it there; whoever gets it past one must not have it taken for nothing.
        if self.owners.rules.kind == PolicyKind::SecurityPolicy {
            let message = "only an AccessPolicy can ask for certificates of clients";
            self.fault(Fault {
                feature: Feature::Authorization,
                code: "unsupported-field",
                condition: format!("{message} ({path})"),
                path,
                message: message.to_owned(),
                fix: Some("write an AccessPolicy of portcullis.dev/v1alpha1".to_owned()),
            });
            return None;
        }
        let mut uri_sans = Vec::with_capacity(asked.uri_sans.len());
        for (index, uri) in asked.uri_sans.iter().enumerate() {
            let r#type = match uri.r#type {
                UriMatchType::Exact => document::UriMatchType::Exact,
                UriMatchType::Prefix => document::UriMatchType::Prefix,
                UriMatchType::Unknown => {
                    let path = format!("{path}.uriSANs[{index}].type");
                    self.unsupported_field(Feature::Authorization, path, "this way to compare");
                    return None;
                }
            };
            uri_sans.push(document::UriMatch {
                r#type,
                value: uri.value.clone(),
            });
        }
        Some(document::CertificatePrincipal {
            uri_sans,
            dns_sans: asked.dns_sans.clone(),
            subjects: asked.subjects.clone(),
        })
    }

    /// What a rule asks of a token.
    fn token(&mut self, rule: &str, asked: &JwtPrincipal) -> Option<document::JwtPrincipal> {
        let mut claims = Vec::with_capacity(asked.claims.len());
        for (index, claim) in asked.claims.iter().enumerate() {
            let value_type = match claim.value_type {
                JwtClaimValueType::String => ClaimType::String,
                JwtClaimValueType::StringArray => ClaimType::StringArray,
                JwtClaimValueType::Unknown => {
                    let path = format!("{rule}.principal.jwt.claims[{index}].valueType");
                    self.unsupported_field(Feature::Authorization, path, "this type of claim");
                    return None;
                }
            };
            claims.push(ClaimMatch {
                name: claim.name.clone(),
                value_type,
                values: claim.values.clone(),
            });
        }
        Some(document::JwtPrincipal {
            provider: asked.provider.clone(),
            claims,
            scopes: asked.scopes.clone(),
        })
    }

    /// Parses a condition.
    fn expression(&mut self, path: String, action: AuthorizationAction, text: &str) -> Option<Expression> {
        let expression = match source::parse(text) {
            Ok(expression) => expression,
            Err(SourceError { message, place }) => {
                let place = place.map_or_else(String::new, |(line, column)| format!("line {line}, column {column}: "));
                self.fault(Fault {
                    feature: Feature::Authorization,
                    code: "invalid-cel",
                    condition: format!("invalid CEL expression: {place}{message} ({path})"),
                    path,
                    message: format!("{place}{message}"),
                    fix: None,
                });
                return None;
            }
        };
        let reads = match cel::reads(&expression) {
            Ok(reads) => reads,
            Err(error) => {
                self.refused(Feature::Authorization, error, path);
                return None;
            }
        };
        if action == AuthorizationAction::Deny
            && let Some(name) = reads.needed.first()
        {
            let condition =
                format!("{path} also denies requests without the header {name:?}: it has no answer for them");
            self.build.notices.push(Notice {
                code: "cel-missing-header",
                path,
                message: format!(
                    "a request without the header {name:?} is denied too: the expression has no answer for it"
                ),
                fix: format!("if that is not meant, write \"'{name}' in request.headers && (...)\""),
                condition: Some(("MissingHeaderDenied", condition)),
            });
        }
        Some(expression)
    }

    /// The methods and the path of a rule.
    fn operation(&mut self, rule: &str, operation: Option<&Operation>) -> (Vec<String>, Option<PathMatch>) {
        let Some(operation) = operation else {
            return (Vec::new(), None);
        };
        if operation.methods.is_empty() && operation.path.is_none() {
            let path = format!("{rule}.operation");
            let message = "at least one of methods or path must be specified";
            self.fault(Fault {
                feature: Feature::Authorization,
                code: "empty-rule",
                condition: format!("{message} ({path})"),
                path,
                message: message.to_owned(),
                fix: Some("write methods or path, or remove operation".to_owned()),
            });
        }
        let mut methods = Vec::new();
        for (index, written) in operation.methods.iter().enumerate() {
            match method(*written) {
                Some(name) => methods.push(name.to_owned()),
                None => {
                    let path = format!("{rule}.operation.methods[{index}]");
                    self.unsupported_field(Feature::Authorization, path, "this method");
                }
            }
        }
        let path = operation.path.as_ref().and_then(|path| {
            let r#type = match path.r#type {
                PathMatchType::Exact => document::PathMatchType::Exact,
                PathMatchType::PathPrefix => document::PathMatchType::PathPrefix,
                PathMatchType::RegularExpression => document::PathMatchType::RegularExpression,
                PathMatchType::Unknown => {
                    let at = format!("{rule}.operation.path.type");
                    self.unsupported_field(Feature::Authorization, at, "this type of path");
                    return None;
                }
            };
            Some(PathMatch {
                r#type,
                value: path.value.clone(),
                invert: path.invert,
            })
        });
        (methods, path)
    }
}

/// A place.
fn place(location: &ClientIpGeoLocation) -> GeoLocation {
    GeoLocation {
        country: location.country.clone(),
        region: location.region.clone(),
        city: location.city.clone(),
        // What is no number of a system is refused as 0 is.
        asn: location.asn.map(|asn| u32::try_from(asn).unwrap_or_default()),
        isp: location.isp.clone(),
        anonymous: location.anonymous.as_ref().map(|anonymous| Anonymous {
            is_anonymous: anonymous.is_anonymous,
            is_vpn: anonymous.is_vpn,
            is_hosting: anonymous.is_hosting,
            is_tor: anonymous.is_tor,
            is_proxy: anonymous.is_proxy,
        }),
    }
}

/// Whether a rule can ask about tokens.
fn asks_tokens(rule: &Rule) -> bool {
    let names_tokens = |node: &Node| matches!(node, Node::Name(name) if name == "claims" || name == "metadata");
    let mut nodes = rule.cel.iter().flat_map(|Expression(nodes)| nodes);
    rule.jwt.is_some() || nodes.any(names_tokens)
}

/// The name of a method on the wire.
const fn method(method: HttpMethod) -> Option<&'static str> {
    Some(match method {
        HttpMethod::Get => "GET",
        HttpMethod::Head => "HEAD",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Delete => "DELETE",
        HttpMethod::Connect => "CONNECT",
        HttpMethod::Options => "OPTIONS",
        HttpMethod::Trace => "TRACE",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Unknown => return None,
    })
}
