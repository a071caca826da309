//! Tokens of the cases, signed by keys that are for tests only: each is made anew where a case runs, for its times are told from
//! now, and comes out the same wherever that is.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_engine::{
    host::Signature,
    jwt::{
        algorithm::Algorithm,
        signing::{self, ecdsa_der, private, usual},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Text;

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
    /// Returns the JSON Web Key Set.
    ///
    /// # Errors
    /// The key that there is not.
    pub fn text(&self) -> Result<String, String> {
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
                BASE64URL.encode(signing::tag(hash, &secret.bytes(), message.as_bytes()))
            }
            (_, _, _, Some(key), Some(algorithm)) => {
                let signature = signing::sign(key, algorithm, message.as_bytes(), self.salt)?;
                BASE64URL.encode(self.form(&signature, algorithm))
            }
            _ => String::new(),
        };
        Ok((header, payload, signature))
    }

    fn form(&self, signature: &[u8], algorithm: Algorithm) -> Vec<u8> {
        let of_ecdsa = matches!(
            algorithm,
            Algorithm::Host(Signature::Es256 | Signature::Es384 | Signature::Es512)
        );
        match signature.split_at_checked(signature.len() / 2) {
            Some((r, s)) if self.der && of_ecdsa => ecdsa_der(r, s),
            _ => signature.to_vec(),
        }
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

fn lay_over<'m>(members: &mut Map<String, Value>, others: impl Iterator<Item = (&'m String, &'m Value)>) {
    for (name, value) in others {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}
