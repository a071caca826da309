//! API key authentication (`SecurityPolicy.spec.apiKeyAuth`).
//!
//! Every configured source is read. A source that presents two different keys presents none that can be trusted, and
//! sources that name two different clients name nobody: both are refused, so that it never matters which one a proxy or
//! a backend would have taken. An unknown key in one source does not take away the known key in another.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{
    credential::{
        digest::{Digest256, DigestMap},
        source::{Presented, Source},
    },
    denial::Reason,
    document::{self, KeySource},
    host::Host,
    http::header::is_field_value,
    identity::{self, IdentityHeaders},
    policy::{PolicyError, at_most, told},
    request::Request,
};

/// The most places in which a key is looked for: bounds the digests of one request.
const MAX_SOURCES: usize = 32;
/// The most clients of one policy.
const MAX_CLIENTS: usize = 4096;

const EXTRACT_FROM: &str = "apiKeyAuth.extractFrom";
const CREDENTIALS: &str = "apiKeyAuth.credentialRefs";
const FORWARD: &str = "apiKeyAuth.forwardClientIDHeader";

/// Compiled API key authentication.
pub(crate) struct ApiKeys {
    sources: Vec<Source>,
    clients: Clients,
    forward: Option<Box<[u8]>>,
    sanitize: bool,
    challenge: &'static [u8],
}

/// Clients by the SHA-256 of their keys.
type Clients = DigestMap<Client>;

#[derive(Debug)]
struct Client {
    id: Arc<str>,
    /// In nanoseconds since 1970.
    not_after: Option<u64>,
}

/// The client of a presented key: proof that the key is one of the policy's.
#[derive(Debug)]
pub(crate) struct KnownClient(Arc<str>);

impl KnownClient {
    pub(crate) fn into_id(self) -> Arc<str> {
        self.0
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients: Vec<&str> = self.clients.values().map(|client| &*client.id).collect();
        f.debug_struct("ApiKeys")
            .field("sources", &self.sources)
            .field("clients", &clients)
            .finish_non_exhaustive()
    }
}

impl ApiKeys {
    pub(crate) fn compile(document: &document::ApiKey, clients: &[document::ApiClient]) -> Result<Self, PolicyError> {
        let sources = compile_sources(&document.extract_from)?;
        let forward = document
            .forward_client_id_header
            .as_deref()
            .map(|name| identity::compile_forward(FORWARD, name))
            .transpose()?;
        let bearer = sources
            .iter()
            .any(|source| matches!(source, Source::Header(name) if **name == *b"authorization"));
        Ok(Self {
            sources,
            clients: compile_clients(clients)?,
            forward,
            sanitize: document.sanitize,
            challenge: if bearer {
                b"Bearer realm=\"api\""
            } else {
                b"ApiKey realm=\"api\""
            },
        })
    }

    /// The value of `WWW-Authenticate` in a refusal (RFC 9110 §11.6.1).
    pub(crate) fn challenge(&self) -> &'static [u8] {
        self.challenge
    }

    /// The header that carries the client's id to the backend.
    pub(crate) fn forward(&self) -> Option<&[u8]> {
        self.forward.as_deref()
    }

    /// Finds the one client that the request's keys name, and whose key is still valid.
    pub(crate) fn authenticate(&self, request: &Request<'_, impl Host>) -> Result<KnownClient, Reason> {
        let mut presented = false;
        let mut found: Option<&Client> = None;
        for source in &self.sources {
            let client = match source.presented(request.head) {
                Presented::Nothing => continue,
                Presented::Different => return Err(Reason::ApiKeyUnknown),
                Presented::One(key) => spellings(source, &key).find_map(|key| self.clients.get(&digest(key))),
            };
            presented = true;
            match (found, client) {
                (Some(one), Some(other)) if one.id != other.id => return Err(Reason::ApiKeyUnknown),
                (None, Some(client)) => found = Some(client),
                _ => {}
            }
        }
        match found {
            Some(client) if client.is_expired(request.host)? => Err(Reason::ApiKeyExpired),
            Some(client) => Ok(KnownClient(Arc::clone(&client.id))),
            None if presented => Err(Reason::ApiKeyUnknown),
            None => Err(Reason::ApiKeyMissing),
        }
    }

    /// The sources that are removed from the request before it is forwarded.
    pub(crate) fn sanitized(&self) -> &[Source] {
        if self.sanitize { &self.sources } else { &[] }
    }

    /// Names the headers that only this policy may set.
    pub(crate) fn identity_headers(&self, names: &mut IdentityHeaders) {
        if let Some(forward) = &self.forward {
            names.insert(forward);
        }
    }
}

