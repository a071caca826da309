//! JWT authentication (`SecurityPolicy.spec.jwt`).
//!
//! A token is read so strictly that it has one spelling and one meaning, is verified by a key of the provider that its issuer
//! names, and by an algorithm that this key is for. Every token of the provider in the request must verify.

pub mod algorithm;
mod cache;
pub mod claims;
#[cfg(feature = "software-signatures")]
pub mod compact;
mod der;
mod extract;
pub mod json;
pub mod jwk;
pub mod jws;
mod modular;
mod provider;
pub(crate) mod pss;
pub mod remote;
#[cfg(feature = "test-keys")]
pub mod signing;
#[cfg(feature = "software-signatures")]
pub mod software;
mod verify;

use std::{borrow::Cow, cell::OnceCell, sync::Arc};

use crate::{
    credential::source::{Presented, Source},
    denial::Reason,
    document,
    host::Host,
    http::{RequestHead, header::same_to_backend},
    identity::IdentityHeaders,
    policy::{PolicyError, told},
    request::Request,
    worker::Worker,
};
pub(crate) use cache::Tokens;
use jws::Jws;
use provider::{KeySets, Keys, Provider};
use remote::Why;
use verify::{Budget, Token};

const NANOSECONDS: u64 = 1_000_000_000;

/// Compiled JWT authentication.
#[derive(Debug)]
pub(crate) struct Jwt {
    providers: Vec<Provider>,
    key_sets: KeySets,
    optional: bool,
    fail_open: bool,
}

/// The verified token of a request: proof that a provider accepted it.
#[derive(Clone, Debug)]
pub(crate) struct KnownToken {
    provider: usize,
    token: Arc<Token>,
}

impl KnownToken {
    /// The place of the provider among the policy's.
    pub(crate) const fn provider(&self) -> usize {
        self.provider
    }

    pub(crate) fn claims(&self) -> &json::Object {
        self.token.claims()
    }

    /// `sub`, where it can name somebody.
    pub(crate) fn subject(&self) -> Option<Arc<str>> {
        self.token.subject()
    }
}

/// The tokens of one request, each once, and what they read as, once that was asked.
struct Presentation<'t> {
    texts: &'t [Cow<'t, [u8]>],
    read: Vec<OnceCell<Option<Jws<'t>>>>,
}

impl<'t> Presentation<'t> {
    fn jws(&self, place: usize) -> Option<&Jws<'t>> {
        let text = self.texts.get(place)?;
        self.read.get(place)?.get_or_init(|| Jws::parse(text)).as_ref()
    }
}

/// What the tokens of one request are verified with.
struct Verification<'t, 'r, H> {
    policy: &'r str,
    tokens: Presentation<'t>,
    host: &'r H,
    /// In seconds since 1970.
    now: u64,
    budget: Budget,
}

impl Jwt {
    /// The value of `WWW-Authenticate` for a request whose token has not the scopes.
    pub(crate) const INSUFFICIENT_SCOPE: &'static [u8] = b"Bearer realm=\"api\", error=\"insufficient_scope\"";

    pub(crate) fn compile(document: &document::Jwt, key_sets: &[document::KeySet]) -> Result<Self, PolicyError> {
        let error = |path: &str, code, message: &str| Err(PolicyError::new(told!("{path}"), code, told!("{message}")));
        if document.optional && document.fail_open {
            let message = "optional and failOpen cannot both be set: failOpen lets in whatever optional does";
            return error("jwt.failOpen", "optional-and-fail-open", message);
        }
        let key_sets = KeySets::compile(key_sets, document)?;
        Ok(Self {
            providers: Provider::compile_all(&document.providers, &key_sets)?,
            key_sets,
            optional: document.optional,
            fail_open: document.fail_open,
        })
    }

