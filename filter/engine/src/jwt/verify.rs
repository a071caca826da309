//! From a presented token to its verified claims.
//!
//! Whose a token is said to be is compared before any signature is looked at, and so are its times and its audience.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{
    algorithm::Algorithm,
    claims,
    json::{Object, Value},
    jwk::KeySet,
    jws::Jws,
    provider::Provider,
};
use crate::{credential::digest::Digest256, denial::Reason, host::Host, http::header::is_field_value};

/// What the signatures of one request may cost under one policy, in the unit of `Algorithm::cost`: four of RSA-PSS, or more
/// of any other sort.
const BUDGET: u32 = 128;
/// The longest `sub` that names a principal, in bytes.
const MAX_SUBJECT: usize = 256;

/// The claims of a token whose signature, issuer, times and audience a provider accepted. Only [`verify`] makes one.
#[derive(Debug)]
pub(crate) struct Token {
    claims: Object,
    times: Times,
    /// The values of the provider's headers; a claim without a value has none.
    headers: Vec<Option<Box<[u8]>>>,
    subject: Option<Arc<str>>,
    weight: usize,
}

/// In seconds since 1970.
#[derive(Debug)]
struct Times {
    expires: Option<u64>,
    not_before: Option<u64>,
    issued: Option<u64>,
}

/// What is left for the signatures of a request.
pub(crate) struct Budget(u32);

impl Budget {
    pub(crate) const fn new() -> Self {
        Self(BUDGET)
    }

