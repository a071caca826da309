//! Signs tokens, by keys that are for tests only: their private halves are public.

use std::collections::BTreeMap;

use base64::Engine;
use crypto_bigint::{
    BoxedUint, Odd,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{
    algorithm::{Algorithm, Hash},
    der,
    jws::BASE64URL,
    pss, software,
};
use crate::host::Signature;

/// The private keys, by the names by which cases call them.
const KEYS: &str = include_str!("../../testdata/keys/keys.json");
/// Those of RSA that keys of tests are taken from, in this order: finding primes takes a while.
const RSA: [&str; 4] = ["rs2048", "rs2048-other", "rs3072", "rs4096"];
/// The claims that are times (RFC 7519 §4.1).
const TIMES: [&str; 3] = ["exp", "iat", "nbf"];

/// A key for tests; the same one wherever a key of its name and algorithm is asked for.
#[derive(Clone, Debug)]
pub struct TestKey {
    algorithm: Algorithm,
    private: Map<String, Value>,
}

impl TestKey {
    /// Makes a key for each name and algorithm, no two of them alike.
    ///
    /// # Errors
    /// There are more keys of RSA than four.
    pub fn of_each<'n>(wanted: impl IntoIterator<Item = (&'n str, Algorithm)>) -> Result<Vec<Self>, String> {
        let mut rsa = RSA.into_iter();
        let mut made = Vec::new();
        for (name, algorithm) in wanted {
            let private = match algorithm {
                Algorithm::Host(Signature::Rs256 | Signature::Rs384 | Signature::Rs512) | Algorithm::Pss(_) => {
                    let key = rsa.next();
                    private(key.ok_or_else(|| format!("there are no more than {} keys of RSA", RSA.len()))?)?
                }
                Algorithm::Host(curve) => on_curve(curve, name)?,
                Algorithm::EdDsa => {
                    let key = ed25519_dalek::SigningKey::from_bytes(&Sha256::digest(seed(name, algorithm)).into());
                    let point = BASE64URL.encode(key.verifying_key().as_bytes());
                    let scalar = BASE64URL.encode(key.to_bytes());
                    members([
                        ("kty", "OKP".to_owned()),
                        ("crv", "Ed25519".to_owned()),
                        ("x", point),
                        ("d", scalar),
                    ])
                }
                Algorithm::Hmac(_) => {
                    let key = BASE64URL.encode(Sha512::digest(seed(name, algorithm)));
                    members([("kty", "oct".to_owned()), ("k", key)])
                }
            };
            made.push(Self { algorithm, private });
        }
        Ok(made)
    }

    /// Returns what verifies the key's tokens, as a member of a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn public(&self) -> Value {
        let mut public = self.private.clone();
        public.remove("d");
        public.insert("alg".to_owned(), self.algorithm.name().into());
        Value::Object(public)
    }

    /// Signs a token. `exp`, `iat` and `nbf` may be texts such as `now`, `now+300` and `now-300`: that many seconds from
    /// `now`, itself in seconds since 1970.
    ///
    /// # Errors
    /// One of them begins as such a text and is none.
    pub fn token(&self, claims: &Map<String, Value>, now: u64) -> Result<String, String> {
        let mut claims = claims.clone();
        for name in TIMES {
            if let Some(claim) = claims.get_mut(name)
                && let Some(time) = claim.as_str().and_then(|text| text.strip_prefix("now"))
            {
                let shift = if time.is_empty() { Some(0) } else { time.parse().ok() };
                let shift = shift.ok_or_else(|| format!("{name}: {claim} is no time; write \"now+300\""))?;
                *claim = now.saturating_add_signed(shift).into();
            }
        }
        let header = json!({"alg": self.algorithm.name(), "typ": "JWT"}).to_string();
        let payload = Value::Object(claims).to_string();
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
        let signature = sign(&self.private, self.algorithm, message.as_bytes(), None)?;
        Ok(format!("{message}.{}", BASE64URL.encode(signature)))
    }
}