    /// The value of `WWW-Authenticate` in a refusal (RFC 6750 §3).
    pub(crate) const fn challenge(reason: Reason) -> &'static [u8] {
        match reason {
            Reason::JwtAlgorithm
            | Reason::JwtAudience
            | Reason::JwtExpired
            | Reason::JwtIssuer
            | Reason::JwtKey
            | Reason::JwtLifetime
            | Reason::JwtMalformed
            | Reason::JwtNotYet
            | Reason::JwtSignature => b"Bearer realm=\"api\", error=\"invalid_token\"",
            _ => b"Bearer realm=\"api\"",
        }
    }

    /// The names of the providers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|provider| &*provider.name)
    }

    /// Tells whether a request may pass without a verified token.
    pub(crate) const fn admits_anybody(&self) -> bool {
        self.optional || self.fail_open
    }

    /// Names the headers that only this policy may set.
    pub(crate) fn identity_headers(&self, names: &mut IdentityHeaders) {
        for entry in self.providers.iter().flat_map(|provider| &provider.headers) {
            names.insert(&entry.header);
        }
    }

    /// Tells whether a provider sets a header, `_` taken for `-`.
    pub(crate) fn sets(&self, name: &[u8]) -> bool {
        let mut headers = self.providers.iter().flat_map(|provider| &provider.headers);
        headers.any(|entry| same_to_backend(&entry.header, name))
    }

    /// The headers that tell the backend the claims of a token.
    pub(crate) fn forwarded<'a>(&'a self, token: &'a KnownToken) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let headers = self.providers.get(token.provider).map(|provider| &*provider.headers);
        let headers = headers.unwrap_or_default().iter().zip(token.token.headers());
        headers.filter_map(|(entry, value)| Some((&*entry.header, value?)))
    }

    /// Tells whether the headers made of a token's claims select the route; not without any.
    pub(crate) fn recomputes(&self, token: &KnownToken) -> bool {
        self.providers
            .get(token.provider)
            .is_some_and(|provider| provider.recompute_route)
            && self.forwarded(token).next().is_some()
    }

    /// The places of the request that held tokens, of providers that want them removed.
    pub(crate) fn stripped<'a>(&'a self, head: &'a RequestHead) -> impl Iterator<Item = &'a Source> + Clone {
        let providers = self.providers.iter().filter(|provider| provider.strip_token);
        providers
            .flat_map(|provider| &provider.sources)
            .filter_map(|source| source.found(head))
    }

    /// Verifies the tokens of the request, for the policy of that identity; `None` for a request that passes without one.
    pub(crate) fn authenticate(
        &self,
        policy: &str,
        request: &Request<'_, impl Host>,
        worker: &mut Worker,
    ) -> Result<Option<KnownToken>, Reason> {
        let mut texts: Vec<Cow<'_, [u8]>> = Vec::new();
        let mut presented = Vec::with_capacity(self.providers.len());
        for provider in &self.providers {
            presented.push(collect(provider, request.head, &mut texts));
        }
        if texts.is_empty() && presented.iter().all(Result::is_ok) {
            return if self.admits_anybody() {
                Ok(None)
            } else {
                Err(Reason::JwtMissing)
            };
        }
        let mut verification = Verification {
            policy,
            tokens: Presentation {
                texts: &texts,
                read: texts.iter().map(|_| OnceCell::new()).collect(),
            },
            host: request.host,
            now: request.host.now().map_err(|_| Reason::HostFault)? / NANOSECONDS,
            budget: Budget::new(),
        };
        let mut refusal = Reason::JwtMissing;
        for (index, places) in presented.into_iter().enumerate() {
            match places.and_then(|places| self.verify(index, &places, &mut verification, worker)) {
                Ok(token) => {
                    return Ok(Some(KnownToken { provider: index, token }));
                }
                Err(Reason::HostFault) => return Err(Reason::HostFault),
                // What is wrong with a token of a known issuer says more than that another issuer is unknown.
                Err(Reason::JwtMissing) => {}
                Err(Reason::JwtIssuer) if refusal != Reason::JwtMissing => {}
                // With the keys it may verify.
                Err(_) if refusal == Reason::JwtKeysUnavailable => {}
                Err(reason) => refusal = reason,
            }
        }
        match refusal {
            // What passes anyway would pass without an identity that the awaited keys may prove.
            Reason::JwtKeysUnavailable if worker.remote_keys().is_wanting() => Err(refusal),
            _ if self.fail_open => Ok(None),
            Reason::JwtMissing if self.optional => Ok(None),
            reason => Err(reason),
        }
    }

    /// Verifies the tokens of one provider, at these places of the presentation; the first of them is the one that counts.
    fn verify(
        &self,
        index: usize,
        places: &[usize],
        verification: &mut Verification<'_, '_, impl Host>,
        worker: &mut Worker,
    ) -> Result<Arc<Token>, Reason> {
        let provider = self.providers.get(index).ok_or(Reason::HostFault)?;
        let keys = self.key_sets.get(&provider.key_set).ok_or(Reason::HostFault)?;
        let mut first: Option<Arc<Token>> = None;
        for place in places {
            let token = verification.one(provider, index, keys, *place, worker)?;
            match &first {
                None => first = Some(token),
                Some(first) if first.is_of_same(&token) => {}
                // A backend may take the other one.
                Some(_) => return Err(Reason::JwtMalformed),
            }
        }
        first.ok_or(Reason::JwtMissing)
    }
}

