//! Tokens of the cases, signed by keys that are for tests only: each is made anew where a case runs, for its times are told from
//! now, and comes out the same wherever that is.

use std::collections::BTreeMap;

use base64::Engine;
use crypto_bigint::{
    BoxedUint, Odd,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use ed25519_dalek::Signer;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Sha256, Sha384, Sha512};

use super::Text;
use crate::{
    host::Signature,
    jwt::{
        algorithm::{Algorithm, Hash},
        jws::BASE64URL,
        pss, software,
    },
};

/// The private keys, by the names by which cases call them.
const KEYS: &str = include_str!("../../testdata/keys/keys.json");

/// A set of keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum KeySet {
    /// As it stands.
    Text(String),
    /// Keys: `{key: NAME}` for the public half of a key of these tests, with further members over its own, `null` for none; or a key
    /// as it stands.
    Keys(Vec<Map<String, Value>>),
}

/// A token. Without `key` and `secret` it has an empty signature.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// The key that signs it.
    #[serde(default)]
    pub key: Option<String>,
    /// A symmetric key in place of it, in bytes.
    #[serde(default)]
    pub secret: Option<Text>,
    /// The algorithm that it is signed by; by default one of the key's.
    #[serde(default)]
    pub alg: Option<String>,
    /// Members of the header over `alg`, which may lie; `null` for none.
    #[serde(default)]
    pub header: Map<String, Value>,
    /// The header as it stands.
    #[serde(default)]
    pub header_text: Option<Text>,
    /// The claims; a text such as `now`, `now+60` or `now-60` becomes that time.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// The claims as they stand, such times apart.
    #[serde(default)]
    pub claims_text: Option<Text>,
    /// The bytes of the signature as they stand.
    #[serde(default)]
    pub signature: Option<Text>,
    /// The token whose signature this one bears.
    #[serde(default)]
    pub signature_of: Option<String>,
    /// Whether a signature of ECDSA is written as DER.
    #[serde(default)]
    pub der: bool,
    /// The length of the salt of RSA-PSS, in bytes.
    #[serde(default)]
    pub salt: Option<usize>,
    /// How `{header}`, `{payload}` and `{signature}` are put together, `{header}.{payload}.{signature}` by default.
    #[serde(default)]
    pub shape: Option<String>,
}

impl KeySet {
    /// Returns the text that a policy's secrets hold.
    pub(super) fn text(&self) -> Result<String, String> {
        let keys = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::Keys(keys) => keys,
        };
        let mut written = Vec::new();
        for key in keys {
            let mut public = match key.get("key").and_then(Value::as_str) {
                Some(name) => private(name)?,
                None => Map::new(),
            };
            public.remove("d");
            lay_over(&mut public, key.iter().filter(|(member, _)| *member != "key"));
            written.push(Value::Object(public));
        }
        Ok(serde_json::json!({ "keys": written }).to_string())
    }
}

/// Puts the tokens in the place of their names, `${alice}`.
pub(super) fn put(text: &Text, tokens: &BTreeMap<String, Token>, now: u64) -> Result<Text, String> {
    let Text::Plain(template) = text else {
        return Ok(text.clone());
    };
    let mut parts = template.split("${");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').ok_or("a ${ has no }")?;
        written.push_str(&find(tokens, name)?.mint(tokens, now)?);
        written.push_str(rest);
    }
    Ok(Text::Plain(written))
}

fn find<'t>(tokens: &'t BTreeMap<String, Token>, name: &str) -> Result<&'t Token, String> {
    tokens.get(name).ok_or_else(|| format!("no token is called {name:?}"))
}

impl Token {
    /// Makes the token.
    fn mint(&self, tokens: &BTreeMap<String, Self>, now: u64) -> Result<String, String> {
        let (header, payload, signature) = self.pieces(tokens, now)?;
        let shape = self.shape.as_deref().unwrap_or("{header}.{payload}.{signature}");
        Ok(shape
            .replace("{header}", &header)
            .replace("{payload}", &payload)
            .replace("{signature}", &signature))
    }

