//! Policies compiled for deciding, and their decoding from what the proxy delivers.

use std::sync::Arc;

use serde::Deserialize;

use crate::{
    authentication::Authentication,
    authorization::Authorization,
    cors::Cors,
    csrf::Csrf,
    denial::Reason,
    document::{self, Document, Refuse, Secrets, read::read},
    identity::IdentityHeaders,
    seal,
};

/// The longest policy name, in bytes: a namespace, a slash and a name.
const MAX_NAME: usize = 512;
/// The longest salt, in hex digits.
const MAX_SALT: usize = 256;

/// One policy, compiled: immutable, shared by every request of its routes. See `tests/limits.rs` for its cost.
#[derive(Debug)]
pub struct Policy {
    name: Box<str>,
    /// What tells this policy from every other one, its secrets included: under this name a worker remembers.
    pub(crate) id: Box<str>,
    pub(crate) refuse: Option<Refuse>,
    pub(crate) cors: Option<Cors>,
    pub(crate) csrf: Option<Csrf>,
    pub(crate) authentication: Authentication,
    pub(crate) authorization: Option<Authorization>,
    /// Those of the baseline too.
    pub(crate) identity_headers: IdentityHeaders,
    /// A policy that must admit the request as well.
    pub(crate) baseline: Option<Box<Self>>,
    /// A policy that is evaluated and changes nothing.
    pub(crate) shadow: Option<Arc<Self>>,
}

/// Why a document cannot be enforced. Its author is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct PolicyError {
    /// The field at fault, as in `SecurityPolicy.spec`: `authorization.rules[0].principal.clientCIDRs[1]`; empty for
    /// the whole document.
    pub path: String,
    /// What is wrong, as a stable name in kebab case.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
    /// What to do about it, where that can be told.
    pub fix: Option<String>,
}

impl PolicyError {
    pub(crate) const fn new(path: String, code: &'static str, message: String) -> Self {
        Self {
            path,
            code,
            message,
            fix: None,
        }
    }

    pub(crate) fn fix(self, fix: String) -> Self {
        Self { fix: Some(fix), ..self }
    }
}

/// Whether this build tells what is wrong with a policy. A filter does not: the controller told its author before.
pub(crate) const TELLS: bool = cfg!(any(not(target_family = "wasm"), feature = "cel-source"));

/// Writes a text for the author of a policy, as `format!` does; in a filter, where nobody reads it, an empty one.
macro_rules! told {
    ($($text:tt)+) => {
        if $crate::policy::TELLS {
            ::std::fmt::format(::std::format_args!($($text)+))
        } else {
            ::std::string::String::new()
        }
    };
}
pub(crate) use told;

/// Refuses a list that is longer than its cap: the caps keep compiling a document under five milliseconds.
pub(crate) fn at_most(path: &str, what: &str, count: usize, most: usize) -> Result<(), PolicyError> {
    if count <= most {
        return Ok(());
    }
    let message = told!("{count} {what} are more than the {most} that one policy may have");
    Err(PolicyError::new(told!("{path}"), "too-many", message))
}

impl Policy {
    /// Compiles a document with its secrets; the whole validation of a policy.
    ///
    /// # Errors
    /// The first field that cannot be enforced as written.
    pub fn compile(document: &Document, secrets: &Secrets) -> Result<Self, PolicyError> {
        Self::compile_as(seal::identity(document, secrets), document, secrets)
    }

