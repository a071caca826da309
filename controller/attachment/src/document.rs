//! A SecurityPolicy's spec as the document that a proxy enforces, or why it cannot be one.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portcullis_api::security_policy::{
    ApiKeyAuth, Authorization, AuthorizationAction, AuthorizationRule, Cors, SecurityPolicySpec,
};
use portcullis_engine::{
    document::{self, Action, ApiClient, ApiKey, Document, KeySource, Refuse, Rule, Secrets},
    policy::{Policy, PolicyError},
};
use sha2::{Digest, Sha256};

use crate::{
    object,
    reference::{References, entries},
};

/// The part of a policy that a fault belongs to, in the order in which Envoy Gateway reports them on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// What fails before any feature is looked at.
    Whole,
    BasicAuth,
    ApiKeyAuth,
    Authorization,
    ExtAuth,
    Oidc,
    Jwt,
    Cors,
    Csrf,
}

impl Feature {
    /// The order in which Envoy Gateway reports them on a Gateway.
    const ON_GATEWAY: [Self; 9] = [
        Self::Whole,
        Self::Jwt,
        Self::Oidc,
        Self::BasicAuth,
        Self::ApiKeyAuth,
        Self::Authorization,
        Self::ExtAuth,
        Self::Cors,
        Self::Csrf,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::BasicAuth => "BasicAuth: ",
            Self::ApiKeyAuth => "APIKeyAuth: ",
            Self::Authorization => "Authorization: ",
            Self::ExtAuth => "ExtAuth: ",
            Self::Oidc => "OIDC: ",
            Self::Jwt => "JWT: ",
            Self::Cors => "CORS: ",
            Self::Csrf => "CSRF: ",
        }
    }
}

/// Why a policy cannot be enforced whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) feature: Feature,
    pub(crate) code: &'static str,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
    /// The text for the condition; without the feature's name.
    pub(crate) condition: String,
}

/// What is odd about a policy that is enforced nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) code: &'static str,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) fix: String,
    /// The reason and the message of a Warning condition, if it deserves one.
    pub(crate) condition: Option<(&'static str, String)>,
}

/// A policy's document with everything that was found on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Build {
    pub(crate) document: Document,
    pub(crate) secrets: Secrets,
    /// If there are any, the document must not be delivered: [`Build::refusal`] must.
    pub(crate) faults: Vec<Fault>,
    pub(crate) notices: Vec<Notice>,
}

impl Build {
    /// The document that refuses every request in place of a policy, with the policy's CORS if that is valid: browsers
    /// then show the 500 instead of an opaque failure.
    pub(crate) fn refusal(&self) -> (Document, Secrets) {
        let document = Document {
            version: document::VERSION,
            policy: self.document.policy.clone(),
            refuse: Some(Refuse::PolicyInvalid),
            cors: self.document.cors.clone(),
            ..Document::default()
        };
        let secrets = Secrets {
            salt: self.secrets.salt.clone(),
            ..Secrets::default()
        };
        (document, secrets)
    }

    /// The message of `Accepted=False`, reason `Invalid`, in Envoy Gateway's form.
    pub(crate) fn message(&self, on_gateway: bool) -> String {
        message(&self.faults, on_gateway)
    }
}

impl Fault {
    const SCHEMA: &str = "schema";

    /// The fault of a policy that could not be read whole; whoever found that reports it.
    pub(crate) fn of_schema(message: &str) -> Self {
        Self {
            feature: Feature::Whole,
            code: Self::SCHEMA,
            path: String::new(),
            message: message.to_owned(),
            fix: None,
            condition: message.to_owned(),
        }
    }

    pub(crate) fn is_of_schema(&self) -> bool {
        self.code == Self::SCHEMA
    }
}

const MESSAGE_LIMIT: usize = 32768;
const TRUNCATED: &str = " (message truncated).";

