//! A policy's spec as the document that a proxy enforces, or why it cannot be one.

mod api_key;
mod authorization;
mod cors;

use portcullis_api::{access_policy::Extension, security_policy::SecurityPolicySpec};
use portcullis_engine::{
    document::{self, Document, Refuse, Secrets},
    policy::{Policy, PolicyError},
};

use crate::{
    fault::{self, Fault, Feature, Notice},
    object::PolicyKind,
    reference::References,
};

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
        fault::message(&self.faults, on_gateway)
    }
}

/// A policy by kind and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Author<'a> {
    pub(crate) kind: PolicyKind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// Builds the document of a policy.
pub(crate) fn build(
    author: Author<'_>,
    spec: &SecurityPolicySpec,
    extension: Option<&Extension>,
    salt: String,
    references: &References<'_>,
) -> Build {
    let mut builder = Builder {
        author,
        references,
        build: Build::default(),
    };
    builder.build.document.version = document::VERSION;
    builder.build.document.policy = format!("{}/{}", author.namespace, author.name);
    builder.build.secrets.salt = salt;
    builder.unsupported(spec);
    if extension.is_some() {
        builder.fault(Fault {
            feature: Feature::Whole,
            code: "unsupported-kind",
            path: String::new(),
            message: "AccessPolicies are not enforced by this version".to_owned(),
            fix: Some("write a SecurityPolicy: until then the policy's routes answer 500".to_owned()),
            condition: "AccessPolicies are not enforced by this version".to_owned(),
        });
    }
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
    author: Author<'a>,
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
}

/// Secrets with a salt of the right form, for compiling parts.
fn salted() -> Secrets {
    Secrets {
        salt: "0".repeat(64),
        ..Secrets::default()
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
