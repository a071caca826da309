//! A policy's spec as the document that a proxy enforces, or why it cannot be one.

mod access;
mod api_key;
mod authorization;
mod basic_auth;
mod compose;
mod cors;
mod csrf;
mod duration;
mod jwt;
mod key_set;
mod merge;
mod names;
mod remote_keys;

use std::sync::Arc;

use portcullis_api::{access_policy::Extension, security_policy::SecurityPolicySpec};
use portcullis_engine::{
    document::{self, Document, Refuse, Secrets},
    policy::{Policy, PolicyError},
};

pub(crate) use self::{
    compose::{Part, compose},
    merge::{Source, merged},
};
use crate::{
    fault::{self, Fault, Feature, Notice},
    key_server::KeyServer,
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
    /// The servers of keys that the document names.
    pub(crate) key_servers: Vec<Arc<KeyServer>>,
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

impl Author<'_> {
    /// The policy for a message.
    fn title(&self) -> String {
        format!("{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// Builds the document of a policy.
pub(crate) fn build(
    author: Author<'_>,
    spec: &SecurityPolicySpec,
    extension: Option<&Extension>,
    salt: String,
    references: &References<'_>,
) -> Build {
    let owners = Owners {
        basic_auth: author,
        api_key: author,
        jwt: author,
        rules: author,
        expiry: author,
        tokens: author,
    };
    built(author, owners, spec, extension, salt, references)
}

/// Whose namespace a part's references are followed from, and whose name its rules bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owners<'a> {
    basic_auth: Author<'a>,
    api_key: Author<'a>,
    jwt: Author<'a>,
    rules: Author<'a>,
    expiry: Author<'a>,
    tokens: Author<'a>,
}

fn built(
    author: Author<'_>,
    owners: Owners<'_>,
    spec: &SecurityPolicySpec,
    extension: Option<&Extension>,
    salt: String,
    references: &References<'_>,
) -> Build {
    let mut builder = Builder {
        author,
        owners,
        references,
        build: Build::default(),
    };
    builder.build.document.version = document::VERSION;
    builder.build.document.policy = format!("{}/{}", author.namespace, author.name);
    builder.build.secrets.salt = salt;
    builder.unsupported(spec);
    if let Some(cors) = &spec.cors {
        builder.cors(cors);
    }
    if let Some(csrf) = &spec.csrf {
        builder.csrf(csrf);
    }
    if let Some(basic_auth) = &spec.basic_auth {
        builder.basic_auth(basic_auth);
    }
    if let Some(api_key) = &spec.api_key_auth {
        builder.api_key(api_key);
    }
    if let Some(jwt) = &spec.jwt {
        let requirements = extension.map_or(&[][..], |extension| &extension.token_requirements);
        builder.jwt(jwt, requirements);
    }
    if let Some(authorization) = &spec.authorization {
        builder.authorization(authorization);
    }
    if let Some(extension) = extension {
        builder.extension(extension, spec);
    }
    builder.compile_whole();
    builder.build
}

struct Builder<'a> {
    author: Author<'a>,
    owners: Owners<'a>,
    references: &'a References<'a>,
    build: Build,
}

impl Builder<'_> {
    fn fault(&mut self, fault: Fault) {
        self.build.faults.push(fault);
    }

    fn unsupported_field(&mut self, feature: Feature, path: String, what: &str) {
        self.fault(Fault::unsupported_field(feature, path, what));
    }

    fn unsupported(&mut self, spec: &SecurityPolicySpec) {
        if let Some(ext_auth) = &spec.ext_auth
            && ext_auth.grpc.is_some()
            && ext_auth.http.is_some()
        {
            // Only a merge can bring both together.
            let message = "only one of grpc or http can be specified";
            self.fault(Fault {
                feature: Feature::ExtAuth,
                code: "invalid-combination",
                path: "spec.extAuth".to_owned(),
                message: message.to_owned(),
                fix: Some("use the one that the policy above uses".to_owned()),
                condition: message.to_owned(),
            });
        }
        let fields = [
            (spec.oidc.is_none(), Feature::Oidc, "oidc"),
            (spec.ext_auth.is_none(), Feature::ExtAuth, "extAuth"),
        ];
        for (absent, feature, field) in fields {
            if !absent {
                self.unsupported_field(feature, format!("spec.{field}"), field);
            }
        }
    }

    /// Compiles the document as a whole: what its parts say of each other.
    fn compile_whole(&mut self) {
        if !self.build.faults.is_empty() {
            return;
        }
        if let Err(error) = Policy::compile(&self.build.document, &self.build.secrets) {
            let feature = match error.path.split(['.', '[']).next() {
                Some("cors") => Feature::Cors,
                Some("csrf") => Feature::Csrf,
                Some("apiKeyAuth") => Feature::ApiKeyAuth,
                Some("basicAuth") => Feature::BasicAuth,
                Some("jwt") => Feature::Jwt,
                Some("authorization") => Feature::Authorization,
                _ => Feature::Whole,
            };
            let path = format!("spec.{}", error.path).trim_end_matches('.').to_owned();
            self.refused(feature, error, path);
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

    /// Secrets with a salt of the right form, and with the key sets of a part's providers.
    fn salted(&self, part: &Document) -> Secrets {
        let key_sets = part.jwt.as_ref().map(|_| self.build.secrets.key_sets.clone());
        Secrets {
            key_sets: key_sets.unwrap_or_default(),
            ..salted()
        }
    }

    /// Compiles a part of the document as the proxy will, and records what it refuses.
    fn compile(&mut self, feature: Feature, part: &Document, path: impl Fn(String) -> String) -> bool {
        match Policy::compile(&self.labelled(part), &self.salted(part)) {
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
                "invalid-geo-location" => {
                    "write what a database tells, as in {country: DE} or {anonymous: {isTor: true}}"
                }
                "invalid-origin" => "write scheme, host and perhaps a port, as in \"https://app.example.com\"",
                "invalid-method" => "write a method, as in \"GET\", or \"*\"",
                "invalid-header-name" => "write a header's name, as in \"x-api-key\"",
                "reserved-header-name" => "choose another name, as in \"x-client-id\"",
                "invalid-cookie-name" => "write a cookie's name: letters, digits, - and _",
                "duplicate-identity-header" => "give one of the two another header",
                "invalid-fraction" => "write numerator: 5 for 5 of 100",
                "invalid-param-name" => "write a parameter's name, as in \"key\"",
                "invalid-client-id" => "rename the entry of the Secret",
                "invalid-rule-name" => "write 1 to 253 printable characters",
                "no-provider" => "add the issuer of the tokens",
                "unknown-provider" => "name one of spec.jwt.providers",
                "invalid-key-set" => "write a JSON Web Key Set, as in {\"keys\": [{\"kty\": \"EC\", ...}]}",
                "no-usable-key" => {
                    "add a key of RSA with 2048 bits or more, of EC, Ed25519, or one of 32 secret bytes or more"
                }
                "invalid-issuer" | "invalid-audience" => "write 1 to 253 printable characters",
                "unknown-algorithm" => "write a name such as \"RS256\", \"ES256\" or \"EdDSA\"",
                "no-key-for-algorithms" => "list an algorithm that a key of the set is for",
                "zero-lifetime" => "write a second or more, as in \"1h\"",
                "invalid-value-prefix" => "write what stands before the token, as in \"Bearer \"",
                "invalid-claim-name" => "write a claim's name, as in \"email\" or \"realm_access.roles\"",
                "invalid-claim-values" => "write what the claim may be, as in values: [admin]",
                "empty-jwt-principal" => "write claims or scopes",
                "invalid-scope" => "write each scope by itself, as in scopes: [read, write]",
                "optional-and-fail-open" => "remove one of the two",
                "optional-alternative" => "remove jwt.optional and jwt.failOpen, or take jwt out of anyOf",
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