fn message(faults: &[Fault], on_gateway: bool) -> String {
    let mut features = Feature::ON_GATEWAY;
    if !on_gateway {
        features.sort_unstable();
    }
    let lines: Vec<String> = features
        .into_iter()
        .filter_map(|feature| {
            let fault = faults.iter().find(|fault| fault.feature == feature)?;
            // Envoy Gateway leaves the prefix out there.
            let bare = on_gateway && feature == Feature::Authorization;
            let prefix = if bare { "" } else { feature.prefix() };
            Some(format!("{prefix}{}", fault.condition))
        })
        .collect();
    sentence(&lines.join("\n"))
}

/// Makes a message of an error's text: first letter in upper case, a full stop at the end, at most 32768 bytes.
pub(crate) fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let mut sentence: String = rest
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .collect();
    sentence.push_str(rest.as_str());
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    limited(sentence)
}

/// Cuts a condition's message to what Kubernetes admits.
pub(crate) fn limited(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let end = message.floor_char_boundary(MESSAGE_LIMIT - TRUNCATED.len());
        message.truncate(end);
        message.push_str(TRUNCATED);
    }
    message
}

/// Builds the document of a policy.
pub(crate) fn build(
    metadata: &ObjectMeta,
    spec: &SecurityPolicySpec,
    salt: String,
    references: &References<'_>,
) -> Build {
    let mut builder = Builder {
        namespace: object::namespace(metadata),
        name: object::name(metadata),
        references,
        build: Build::default(),
    };
    builder.build.document.version = document::VERSION;
    builder.build.document.policy = format!("{}/{}", builder.namespace, builder.name);
    builder.build.secrets.salt = salt;
    builder.unsupported(spec);
    if let Some(cors) = &spec.cors {
        builder.cors(cors);
    }
    if let Some(api_key) = &spec.api_key_auth {
        builder.api_key(api_key);
    }
    if let Some(authorization) = &spec.authorization {
        builder.authorization(authorization);
    }
    builder.build
}

struct Builder<'a> {
    namespace: &'a str,
    name: &'a str,
    references: &'a References<'a>,
    build: Build,
}

