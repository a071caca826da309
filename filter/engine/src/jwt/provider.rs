//! What is asked of the tokens of one issuer (`SecurityPolicy.spec.jwt.providers[]`).

use std::sync::Arc;

use super::{
    algorithm::Algorithm,
    extract::TokenSource,
    jwk::{KeySet, Source, Unusable},
    remote::KeySource,
};
use crate::{
    document::{self, JwtProvider},
    http::header::{is_field_value, same_to_backend},
    identity,
    policy::{PolicyError, at_most, told},
};

/// The most providers of one policy.
const MAX_PROVIDERS: usize = 16;
/// The most audiences of one provider.
const MAX_AUDIENCES: usize = 64;
/// The most headers of one provider.
const MAX_HEADERS: usize = 64;
/// The longest name, issuer, audience or claim, in bytes.
const MAX_NAME: usize = 253;
/// The most key sets of one policy.
const MAX_KEY_SETS: usize = MAX_PROVIDERS;
/// The most keys of one policy, over all its sets: a point of Ed25519 takes a while to read.
const MAX_KEYS: usize = 128;
/// By how much clocks may differ unless a provider says otherwise, in seconds.
const CLOCK_SKEW: u64 = 60;
/// The most by which they may, in seconds: an hour is a difference of time zones, and no clock's.
const MAX_CLOCK_SKEW: u64 = 3599;

const PROVIDERS: &str = "jwt.providers";

/// One provider, compiled.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: Box<str>,
    /// `None` for any and none.
    pub(crate) issuer: Option<Box<str>>,
    /// Empty for no check.
    pub(crate) audiences: Vec<Box<str>>,
    /// The name of its [`KeySets`].
    pub(crate) key_set: Box<str>,
    pub(crate) sources: Vec<TokenSource>,
    pub(crate) headers: Vec<ClaimHeader>,
    /// Whether these headers select the route.
    pub(crate) recompute_route: bool,
    pub(crate) require_expiration: bool,
    /// In seconds.
    pub(crate) max_lifetime: Option<u64>,
    /// In seconds.
    pub(crate) clock_skew: u64,
    /// Those that it takes.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) strip_token: bool,
}

/// A header that carries a claim to the backend.
#[derive(Debug)]
pub(crate) struct ClaimHeader {
    /// Lower case.
    pub(crate) header: Box<[u8]>,
    pub(crate) claim: Box<str>,
}

/// The key sets of a policy, by name.
#[derive(Debug)]
pub(crate) struct KeySets(Vec<(Box<str>, Keys)>);

/// Where the keys of a provider come from.
#[derive(Debug)]
pub(crate) enum Keys {
    /// With the policy.
    Local(Arc<KeySet>),
    /// From a server.
    Remote(Arc<KeySource>),
}

impl KeySets {
    pub(crate) fn compile(sets: &[document::KeySet], document: &document::Jwt) -> Result<Self, PolicyError> {
        let providers = &document.providers;
        let count = sets.len().saturating_add(document.remote_key_sets.len());
        at_most(PROVIDERS, "key sets", count, MAX_KEY_SETS)?;
        let mut compiled: Vec<(Box<str>, Keys)> = Vec::with_capacity(count);
        let mut amount = 0;
        for set in sets {
            let user = providers.iter().position(|provider| provider.key_set == set.id);
            let Some(user) = user else {
                let message = told!("a key set comes without a provider that it is for");
                return Err(PolicyError::new(String::new(), "stray-secrets", message));
            };
            let path = told!("{PROVIDERS}[{user}].localJWKS");
            if compiled.iter().any(|(id, _)| **id == *set.id) {
                let message = told!("key set {:?} comes twice", set.id);
                return Err(PolicyError::new(path, "duplicate-key-set", message));
            }
            let keys = KeySet::parse(set.jwks.as_bytes(), Source::Local).map_err(|unusable| {
                let code = match unusable {
                    Unusable::Malformed(_) => "invalid-key-set",
                    Unusable::NoKey(_) => "no-usable-key",
                };
                PolicyError::new(path, code, told!("the key set verifies nothing: {unusable}"))
            })?;
            amount += keys.len();
            compiled.push((set.id.as_str().into(), Keys::Local(Arc::new(keys))));
        }
        at_most(PROVIDERS, "keys", amount, MAX_KEYS)?;
        for (index, set) in document.remote_key_sets.iter().enumerate() {
            let path = told!("jwt.remoteKeySets[{index}]");
            if compiled.iter().any(|(id, _)| **id == *set.id) {
                let message = told!("key set {:?} comes twice", set.id);
                return Err(PolicyError::new(path, "duplicate-key-set", message));
            }
            if !providers.iter().any(|provider| provider.key_set == set.id) {
                let message = told!("a key set comes without a provider that it is for");
                return Err(PolicyError::new(path, "stray-key-set", message));
            }
            let source = KeySource::compile(&path, set)?;
            compiled.push((set.id.as_str().into(), Keys::Remote(Arc::new(source))));
        }
        Ok(Self(compiled))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Keys> {
        self.0.iter().find(|(id, _)| **id == *name).map(|(_, set)| set)
    }
}

impl Provider {
    pub(crate) fn compile_all(providers: &[JwtProvider], key_sets: &KeySets) -> Result<Vec<Self>, PolicyError> {
        at_most(PROVIDERS, "providers", providers.len(), MAX_PROVIDERS)?;
        if providers.is_empty() {
            let message = told!("without a provider no token can be verified");
            return Err(PolicyError::new(told!("{PROVIDERS}"), "no-provider", message));
        }
        for (index, provider) in providers.iter().enumerate() {
            if providers
                .iter()
                .take(index)
                .any(|earlier| earlier.name == provider.name)
            {
                let message = told!("provider {:?} is listed twice", provider.name);
                return Err(PolicyError::new(
                    told!("{PROVIDERS}[{index}].name"),
                    "duplicate-provider",
                    message,
                ));
            }
        }
        let providers = providers.iter().enumerate();
        providers
            .map(|(index, provider)| Self::compile(&told!("{PROVIDERS}[{index}]"), provider, key_sets))
            .collect()
    }

