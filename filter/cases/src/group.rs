//! A policy with its keys, as a file of cases writes them and as a controller delivers them.

use std::collections::BTreeMap;

use portcullis_engine::{
    cel::source,
    denial::Reason,
    document::{self, ApiClient, Document, Secrets, User},
    policy::{Policy, decode},
    seal,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    Case, Lines, Text,
    tokens::{self, KeySet, Token},
};

/// One document of a file: a policy and what happens under it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The policy; what its type refuses is a case of [`Expect::decode`].
    pub policy: serde_json::Value,
    /// The API clients with their keys in clear; the runner hashes them.
    #[serde(default)]
    pub keys: BTreeMap<String, Key>,
    /// The users with the hashes of their passwords, as in an `.htpasswd` file.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
    /// The sets of keys that verify tokens.
    #[serde(default, rename = "keySets")]
    pub key_sets: BTreeMap<String, KeySet>,
    /// The servers of keys, by the ids of the policy's remote key sets.
    #[serde(default, rename = "keyServers")]
    pub key_servers: BTreeMap<String, KeyServer>,
    /// The tokens, by the names under which requests hold them: `${alice}`.
    #[serde(default)]
    pub tokens: BTreeMap<String, Token>,
    /// Another route of the host, and the claim that brings requests there.
    #[serde(default)]
    pub next: Option<Next>,
    /// The secrets as they stand, instead of `keys`, `users` and `keySets`; for policies that are refused.
    #[serde(default)]
    pub secrets: Option<serde_json::Value>,
    /// What happens under the policy.
    pub cases: Vec<Case>,
}

/// A route that requests reach by a header made of a claim.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// The header, in lower case.
    pub header: String,
    /// Its value.
    pub value: String,
    /// The policy of that route; it shares the keys of the group.
    pub policy: serde_json::Value,
}

/// A server of keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyServer {
    /// What the controller fetched and sent along.
    #[serde(default)]
    pub shipped: Option<KeySet>,
    /// How long ago that was, in seconds.
    #[serde(default)]
    pub age: u64,
    /// What the server answers a fetch with; without it, it fails.
    #[serde(default)]
    pub serves: Option<KeySet>,
}

/// An API key.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Key {
    /// One that stays valid.
    Lasting(Text),
    /// One that ends to be valid.
    Expiring {
        /// The key.
        key: Text,
        /// [`ApiClient::not_after`].
        #[serde(rename = "notAfter")]
        not_after: u64,
    },
}

impl Key {
    const fn text(&self) -> &Text {
        match self {
            Self::Lasting(key) | Self::Expiring { key, .. } => key,
        }
    }

    const fn not_after(&self) -> Option<u64> {
        match self {
            Self::Lasting(_) => None,
            Self::Expiring { not_after, .. } => Some(*not_after),
        }
    }
}

/// A policy as a controller delivers it.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The serialized document.
    pub document: Vec<u8>,
    /// The serialized secrets.
    pub secrets: Vec<u8>,
    /// Their hash, which is the name of the policy.
    pub hash: String,
}

impl Delivered {
    fn new(policy: &serde_json::Value, secrets: Vec<u8>) -> Result<Self, String> {
        let mut policy = policy.clone();
        parse_expressions(&mut policy)?;
        let document = serde_json::to_vec(&policy).map_err(|error| error.to_string())?;
        Ok(Self {
            hash: seal::hash(&document, &secrets),
            document,
            secrets,
        })
    }

    /// Decodes it, as the filter does.
    ///
    /// # Errors
    /// Why every request is refused.
    pub fn decode(&self) -> Result<Policy, Reason> {
        decode(&self.hash, &self.document, &self.secrets)
    }
}

impl Group {
    /// Returns the policy as a controller delivers it.
    ///
    /// # Errors
    /// Why it or its secrets cannot be serialized.
    pub fn delivered(&self) -> Result<Delivered, String> {
        let secrets = match &self.secrets {
            Some(secrets) => serde_json::to_vec(secrets),
            None => serde_json::to_vec(&self.hashed_secrets(&self.policy)?),
        };
        Delivered::new(&self.policy, secrets.map_err(|error| error.to_string())?)
    }