fn seed(name: &str, algorithm: Algorithm) -> String {
    format!("a key for tests: {} {name}", algorithm.name())
}

fn members<const N: usize>(members: [(&str, String); N]) -> Map<String, Value> {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// A key of ECDSA.
fn on_curve(curve: Signature, name: &str) -> Result<Map<String, Value>, String> {
    let seed = seed(name, Algorithm::Host(curve));
    let half = |part: u8| Sha512::new().chain_update([part]).chain_update(&seed).finalize();
    // Less than the order of the group, whose first bits are ones.
    let scalar = |length: usize| -> Vec<u8> {
        let digits = half(0).into_iter().chain(half(1)).take(length.saturating_sub(1));
        std::iter::once(0).chain(digits).collect()
    };
    let unfit = |_| "no key comes of the name".to_owned();
    let (crv, scalar, point) = match curve {
        Signature::Es256 => {
            let scalar = scalar(32);
            let key = p256::ecdsa::SigningKey::from_slice(&scalar).map_err(unfit)?;
            (
                "P-256",
                scalar,
                key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            )
        }
        Signature::Es384 => {
            let scalar = scalar(48);
            let key = p384::ecdsa::SigningKey::from_slice(&scalar).map_err(unfit)?;
            (
                "P-384",
                scalar,
                key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            )
        }
        _ => {
            let scalar = scalar(66);
            let key = p521::ecdsa::SigningKey::from_slice(&scalar).map_err(unfit)?;
            (
                "P-521",
                scalar,
                key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            )
        }
    };
    // Behind the byte that says that both coordinates follow.
    let both = point.get(1..).unwrap_or_default();
    let (x, y) = both.split_at(both.len() / 2);
    Ok(members([
        ("kty", "EC".to_owned()),
        ("crv", crv.to_owned()),
        ("x", BASE64URL.encode(x)),
        ("y", BASE64URL.encode(y)),
        ("d", BASE64URL.encode(scalar)),
    ]))
}

/// Signs a message by a private key; `salt` is the length of the salt of RSA-PSS in bytes, by default that of the digest.
///
/// # Errors
/// The key is not for that algorithm.
pub fn sign(
    key: &Map<String, Value>,
    algorithm: Algorithm,
    message: &[u8],
    salt: Option<usize>,
) -> Result<Vec<u8>, String> {
    let private = || member(key, "d");
    let unfit = |what: &str| format!("the key does not fit {}: {what}", algorithm.name());
    let raised = |encoded: &[u8]| raised(&member(key, "n")?, &private()?, encoded).ok_or_else(|| unfit("modulus"));
    match algorithm {
        Algorithm::Host(Signature::Rs256) => raised(&pkcs1(Hash::Sha256, key, message)?),
        Algorithm::Host(Signature::Rs384) => raised(&pkcs1(Hash::Sha384, key, message)?),
        Algorithm::Host(Signature::Rs512) => raised(&pkcs1(Hash::Sha512, key, message)?),
        Algorithm::Pss(hash) => {
            let salt = vec![0x5a; salt.unwrap_or_else(|| hash.size())];
            let encoded = pss::encoded(hash, &member(key, "n")?, message, &salt);
            raised(&encoded.ok_or_else(|| unfit("salt"))?)
        }
        Algorithm::Host(Signature::Es256) => {
            let key = p256::ecdsa::SigningKey::from_slice(&private()?).map_err(|_| unfit("d"))?;
            let signature: p256::ecdsa::Signature = key.sign(message);
            Ok(signature.to_bytes().to_vec())
        }
        Algorithm::Host(Signature::Es384) => {
            let key = p384::ecdsa::SigningKey::from_slice(&private()?).map_err(|_| unfit("d"))?;
            let signature: p384::ecdsa::Signature = key.sign(message);
            Ok(signature.to_bytes().to_vec())
        }
        Algorithm::Host(Signature::Es512) => {
            let key = p521::ecdsa::SigningKey::from_slice(&private()?).map_err(|_| unfit("d"))?;
            let signature: p521::ecdsa::Signature = key.sign(message);
            Ok(signature.to_bytes().to_vec())
        }
        Algorithm::EdDsa => {
            let seed = private()?.try_into().map_err(|_| unfit("d"))?;
            Ok(ed25519_dalek::SigningKey::from_bytes(&seed)
                .sign(message)
                .to_bytes()
                .to_vec())
        }
        Algorithm::Hmac(hash) => Ok(tag(hash, &member(key, "k")?, message)),
    }
}

/// Computes base^exponent mod modulus, by another implementation than the one that verifies.
fn raised(modulus: &[u8], exponent: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    let precision = u32::try_from(modulus.len()).ok()?.checked_mul(8)?;
    let base = BoxedUint::from_be_slice(base, precision).ok()?;
    let odd = Odd::new(BoxedUint::from_be_slice(modulus, precision).ok()?).into_option()?;
    let base = BoxedMontyForm::new(base, &BoxedMontyParams::new_vartime(odd));
    let bytes = base
        .pow(&BoxedUint::from_be_slice_vartime(exponent))
        .retrieve()
        .to_be_bytes();
    let excess = bytes.len().checked_sub(modulus.len())?;
    bytes.get(excess..).map(<[u8]>::to_vec)
}

fn pkcs1(hash: Hash, key: &Map<String, Value>, message: &[u8]) -> Result<Vec<u8>, String> {
    let length = member(key, "n")?.len();
    software::encoded(hash, message, length).ok_or_else(|| "the modulus is too short".to_owned())
}

/// Computes an HMAC (RFC 2104).
#[must_use]
pub fn tag(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    fn of<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        M::new_from_slice(key).map_or_else(
            |_| Vec::new(),
            |mac| mac.chain_update(message).finalize().into_bytes().to_vec(),
        )
    }
    match hash {
        Hash::Sha256 => of::<Hmac<Sha256>>(key, message),
        Hash::Sha384 => of::<Hmac<Sha384>>(key, message),
        Hash::Sha512 => of::<Hmac<Sha512>>(key, message),
    }
}