    fn compile(at: &str, provider: &JwtProvider, key_sets: &KeySets) -> Result<Self, PolicyError> {
        let error = |field: &str, code, message: String| PolicyError::new(told!("{at}.{field}"), code, message);
        let named = |field: &str, code, text: &str| {
            if (1..=MAX_NAME).contains(&text.len()) && is_field_value(text.as_bytes()) {
                return Ok(());
            }
            let message = told!("1 to {MAX_NAME} bytes are needed, none of them a control character");
            Err(error(field, code, message))
        };
        named("name", "invalid-provider-name", &provider.name)?;
        if let Some(issuer) = &provider.issuer {
            named("issuer", "invalid-issuer", issuer)?;
        }
        at_most(
            &told!("{at}.audiences"),
            "audiences",
            provider.audiences.len(),
            MAX_AUDIENCES,
        )?;
        for (index, audience) in provider.audiences.iter().enumerate() {
            named(&told!("audiences[{index}]"), "invalid-audience", audience)?;
        }
        let algorithms = compile_algorithms(at, &provider.algorithms)?;
        let Some(keys) = key_sets.get(&provider.key_set) else {
            let message = told!("there is no key set {:?}", provider.key_set);
            return Err(error("localJWKS", "unknown-key-set", message));
        };
        let usable = |algorithm: &Algorithm| match keys {
            Keys::Local(keys) => keys.candidates(*algorithm, None).next().is_some(),
            // A server's keys are not known yet, but it has no symmetric ones.
            Keys::Remote(_) => !matches!(algorithm, Algorithm::Hmac(_)),
        };
        if !algorithms.iter().any(usable) {
            let message = told!("no key of the set is for one of these algorithms, so no token would verify");
            return Err(error("algorithms", "no-key-for-algorithms", message));
        }
        let clock_skew = provider.clock_skew.unwrap_or(CLOCK_SKEW);
        if clock_skew > MAX_CLOCK_SKEW {
            let message = told!("clocks that differ by an hour or more are wrong");
            return Err(error("clockSkew", "clock-skew-too-large", message).fix(told!("write {CLOCK_SKEW}s")));
        }
        if provider.max_lifetime == Some(0) {
            let message = told!("a token that may not live is never valid");
            return Err(error("maxLifetime", "zero-lifetime", message));
        }
        if provider.recompute_route && provider.claim_to_headers.is_empty() {
            let message = told!("without a header made of a claim no route can be selected by claims");
            return Err(error("recomputeRoute", "recompute-without-claims", message));
        }
        Ok(Self {
            name: provider.name.as_str().into(),
            issuer: provider.issuer.as_deref().map(Box::from),
            audiences: provider
                .audiences
                .iter()
                .map(|audience| audience.as_str().into())
                .collect(),
            key_set: provider.key_set.as_str().into(),
            sources: TokenSource::compile_all(at, provider.extract_from.as_ref())?,
            headers: compile_headers(at, &provider.claim_to_headers)?,
            recompute_route: provider.recompute_route,
            require_expiration: provider.require_expiration || provider.max_lifetime.is_some(),
            max_lifetime: provider.max_lifetime,
            clock_skew,
            algorithms,
            strip_token: provider.strip_token,
        })
    }
}

fn compile_algorithms(at: &str, names: &[String]) -> Result<Vec<Algorithm>, PolicyError> {
    if names.is_empty() {
        return Ok(Algorithm::ALL.to_vec());
    }
    let names = names.iter().enumerate();
    let compiled = names.map(|(index, name)| {
        Algorithm::parse(name).ok_or_else(|| {
            let message = told!("{name:?} is not an algorithm that tokens are verified by");
            PolicyError::new(told!("{at}.algorithms[{index}]"), "unknown-algorithm", message)
        })
    });
    compiled.collect()
}

fn compile_headers(at: &str, headers: &[document::ClaimToHeader]) -> Result<Vec<ClaimHeader>, PolicyError> {
    at_most(&told!("{at}.claimToHeaders"), "headers", headers.len(), MAX_HEADERS)?;
    let mut compiled: Vec<ClaimHeader> = Vec::with_capacity(headers.len());
    for (index, entry) in headers.iter().enumerate() {
        let path = |field: &str| told!("{at}.claimToHeaders[{index}].{field}");
        let header = identity::compile_forward(&path("header"), &entry.header)?;
        if compiled.iter().any(|earlier| same_to_backend(&earlier.header, &header)) {
            let message = told!("one header cannot carry two claims: {:?}", entry.header);
            return Err(PolicyError::new(path("header"), "duplicate-identity-header", message));
        }
        if entry.claim.is_empty() || entry.claim.len() > MAX_NAME {
            let message = told!("a claim's name has 1 to {MAX_NAME} bytes");
            return Err(PolicyError::new(path("claim"), "invalid-claim-name", message));
        }
        compiled.push(ClaimHeader {
            header,
            claim: entry.claim.as_str().into(),
        });
    }
    Ok(compiled)
}
