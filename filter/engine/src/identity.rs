//! Who a request comes from, once verified, and the headers that tell a backend so.

use std::sync::Arc;

use crate::{
    api_key::KnownClient,
    basic_auth::KnownUser,
    http::{
        RequestHead,
        header::{is_envoy, is_framing, is_token, is_told_by_proxy, same_to_backend, trim},
    },
    jwt::KnownToken,
    policy::{PolicyError, told},
    step::{HeaderEdit, Text},
};

/// The longest name of a header that carries an identity, in bytes.
const MAX_NAME: usize = 256;

/// A verified identity. Only a check that succeeded makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The identity of an API client whose key was found.
    pub(crate) fn of_api_client(client: KnownClient) -> Self {
        Self(client.into_id())
    }

    /// The identity of a user whose password was right.
    pub(crate) fn of_user(user: KnownUser) -> Self {
        Self(user.into_name())
    }

    /// The identity of the subject of a verified token; `None` for a token without one that can be told.
    pub(crate) fn of_token(token: &KnownToken) -> Option<Self> {
        token.subject().map(Self)
    }

    /// Returns the identity's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The headers that tell a backend a verified identity, with their values.
#[derive(Debug, Default)]
pub(crate) struct Forwarded(Vec<(Text, Text)>);

impl Forwarded {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a header, by its lower-case name.
    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_vec().into(), value.to_vec().into()));
    }

    /// Returns the value under a name, `_` taken for `-`.
    pub(crate) fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let same = |(set, _): &&(Text, Text)| same_to_backend(set, name);
        self.0.iter().find(same).map(|(_, value)| &**value)
    }

    /// Takes the headers as edits.
    pub(crate) fn take_edits(&mut self) -> impl Iterator<Item = HeaderEdit> {
        self.0.drain(..).map(|(name, value)| HeaderEdit::Set(name, value))
    }
}

/// The request headers that a policy sets from a verified identity, and that a client must not be able to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdentityHeaders {
    names: Vec<Box<[u8]>>,
}

impl IdentityHeaders {
    /// Adds a header, by its lower-case name.
    pub(crate) fn insert(&mut self, name: &[u8]) {
        self.names.push(name.into());
    }

    /// Adds those of another policy of the same requests.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.names.extend_from_slice(&others.names);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Tells whether a header that was sent reaches a backend under one of the names, `_` taken for `-` too.
    pub(crate) fn contains(&self, sent: &[u8]) -> bool {
        self.names.iter().any(|name| same_to_backend(name, sent))
    }

    /// Iterates over the names as backends read them: `_` is `-`.
    pub(crate) fn backend_names(&self) -> impl Iterator<Item = Vec<u8>> {
        let read = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
        self.names.iter().map(move |name| name.iter().map(read).collect())
    }

    /// Takes the names out of `Connection`, by which a client could make a later hop remove the verified header, and with
    /// them those of the headers by which the proxy tells where the request came from.
    ///
    /// `Connection` reaches the backend in a request for an upgrade only.
    pub(crate) fn clean_connection(&self, head: &RequestHead, edits: &mut Vec<HeaderEdit>) {
        let options = || {
            head.values(b"connection")
                .flat_map(|line| line.split(|byte| *byte == b','))
                .map(trim)
        };
        let guarded = |option: &[u8]| is_told_by_proxy(option) || self.contains(option);
        if !options().any(guarded) {
            return;
        }
        let mut kept = Vec::new();
        for option in options().filter(|option| !option.is_empty() && !guarded(option)) {
            if !kept.is_empty() {
                kept.extend_from_slice(b", ");
            }
            kept.extend_from_slice(option);
        }
        edits.push(if kept.is_empty() {
            HeaderEdit::remove("connection")
        } else {
            HeaderEdit::set("connection", kept)
        });
    }
}

/// Compiles the name of a header that carries an identity to the backend, to lower case.
pub(crate) fn compile_forward(path: &str, name: &str) -> Result<Box<[u8]>, PolicyError> {
    let bytes = name.as_bytes();
    if !is_token(bytes) || bytes.len() > MAX_NAME {
        let message = told!("{name:?} is not a header name");
        return Err(PolicyError::new(told!("{path}"), "invalid-header-name", message));
    }
    if is_framing(bytes) || is_envoy(bytes) {
        let message = told!("{name:?} frames the request or steers the proxy; it cannot carry an id");
        return Err(PolicyError::new(told!("{path}"), "reserved-header-name", message));
    }
    Ok(bytes.to_ascii_lowercase().into())
}