/// Writes the two halves of an ECDSA signature in DER, as no token may have it (RFC 7518 §3.4).
#[must_use]
pub fn ecdsa_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    der::ecdsa_signature(r, s)
}

/// Finds a private key by its name in `testdata/keys/keys.json`.
///
/// # Errors
/// No key has that name.
pub fn private(name: &str) -> Result<Map<String, Value>, String> {
    let keys: BTreeMap<String, Map<String, Value>> = serde_json::from_str(KEYS).map_err(|error| error.to_string())?;
    keys.get(name)
        .cloned()
        .ok_or_else(|| format!("no key is called {name:?}"))
}

/// Names the algorithm that a private key is mostly used with.
///
/// # Errors
/// The key is of no known type.
pub fn usual(key: &Map<String, Value>) -> Result<&'static str, String> {
    let text = |name| key.get(name).and_then(Value::as_str).unwrap_or_default();
    Ok(match (text("kty"), text("crv")) {
        ("RSA", _) => "RS256",
        ("EC", "P-256") => "ES256",
        ("EC", "P-384") => "ES384",
        ("EC", "P-521") => "ES512",
        ("OKP", _) => "EdDSA",
        ("oct", _) => match member(key, "k")?.len() {
            64.. => "HS512",
            48..64 => "HS384",
            _ => "HS256",
        },
        _ => return Err("the key is of no known type".to_owned()),
    })
}

fn member(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = key.get(name).and_then(Value::as_str);
    let bytes = text.and_then(|text| BASE64URL.decode(text).ok());
    bytes.ok_or_else(|| format!("the key has no {name:?}"))
}