    const fn spend(&mut self, cost: u32) -> bool {
        match self.0.checked_sub(cost) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

impl Token {
    pub(crate) const fn claims(&self) -> &Object {
        &self.claims
    }

    pub(crate) fn subject(&self) -> Option<Arc<str>> {
        self.subject.clone()
    }

    /// The values of the provider's headers, in their order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.headers.iter().map(Option::as_deref)
    }

    /// About how many bytes it takes.
    pub(crate) const fn weight(&self) -> usize {
        self.weight
    }

    /// Tells whether two tokens speak of one principal.
    pub(crate) fn is_of_same(&self, other: &Self) -> bool {
        ["iss", "sub"]
            .iter()
            .all(|name| self.claims.get(name) == other.claims.get(name))
    }

    /// Judges the times anew, for a token that was verified before.
    pub(crate) fn is_valid_at(&self, provider: &Provider, now: u64) -> Result<(), Reason> {
        self.times.check(provider, now)
    }
}

impl Times {
    /// With seconds as the clock tells them, and clocks that differ as the provider allows.
    fn check(&self, provider: &Provider, now: u64) -> Result<(), Reason> {
        let skew = provider.clock_skew;
        if self.not_before.is_some_and(|start| now.saturating_add(skew) < start) {
            return Err(Reason::JwtNotYet);
        }
        match self.expires {
            None if provider.require_expiration => return Err(Reason::JwtLifetime),
            Some(end) if now > end.saturating_add(skew) => return Err(Reason::JwtExpired),
            _ => {}
        }
        if let (Some(most), Some(end)) = (provider.max_lifetime, self.expires) {
            // Whoever says to have issued it in the future cannot make it younger.
            let (start, most) = match self.issued {
                Some(issued) if issued <= now.saturating_add(skew) => (issued, most),
                _ => (now, most.saturating_add(skew)),
            };
            if end.saturating_sub(start) > most {
                return Err(Reason::JwtLifetime);
            }
        }
        Ok(())
    }
}

/// The name of a verification: everything that it rests on but the time.
pub(crate) fn key(policy: &str, provider: usize, keys: &KeySet, token: &[u8]) -> Digest256 {
    let mut digest = Sha256::new();
    digest.update((policy.len() as u64).to_be_bytes());
    digest.update(policy);
    digest.update((provider as u64).to_be_bytes());
    digest.update(keys.digest());
    digest.update(token);
    digest.finalize().into()
}

/// What is known of a token before any key is looked for.
pub(crate) struct Checked {
    times: Times,
    algorithm: Algorithm,
}

/// Holds what a token says of itself against its provider.
pub(crate) fn check(provider: &Provider, jws: &Jws<'_>, now: u64) -> Result<Checked, Reason> {
    let claims = &jws.payload;
    let times = read(claims)?;
    if let Some(issuer) = &provider.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(&**issuer)
    {
        return Err(Reason::JwtIssuer);
    }
    times.check(provider, now)?;
    if !provider.audiences.is_empty() && !names_audience(claims, &provider.audiences) {
        return Err(Reason::JwtAudience);
    }
    let algorithm = Algorithm::parse(&jws.algorithm).filter(|algorithm| provider.algorithms.contains(algorithm));
    let algorithm = algorithm.ok_or(Reason::JwtAlgorithm)?;
    Ok(Checked { times, algorithm })
}

/// Verifies the signature of a checked token.
pub(crate) fn verify(
    provider: &Provider,
    keys: &KeySet,
    jws: &Jws<'_>,
    Checked { times, algorithm }: Checked,
    host: &impl Host,
    budget: &mut Budget,
) -> Result<Token, Reason> {
    let mut refusal = Reason::JwtKey;
    for key in keys.candidates(algorithm, jws.kid.as_deref()) {
        refusal = Reason::JwtSignature;
        if !budget.spend(algorithm.cost()) {
            break;
        }
        let right = key.verify(host, algorithm, jws.signed, &jws.signature);
        if right.map_err(|_| Reason::HostFault)? {
            return accepted(provider, &jws.payload, times);
        }
    }
    Err(refusal)
}

fn accepted(provider: &Provider, claims: &Object, times: Times) -> Result<Token, Reason> {
    let mut headers: Vec<Option<Box<[u8]>>> = Vec::with_capacity(provider.headers.len());
    for entry in &provider.headers {
        let value = claims::find(claims, &entry.claim).and_then(claims::header_value);
        // Such a header would end its line: no backend may be told a part of a claim.
        if value
            .as_ref()
            .is_some_and(|value| value.iter().any(is_refused_in_header))
        {
            return Err(Reason::JwtMalformed);
        }
        headers.push(value.map(Box::from));
    }
    let subject = claims.get("sub").and_then(Value::as_str);
    let subject =
        subject.filter(|subject| (1..=MAX_SUBJECT).contains(&subject.len()) && is_field_value(subject.as_bytes()));
    let values: usize = headers.iter().flatten().map(|value| value.len()).sum();
    Ok(Token {
        weight: claims.weight() + values + size_of::<Token>() + headers.len() * size_of::<Option<Box<[u8]>>>(),
        claims: claims.clone(),
        times,
        headers,
        subject: subject.map(Arc::from),
    })
}

const fn is_refused_in_header(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

/// Reads the times, and holds the registered claims to their types (RFC 7519 §4.1).
fn read(claims: &Object) -> Result<Times, Reason> {
    for name in ["iss", "sub", "jti"] {
        if !matches!(claims.get(name), None | Some(Value::String(_))) {
            return Err(Reason::JwtMalformed);
        }
    }
    let is_text = |value: &Value| value.as_str().is_some();
    match claims.get("aud") {
        None | Some(Value::String(_)) => {}
        Some(Value::Array(audiences)) if audiences.iter().all(is_text) => {}
        Some(_) => return Err(Reason::JwtMalformed),
    }
    let time = |name| match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => number.truncated().map(Some).ok_or(Reason::JwtMalformed),
        Some(_) => Err(Reason::JwtMalformed),
    };
    Ok(Times {
        expires: time("exp")?,
        not_before: time("nbf")?,
        issued: time("iat")?,
    })
}

fn names_audience(claims: &Object, audiences: &[Box<str>]) -> bool {
    let is_listed = |audience: &Value| {
        audience
            .as_str()
            .is_some_and(|text| audiences.iter().any(|own| **own == *text))
    };
    match claims.get("aud") {
        Some(Value::Array(named)) => named.iter().any(is_listed),
        Some(named) => is_listed(named),
        None => false,
    }
}