    fn pieces(&self, tokens: &BTreeMap<String, Self>, now: u64) -> Result<(String, String, String), String> {
        let key = self.key.as_deref().map(private).transpose()?;
        let algorithm = match (&self.alg, &key) {
            (Some(name), _) => Some(name.as_str()),
            (None, Some(key)) => Some(usual(key)?),
            (None, None) => None,
        };
        let header = match &self.header_text {
            Some(text) => text.bytes(),
            None => {
                let mut header = Map::new();
                header.extend(algorithm.map(|name| ("alg".to_owned(), name.into())));
                lay_over(&mut header, self.header.iter());
                Value::Object(header).to_string().into_bytes()
            }
        };
        let payload = match &self.claims_text {
            Some(text) => text.bytes(),
            None => Value::Object(self.claims.clone()).to_string().into_bytes(),
        };
        let header = BASE64URL.encode(header);
        let payload = BASE64URL.encode(told_from(&payload, now));
        let message = format!("{header}.{payload}");
        let algorithm = algorithm.map(|name| Algorithm::parse(name).ok_or_else(|| format!("{name:?} signs nothing")));
        let algorithm = algorithm.transpose()?;
        let signature = match (&self.signature, &self.signature_of, &self.secret, &key, algorithm) {
            (Some(bytes), ..) => BASE64URL.encode(bytes.bytes()),
            (_, Some(other), ..) => find(tokens, other)?.pieces(tokens, now)?.2,
            (_, _, Some(secret), _, Some(Algorithm::Hmac(hash))) => {
                BASE64URL.encode(tag(hash, &secret.bytes(), message.as_bytes()))
            }
            (_, _, _, Some(key), Some(algorithm)) => BASE64URL.encode(self.sign(key, algorithm, message.as_bytes())?),
            _ => String::new(),
        };
        Ok((header, payload, signature))
    }

    fn sign(&self, key: &Map<String, Value>, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, String> {
        let private = || member(key, "d");
        let unfit = |what: &str| format!("the key does not fit {}: {what}", algorithm.name());
        let raised = |encoded: &[u8]| raised(&member(key, "n")?, &private()?, encoded).ok_or_else(|| unfit("modulus"));
        match algorithm {
            Algorithm::Host(Signature::Rs256) => raised(&pkcs1(Hash::Sha256, key, message)?),
            Algorithm::Host(Signature::Rs384) => raised(&pkcs1(Hash::Sha384, key, message)?),
            Algorithm::Host(Signature::Rs512) => raised(&pkcs1(Hash::Sha512, key, message)?),
            Algorithm::Pss(hash) => {
                let salt = vec![0x5a; self.salt.unwrap_or_else(|| hash.size())];
                let encoded = pss::encoded(hash, &member(key, "n")?, message, &salt);
                raised(&encoded.ok_or_else(|| unfit("salt"))?)
            }
            Algorithm::Host(Signature::Es256) => {
                let key = p256::ecdsa::SigningKey::from_slice(&private()?).map_err(|_| unfit("d"))?;
                let signature: p256::ecdsa::Signature = key.sign(message);
                Ok(self.form(&signature.to_bytes()))
            }
            Algorithm::Host(Signature::Es384) => {
                let key = p384::ecdsa::SigningKey::from_slice(&private()?).map_err(|_| unfit("d"))?;
                let signature: p384::ecdsa::Signature = key.sign(message);
                Ok(self.form(&signature.to_bytes()))
            }
            Algorithm::Host(Signature::Es512) => {
                let key = p521::ecdsa::SigningKey::from_slice(&private()?).map_err(|_| unfit("d"))?;
                let signature: p521::ecdsa::Signature = key.sign(message);
                Ok(self.form(&signature.to_bytes()))
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

    fn form(&self, signature: &[u8]) -> Vec<u8> {
        match signature.split_at_checked(signature.len() / 2) {
            Some((r, s)) if self.der => crate::jwt::ecdsa_signature(r, s),
            _ => signature.to_vec(),
        }
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

fn tag(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
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

/// Writes times in the place of `"now"`, `"now+60"` and the like.
fn told_from(text: &[u8], now: u64) -> Vec<u8> {
    const WORD: &[u8] = b"\"now";
    let mut written = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let told = rest.strip_prefix(WORD).and_then(|after| {
            let end = after.iter().position(|byte| *byte == b'"')?;
            let (shift, after) = after.split_at_checked(end)?;
            let shift = std::str::from_utf8(shift).ok()?;
            let shift = if shift.is_empty() {
                0
            } else {
                shift.parse::<i64>().ok()?
            };
            Some((now.saturating_add_signed(shift), after.strip_prefix(b"\"")?))
        });
        match told {
            Some((time, after)) => {
                written.extend_from_slice(time.to_string().as_bytes());
                rest = after;
            }
            None => {
                written.push(*first);
                rest = after;
            }
        }
    }
    written
}

fn private(name: &str) -> Result<Map<String, Value>, String> {
    let keys: BTreeMap<String, Map<String, Value>> = serde_json::from_str(KEYS).map_err(|error| error.to_string())?;
    keys.get(name)
        .cloned()
        .ok_or_else(|| format!("no key is called {name:?}"))
}

fn member(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = key.get(name).and_then(Value::as_str);
    let bytes = text.and_then(|text| BASE64URL.decode(text).ok());
    bytes.ok_or_else(|| format!("the key has no {name:?}"))
}

/// The algorithm that a key is mostly used with.
fn usual(key: &Map<String, Value>) -> Result<&'static str, String> {
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

fn lay_over<'m>(members: &mut Map<String, Value>, others: impl Iterator<Item = (&'m String, &'m Value)>) {
    for (name, value) in others {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}