impl<H: Host> Verification<'_, '_, H> {
    fn one(
        &mut self,
        provider: &Provider,
        index: usize,
        keys: &Keys,
        place: usize,
        worker: &mut Worker,
    ) -> Result<Arc<Token>, Reason> {
        let text = self.tokens.texts.get(place).ok_or(Reason::HostFault)?;
        if text.len() > jws::MAX_TOKEN {
            return Err(Reason::JwtMalformed);
        }
        let set = match keys {
            Keys::Local(set) => Ok(Arc::clone(set)),
            Keys::Remote(source) => worker.remote_keys().get(source, self.now),
        };
        let key = set.as_ref().map(|set| verify::key(self.policy, index, set, text));
        if let Ok(key) = &key
            && let Some(token) = worker.tokens().get(key)
        {
            return token.is_valid_at(provider, self.now).map(|()| token);
        }
        let jws = self.tokens.jws(place).ok_or(Reason::JwtMalformed)?;
        let checked = verify::check(provider, jws, self.now)?;
        let verified = match &set {
            Ok(set) => verify::verify(provider, set, jws, checked, self.host, &mut self.budget),
            Err(_) => Err(Reason::JwtKeysUnavailable),
        };
        let refusal = match (verified, key) {
            (Ok(token), Ok(key)) => {
                let token = Arc::new(token);
                worker.tokens().insert(key, Arc::clone(&token));
                return Ok(token);
            }
            (Ok(_), Err(_)) => Reason::HostFault,
            (Err(refusal), _) => refusal,
        };
        if let Keys::Remote(source) = keys {
            let why = match (&set, refusal) {
                (Err(why), _) => Some(*why),
                (Ok(_), Reason::JwtKey) => Some(Why::UnknownKey),
                // Without a name any newer key may be the one.
                (Ok(_), Reason::JwtSignature) if jws.kid.is_none() => Some(Why::UnknownKey),
                (Ok(_), _) => None,
            };
            if let Some(why) = why
                && worker.remote_keys().want(source, why, self.now)
            {
                return Err(Reason::JwtKeysUnavailable);
            }
        }
        Err(refusal)
    }
}

/// Finds what a request presents to a provider, as places in `texts`.
fn collect<'t>(
    provider: &'t Provider,
    head: &'t RequestHead,
    texts: &mut Vec<Cow<'t, [u8]>>,
) -> Result<Vec<usize>, Reason> {
    let mut places = Vec::new();
    for source in &provider.sources {
        let text = match source.presented(head) {
            Presented::Nothing => continue,
            Presented::One(text) => text,
            Presented::Different => return Err(Reason::JwtMalformed),
        };
        let place = texts.iter().position(|other| *other == text).unwrap_or(texts.len());
        if place == texts.len() {
            texts.push(text);
        }
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}