    /// Returns the policy of the other route as a controller delivers it, with what leads there; `None` if there is no other.
    ///
    /// # Errors
    /// Why it or its secrets cannot be serialized.
    pub fn next_delivered(&self) -> Result<Option<(&Next, Delivered)>, String> {
        let Some(next) = &self.next else { return Ok(None) };
        let secrets = serde_json::to_vec(&self.hashed_secrets(&next.policy)?).map_err(|error| error.to_string())?;
        Ok(Some((next, Delivered::new(&next.policy, secrets)?)))
    }

    /// Returns the document.
    ///
    /// # Errors
    /// Why the policy is none.
    pub fn document(&self) -> Result<Document, String> {
        serde_json::from_slice(&self.delivered()?.document).map_err(|error| error.to_string())
    }

    /// Returns a case with its tokens, at that time, in seconds since 1970.
    ///
    /// # Errors
    /// What token cannot be made.
    pub fn with_tokens(&self, case: &Case, now: u64) -> Result<Case, String> {
        let mut case = case.clone();
        if self.tokens.is_empty() {
            return Ok(case);
        }
        let put = |text: &mut Text| tokens::put(text, &self.tokens, now).map(|made| *text = made);
        if let Some(request) = &mut case.request {
            put(&mut request.path)?;
            request.headers.iter_mut().try_for_each(|(_, value)| put(value))?;
        }
        if let Some(upstream) = &mut case.expect.upstream {
            upstream.path.iter_mut().try_for_each(put)?;
            for lines in upstream.headers.values_mut() {
                match lines {
                    Lines::One(text) => put(text)?,
                    Lines::Many(texts) => texts.iter_mut().try_for_each(put)?,
                }
            }
        }
        Ok(case)
    }

    fn hashed_secrets(&self, policy: &serde_json::Value) -> Result<Secrets, String> {
        let client = |(id, key): (&String, &Key)| ApiClient {
            id: id.clone(),
            sha256: Sha256::digest(key.text().bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            not_after: key.not_after(),
        };
        let user = |(name, hash): (&String, &String)| User {
            name: name.clone(),
            hash: hash.clone(),
        };
        let key_set = |(id, keys): (&String, &KeySet)| {
            Ok::<_, String>(document::KeySet {
                id: id.clone(),
                jwks: keys.text()?,
            })
        };
        let all = Secrets {
            salt: "00".repeat(16),
            api_keys: self.keys.iter().map(client).collect(),
            users: self.users.iter().map(user).collect(),
            key_sets: self.key_sets.iter().map(key_set).collect::<Result<_, _>>()?,
            ..Secrets::default()
        };
        let nested = |name| Some(Box::new(for_policy(&all, policy.get(name)?)));
        let (baseline, shadow) = (nested("baseline"), nested("shadow"));
        let own = match (&baseline, &shadow, &self.next) {
            (None, None, None) => all,
            _ => for_policy(&all, policy),
        };
        Ok(Secrets {
            baseline,
            shadow,
            ..own
        })
    }
}

/// Parses the expressions that a policy and those in it hold as text.
fn parse_expressions(policy: &mut serde_json::Value) -> Result<(), String> {
    for nested in ["baseline", "shadow"] {
        policy.get_mut(nested).map_or(Ok(()), parse_expressions)?;
    }
    let rules = policy.pointer_mut("/authorization/rules");
    for rule in rules.and_then(serde_json::Value::as_array_mut).into_iter().flatten() {
        if let Some(serde_json::Value::String(text)) = rule.get("cel") {
            let parsed = source::parse(text).map_err(|error| format!("{text}: {error}"))?;
            let parsed = serde_json::to_value(parsed).map_err(|error| error.to_string())?;
            if let Some(cel) = rule.get_mut("cel") {
                *cel = parsed;
            }
        }
    }
    Ok(())
}

/// What a policy needs of the secrets.
fn for_policy(all: &Secrets, policy: &serde_json::Value) -> Secrets {
    let mut secrets = all.clone();
    if policy.get("apiKey").is_none() {
        secrets.api_keys.clear();
    }
    if policy.get("basicAuth").is_none() {
        secrets.users.clear();
    }
    let providers = policy.pointer("/jwt/providers").and_then(serde_json::Value::as_array);
    let is_named = |set: &document::KeySet| {
        let mut providers = providers.into_iter().flatten();
        providers.any(|provider| provider["keySet"] == *set.id)
    };
    secrets.key_sets.retain(is_named);
    secrets
}