impl Builder<'_> {
    fn fault(&mut self, fault: Fault) {
        self.build.faults.push(fault);
    }

    fn unsupported_field(&mut self, feature: Feature, path: String, what: &str) {
        self.fault(Fault {
            feature,
            code: "unsupported-field",
            message: format!("{what} is not enforced by this version"),
            fix: Some("remove it: until then the policy's routes answer 500".to_owned()),
            condition: format!("{path} is not enforced by this version"),
            path,
        });
    }

    fn unsupported(&mut self, spec: &SecurityPolicySpec) {
        let fields = [
            (spec.target_selectors.is_empty(), Feature::Whole, "targetSelectors"),
            (spec.merge_type.is_none(), Feature::Whole, "mergeType"),
            (spec.csrf.is_none(), Feature::Csrf, "csrf"),
            (spec.basic_auth.is_none(), Feature::BasicAuth, "basicAuth"),
            (spec.jwt.is_none(), Feature::Jwt, "jwt"),
            (spec.oidc.is_none(), Feature::Oidc, "oidc"),
            (spec.ext_auth.is_none(), Feature::ExtAuth, "extAuth"),
        ];
        for (absent, feature, field) in fields {
            if !absent {
                self.unsupported_field(feature, format!("spec.{field}"), field);
            }
        }
    }

    /// A part of the document as a whole one of this policy.
    fn labelled(&self, part: &Document) -> Document {
        Document {
            version: document::VERSION,
            policy: self.build.document.policy.clone(),
            ..part.clone()
        }
    }

    /// Compiles a part of the document as the proxy will, and records what it refuses.
    fn compile(&mut self, feature: Feature, part: &Document, path: impl Fn(String) -> String) -> bool {
        match Policy::compile(&self.labelled(part), &salted()) {
            Ok(_) => true,
            Err(error) => {
                let path = path(format!("spec.{}", error.path));
                self.refused(feature, error, path);
                false
            }
        }
    }

    fn refused(&mut self, feature: Feature, error: PolicyError, path: String) {
        let PolicyError { code, message, fix, .. } = error;
        let fix = fix.or_else(|| {
            let fix = match code {
                "invalid-cidr" => {
                    "write an address, a slash and a prefix length, as in \"10.0.0.0/8\" or \"2001:db8::/32\""
                }
                "invalid-origin" => "write scheme, host and perhaps a port, as in \"https://app.example.com\"",
                "invalid-method" => "write a method, as in \"GET\", or \"*\"",
                "invalid-header-name" => "write a header's name, as in \"x-api-key\"",
                "reserved-header-name" => "choose another name, as in \"x-client-id\"",
                "invalid-cookie-name" => "write a cookie's name: letters, digits, - and _",
                "invalid-param-name" => "write a parameter's name, as in \"key\"",
                "invalid-client-id" => "rename the entry of the Secret",
                "invalid-rule-name" => "write 1 to 253 printable characters",
                "no-key-source" => "write at least one entry, as in headers: [x-api-key]",
                "too-many" => "split the policy over several routes or rules",
                _ => return None,
            };
            Some(fix.to_owned())
        });
        self.fault(Fault {
            feature,
            code,
            condition: format!("{message} ({path})"),
            path,
            message,
            fix,
        });
    }

    fn cors(&mut self, cors: &Cors) {
        let max_age = match cors.max_age.as_deref().map(seconds) {
            Some(None) => {
                let written = cors.max_age.clone().unwrap_or_default();
                self.fault(Fault {
                    feature: Feature::Cors,
                    code: "invalid-duration",
                    path: "spec.cors.maxAge".to_owned(),
                    message: format!("{written:?} is not a duration"),
                    fix: Some("write \"10m\" or \"1h30m\"".to_owned()),
                    condition: format!("{written:?} is not a duration (spec.cors.maxAge)"),
                });
                return;
            }
            Some(seconds) => seconds,
            None => None,
        };
        let part = document::Cors {
            allow_origins: cors.allow_origins.clone(),
            allow_methods: cors.allow_methods.clone(),
            allow_headers: cors.allow_headers.clone(),
            expose_headers: cors.expose_headers.clone(),
            max_age,
            allow_credentials: cors.allow_credentials.unwrap_or_default(),
        };
        let alone = Document {
            cors: Some(part.clone()),
            ..Document::default()
        };
        if !self.compile(Feature::Cors, &alone, |path| path) {
            return;
        }
        if part.allow_credentials
            && let Some(index) = part.allow_origins.iter().position(|origin| is_any_host(origin))
        {
            let origin = part.allow_origins.get(index).cloned().unwrap_or_default();
            self.build.notices.push(Notice {
                code: "cors-wildcard-credentials",
                path: format!("spec.cors.allowOrigins[{index}]"),
                message: format!("{origin:?} names no host, so origins that only it covers get no credentials"),
                fix: "list the origins that may send credentials, or leave out allowCredentials".to_owned(),
                condition: Some((
                    "WildcardCredentials",
                    format!(
                        "spec.cors.allowCredentials has no effect for origins that only {origin:?} covers, because it names no host"
                    ),
                )),
            });
        }
        self.build.document.cors = Some(part);
    }

    fn api_key(&mut self, auth: &ApiKeyAuth) {
        let before = self.build.faults.len();
        let mut extract_from = Vec::new();
        let mut places = Vec::new();
        for (index, entry) in auth.extract_from.iter().enumerate() {
            let kinds = [&entry.headers, &entry.params, &entry.cookies];
            if kinds.iter().filter(|names| !names.is_empty()).count() != 1 {
                self.fault(Fault {
                    feature: Feature::Whole,
                    code: "invalid-key-source",
                    path: format!("spec.apiKeyAuth.extractFrom[{index}]"),
                    message: "exactly one of headers, params, or cookies must be specified".to_owned(),
                    fix: Some("write one entry for each kind".to_owned()),
                    condition: "Invalid SecurityPolicy: only one of headers, params or cookies must be specified"
                        .to_owned(),
                });
            }
            let headers = entry.headers.iter().cloned().map(KeySource::Header);
            let params = entry.params.iter().cloned().map(KeySource::Param);
            let cookies = entry.cookies.iter().cloned().map(KeySource::Cookie);
            extract_from.extend(headers.chain(params).chain(cookies));
            for (kind, names) in ["headers", "params", "cookies"].into_iter().zip(kinds) {
                let path = format!("spec.apiKeyAuth.extractFrom[{index}].{kind}");
                places.extend((0..names.len()).map(|at| format!("{path}[{at}]")));
            }
        }
        let clients = self.clients(auth);
        if self.build.faults.len() != before {
            return;
        }
        let part = ApiKey {
            extract_from,
            forward_client_id_header: auth.forward_client_id_header.clone(),
            sanitize: auth.sanitize.unwrap_or_default(),
        };
        let alone = Document {
            api_key: Some(part.clone()),
            ..Document::default()
        };
        let secrets = Secrets {
            api_keys: clients,
            ..salted()
        };
        // A document's sources are one list: find which of the policy's is at fault.
        let place = |path: String| {
            let faulty = part.extract_from.iter().position(|source| {
                let single = ApiKey {
                    extract_from: vec![source.clone()],
                    forward_client_id_header: None,
                    sanitize: false,
                };
                let single = Document {
                    api_key: Some(single),
                    ..alone.clone()
                };
                Policy::compile(&self.labelled(&single), &salted()).is_err()
            });
            let faulty = faulty.filter(|_| path == "spec.apiKeyAuth.extractFrom");
            faulty.and_then(|index| places.get(index)).cloned().unwrap_or(path)
        };
        if let Err(error) = Policy::compile(&self.labelled(&alone), &secrets) {
            let path = place(format!("spec.{}", error.path));
            self.refused(Feature::ApiKeyAuth, error, path);
        } else {
            self.build.document.api_key = Some(part);
            self.build.secrets.api_keys = secrets.api_keys;
        }
    }

    /// The clients of all credential Secrets by id; the first Secret that holds an id wins.
    fn clients(&mut self, auth: &ApiKeyAuth) -> Vec<ApiClient> {
        let mut clients: BTreeMap<String, String> = BTreeMap::new();
        let mut owners: HashMap<String, String> = HashMap::new();
        for (index, reference) in auth.credential_refs.iter().enumerate() {
            let path = format!("spec.apiKeyAuth.credentialRefs[{index}]");
            let secret = match self.references.secret(self.namespace, reference) {
                Ok(secret) => secret,
                Err(unresolved) => {
                    self.fault(Fault {
                        feature: Feature::ApiKeyAuth,
                        code: unresolved.code,
                        path,
                        condition: unresolved.message.clone(),
                        message: unresolved.message,
                        fix: Some(unresolved.fix),
                    });
                    continue;
                }
            };
            let at = format!(
                "{}/{}",
                object::namespace(&secret.metadata),
                object::name(&secret.metadata)
            );
            for (id, key) in entries(secret) {
                if clients.contains_key(id) {
                    continue;
                }
                if key.is_empty() {
                    self.fault(Fault {
                        feature: Feature::ApiKeyAuth,
                        code: "empty-api-key",
                        path: path.clone(),
                        message: format!("the key of client {id:?} in Secret {at} is empty"),
                        fix: Some("give it a value or remove the entry".to_owned()),
                        condition: format!("empty API key for client {id} in secret {at}"),
                    });
                    continue;
                }
                let digest = hex(&Sha256::digest(key));
                if let Some(owner) = owners.get(&digest) {
                    let message = format!("clients {owner:?} and {id:?} have the same key");
                    self.fault(Fault {
                        feature: Feature::ApiKeyAuth,
                        code: "duplicate-api-key",
                        path: path.clone(),
                        message,
                        fix: Some("give every client a key of its own".to_owned()),
                        condition: "duplicated API key".to_owned(),
                    });
                    continue;
                }
                owners.insert(digest.clone(), id.to_owned());
                clients.insert(id.to_owned(), digest);
            }
        }
        if clients.is_empty()
            && !self
                .build
                .faults
                .iter()
                .any(|fault| fault.feature == Feature::ApiKeyAuth)
        {
            self.build.notices.push(Notice {
                code: "no-api-key",
                path: "spec.apiKeyAuth.credentialRefs".to_owned(),
                message: "no Secret holds a key, so every request is refused".to_owned(),
                fix: "refer to a Secret whose entries are client ids with their keys".to_owned(),
                condition: None,
            });
        }
        clients
            .into_iter()
            .map(|(id, sha256)| ApiClient { id, sha256 })
            .collect()
    }

    fn authorization(&mut self, authorization: &Authorization) {
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
                    "securitypolicy/{}/{}/authorization/rule/{index}",
                    self.namespace, self.name
                )
            }),
            action: if rule.action == AuthorizationAction::Allow {
                Action::Allow
            } else {
                Action::Deny
            },
            client_cidrs,
        })
    }
}