    fn compile_as(id: String, document: &Document, secrets: &Secrets) -> Result<Self, PolicyError> {
        let whole = |code, message| PolicyError::new(String::new(), code, message);
        if document.version != document::VERSION {
            let message = told!(
                "version {} of the document is not {}",
                document.version,
                document::VERSION
            );
            return Err(whole("unsupported-version", message));
        }
        if !is_policy_name(&document.policy) {
            return Err(whole(
                "invalid-policy-name",
                told!("{:?} is not a policy's name", document.policy),
            ));
        }
        if secrets.salt.len() > MAX_SALT || !secrets.salt.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(whole(
                "invalid-salt",
                told!("the salt is not up to {MAX_SALT} hex digits"),
            ));
        }
        let authentication = Authentication::compile(document, secrets)?;
        let baseline = nested("baseline", document.baseline.as_deref(), secrets.baseline.as_deref())?;
        let shadow = nested("shadow", document.shadow.as_deref(), secrets.shadow.as_deref())?;
        let mut identity_headers = IdentityHeaders::default();
        authentication.identity_headers(&mut identity_headers);
        if let Some(baseline) = &baseline {
            identity_headers.extend(&baseline.identity_headers);
        }
        Ok(Self {
            name: document.policy.as_str().into(),
            id: id.into(),
            refuse: document.refuse,
            cors: document.cors.as_ref().map(Cors::compile).transpose()?,
            csrf: document.csrf.as_ref().map(Csrf::compile).transpose()?,
            authorization: document
                .authorization
                .as_ref()
                .map(|rules| Authorization::compile(rules, authentication.jwt()))
                .transpose()?,
            authentication,
            identity_headers,
            baseline: baseline.map(Box::new),
            shadow: shadow.map(Arc::new),
        })
    }

    /// Returns the policy's identity, [`Document::policy`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An upper bound for what the compiled regular expressions take, those of the policies in it included, in bytes.
    #[must_use]
    pub fn regex_bytes(&self) -> usize {
        let own = self.authorization.as_ref().map_or(0, Authorization::regex_bytes);
        let others = [self.baseline.as_deref(), self.shadow.as_deref()];
        own + others
            .iter()
            .flatten()
            .map(|policy| policy.regex_bytes())
            .sum::<usize>()
    }

    /// Tells whether [`crate::transaction::Transaction::on_request_trailers`] can find something to remove.
    #[must_use]
    pub fn guards_trailers(&self) -> bool {
        !self.identity_headers.is_empty()
    }

    /// Iterates over the names of the headers that only this policy sets and no client can, in lower case and with `-` for `_`.
    pub fn verified_headers(&self) -> impl Iterator<Item = Vec<u8>> {
        self.identity_headers.backend_names()
    }

    /// Tells whether [`crate::transaction::Transaction::on_response`] can have something to say.
    #[must_use]
    pub const fn edits_responses(&self) -> bool {
        self.cors.is_some()
    }
}

/// Compiles a policy that stands in another one, as its `name`. Its identity is its own, so that what a worker remembers of a
/// baseline serves all routes that it covers.
fn nested(name: &str, document: Option<&Document>, secrets: Option<&Secrets>) -> Result<Option<Policy>, PolicyError> {
    let error = |code, message: &str| PolicyError::new(told!("{name}"), code, told!("{message}"));
    let document = match (document, secrets) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(error(
                "stray-secrets",
                "secrets come without the policy that they are for",
            ));
        }
        (Some(document), _) => document,
    };
    if document.baseline.is_some() || document.shadow.is_some() {
        return Err(error("nested-policy", "it cannot hold another policy"));
    }
    if name == "baseline" && document.cors.is_some() {
        return Err(error(
            "baseline-cors",
            "it cannot hold CORS: who may read an answer is the route's to say",
        ));
    }
    let none = Secrets::default();
    let secrets = secrets.unwrap_or(&none);
    Policy::compile(document, secrets).map(Some).map_err(|at| PolicyError {
        path: told!("{}", format!("{name}.{}", at.path).trim_end_matches('.')),
        ..at
    })
}

/// Decodes and compiles what was delivered under the name `h`.
///
/// # Errors
/// The reason to refuse every request of the route: [`Reason::PolicyMismatch`] when the bytes do not hash to `h`,
/// [`Reason::FilterTooOld`] when they are of a newer version, else [`Reason::PolicyUndecodable`].
pub fn decode(h: &str, document: &[u8], secrets: &[u8]) -> Result<Policy, Reason> {
    if document.len().saturating_add(secrets.len()) > document::MAX_BYTES {
        return Err(Reason::PolicyUndecodable);
    }
    if seal::hash(document, secrets) != h {
        return Err(Reason::PolicyMismatch);
    }
    let document: Document = read(document).map_err(|_| too_old_or_undecodable(document))?;
    if document.version > document::VERSION {
        return Err(Reason::FilterTooOld);
    }
    let secrets: Secrets = read(secrets).map_err(|_| Reason::PolicyUndecodable)?;
    Policy::compile_as(h.to_owned(), &document, &secrets).map_err(|_| Reason::PolicyUndecodable)
}

/// A document that cannot be read may be a newer one: its version can be read, whatever else it holds.
fn too_old_or_undecodable(document: &[u8]) -> Reason {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    match read::<Version>(document) {
        Ok(Version { version }) if version > document::VERSION => Reason::FilterTooOld,
        _ => Reason::PolicyUndecodable,
    }
}

/// Only what can stand in a metric's tag.
fn is_policy_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/' | b'_'))
}