impl Client {
    /// Asks for the time only if the key ends to be valid.
    fn is_expired(&self, host: &impl Host) -> Result<bool, Reason> {
        match self.not_after {
            None => Ok(false),
            Some(not_after) => Ok(host.now().map_err(|_| Reason::HostFault)? >= not_after),
        }
    }
}

/// Iterates over the keys that a presented value may stand for: without its scheme, then as it is.
///
/// `Bearer ` is cut off any header because Envoy does so; in `Authorization`, where it is a scheme, whatever its case.
fn spellings<'k>(source: &Source, value: &'k [u8]) -> impl Iterator<Item = &'k [u8]> {
    let without_scheme = match source {
        Source::Header(name) if **name == *b"authorization" => value
            .split_first_chunk::<7>()
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token.trim_ascii_start()),
        Source::Header(_) => value.strip_prefix(b"Bearer "),
        Source::Param(_) | Source::Cookie(_) => None,
    };
    without_scheme.into_iter().chain([value])
}

fn digest(key: &[u8]) -> Digest256 {
    Sha256::digest(key).into()
}

fn compile_sources(sources: &[KeySource]) -> Result<Vec<Source>, PolicyError> {
    at_most(EXTRACT_FROM, "sources", sources.len(), MAX_SOURCES)?;
    if sources.is_empty() {
        let message = told!("a key must be looked for somewhere");
        return Err(PolicyError::new(told!("{EXTRACT_FROM}"), "no-key-source", message));
    }
    let sources = sources.iter();
    sources
        .map(|source| Source::compile(EXTRACT_FROM, source, "key"))
        .collect()
}

fn compile_clients(clients: &[document::ApiClient]) -> Result<Clients, PolicyError> {
    at_most(CREDENTIALS, "clients", clients.len(), MAX_CLIENTS)?;
    let error = |code, message| PolicyError::new(told!("{CREDENTIALS}"), code, message);
    let mut ids: Vec<&str> = clients.iter().map(|client| client.id.as_str()).collect();
    ids.sort_unstable();
    if let Some([id, _]) = ids.array_windows().find(|[one, other]| one == other) {
        return Err(error("duplicate-client-id", told!("client {id:?} is listed twice")));
    }
    let mut compiled = Clients::with_capacity_and_hasher(clients.len(), Default::default());
    let empty = digest(b"");
    for client in clients {
        let id = client.id.as_str();
        if id.is_empty() || id.len() > 253 || !is_field_value(id.as_bytes()) {
            return Err(error("invalid-client-id", told!("{id:?} cannot name a client")));
        }
        let Some(key) = from_hex(client.sha256.as_bytes()) else {
            return Err(error(
                "invalid-key-digest",
                told!("the key of client {id:?} is not a SHA-256 in hex"),
            ));
        };
        if key == empty {
            return Err(error("empty-api-key", told!("the key of client {id:?} is empty")));
        }
        let compiled_client = Client {
            id: id.into(),
            not_after: client.not_after.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        };
        if let Some(Client { id: other, .. }) = compiled.insert(key, compiled_client) {
            return Err(error(
                "duplicate-api-key",
                told!("clients {other:?} and {id:?} have the same key"),
            ));
        }
    }
    Ok(compiled)
}

/// Decodes 64 lower-case hex digits.
fn from_hex(text: &[u8]) -> Option<Digest256> {
    let (pairs, rest) = text.as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