/// Secrets with a salt of the right form, for compiling parts.
fn salted() -> Secrets {
    Secrets {
        salt: "0".repeat(64),
        ..Secrets::default()
    }
}

/// Whether an origin stands for every host of a scheme, or for everything.
fn is_any_host(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host == "*" || host.starts_with("*:")
}

/// Parses `1h30m` and its like (Gateway API `Duration`): 1 to 4 groups of 1 to 5 digits with h, m, s or ms; whole seconds.
fn seconds(duration: &str) -> Option<u64> {
    let mut milliseconds: u64 = 0;
    let mut rest = duration;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let (unit, after) = if let Some(after) = after.strip_prefix("ms") {
            (1, after)
        } else if let Some(after) = after.strip_prefix('s') {
            (1000, after)
        } else if let Some(after) = after.strip_prefix('m') {
            (60_000, after)
        } else {
            (3_600_000, after.strip_prefix('h')?)
        };
        milliseconds += number * unit;
        rest = after;
        if rest.is_empty() {
            return Some(milliseconds / 1000);
        }
    }
    None
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10m", Some(600))]
    #[case("1h30m", Some(5400))]
    #[case("1500ms", Some(1))]
    #[case("0s", Some(0))]
    #[case("99999h", Some(359_996_400))]
    #[case("1h1m1s1ms", Some(3661))]
    #[case("1h1m1s1ms1ms", None)]
    #[case("100000s", None)]
    #[case("10", None)]
    #[case("1d", None)]
    #[case("-1s", None)]
    #[case("1.5h", None)]
    #[case("", None)]
    fn reads_durations(#[case] written: &str, #[case] expected: Option<u64>) {
        assert_eq!(seconds(written), expected);
    }

    #[rstest]
    #[case("*", true)]
    #[case("https://*", true)]
    #[case("https://*:8443", true)]
    #[case("https://*.example.com", false)]
    #[case("https://example.com", false)]
    fn knows_origins_that_cover_every_host(#[case] origin: &str, #[case] expected: bool) {
        assert_eq!(is_any_host(origin), expected);
    }

    #[test]
    fn cuts_long_messages_between_characters() {
        let long = sentence(&"ü".repeat(MESSAGE_LIMIT));
        assert!(long.len() <= MESSAGE_LIMIT);
        assert!(long.ends_with("ü (message truncated)."));
    }
}
