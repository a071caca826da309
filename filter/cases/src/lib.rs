//! Decisions as data: the files in `filter/engine/testdata/cases`, and how one is run.
//!
//! A file holds YAML documents, each a [`Group`]: a policy, its keys and [`Case`]s. The same files are run natively, in
//! wasm32 and, all but those marked otherwise, as real requests through a real proxy.

mod run;
mod tokens;

use std::collections::BTreeMap;

use portcullis_engine::{
    cel::source,
    document::{self, ApiClient, Document, Secrets, User},
    http::RequestHead,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use run::{Decided, apply, decide, decide_with, run};
pub use tokens::{KeySet, Token};

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
    /// The secrets as they stand, instead of `keys`, `users` and `keySets`; for policies that are refused.
    #[serde(default)]
    pub secrets: Option<serde_json::Value>,
    /// What happens under the policy.
    pub cases: Vec<Case>,
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

/// One request and what must become of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is shown, as a sentence without its end.
    pub name: String,
    /// The rows of `docs/differences.md` that this case shows.
    #[serde(default)]
    pub differences: Vec<String>,
    /// Why a real proxy cannot carry this case; absent for nearly all.
    #[serde(default)]
    pub not_through_envoy: Option<String>,
    /// The request; a case of [`Expect::decode`] or [`Expect::error`] has none.
    #[serde(default)]
    pub request: Option<Request>,
    /// What must become of it.
    pub expect: Expect,
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The method.
    #[serde(default = "get")]
    pub method: Text,
    /// The path with its query.
    #[serde(default = "root")]
    pub path: Text,
    /// The host, perhaps with a port.
    #[serde(default = "host")]
    pub authority: Text,
    /// The scheme.
    #[serde(default = "http")]
    pub scheme: Text,
    /// The client's address as the proxy tells it.
    #[serde(default = "loopback")]
    pub from: From,
    /// The port on which the request reaches the proxy.
    #[serde(default)]
    pub port: Option<u16>,
    /// What else the proxy tells, by its name in Envoy: `connection.mtls`. A real proxy tells its own.
    #[serde(default)]
    pub attributes: BTreeMap<String, Told>,
    /// Whether the proxy verified every certificate that the client can have shown.
    #[serde(default)]
    pub verifies_certificates: bool,
    /// The time, in nanoseconds since 1970. A real proxy has its own.
    #[serde(default = "in_2026")]
    pub now: Answer,
    /// The number that nobody can predict. A real proxy has its own.
    #[serde(default = "zero")]
    pub random: Answer,
    /// Whether the proxy verifies signatures; false if it fails to.
    #[serde(default)]
    pub verifies: Option<bool>,
    /// Further headers, in order, repeated lines apart.
    #[serde(default)]
    pub headers: Vec<(Text, Text)>,
    /// Trailers; a case with trailers expects [`Upstream::removed_trailers`].
    #[serde(default)]
    pub trailers: Vec<(Text, Text)>,
}

/// What a proxy tells of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Told {
    /// Whether something is so.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// The proxy fails to tell.
    Fault {
        /// Always true.
        fault: bool,
    },
}

/// A number that the proxy tells.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// What the proxy tells.
    Number(u64),
    /// The proxy fails to tell one.
    Fault {
        /// Always true.
        fault: bool,
    },
}

/// A client's address.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum From {
    /// What the proxy tells.
    Address(Text),
    /// The proxy fails to tell one.
    Fault {
        /// Always true.
        fault: bool,
    },
}

/// Bytes: text as it is, hex, or a repetition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// The text's bytes.
    Plain(String),
    /// `{hex: "ff00"}`
    Hex {
        /// Pairs of hex digits.
        #[serde(deserialize_with = "hex")]
        hex: Vec<u8>,
    },
    /// `{repeat: "a", times: 1000}`
    Repeat {
        /// What is repeated.
        repeat: String,
        /// How often.
        times: usize,
    },
}

impl Text {
    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Hex { hex } => hex.clone(),
            Self::Repeat { repeat, times } => repeat.repeat(*times).into_bytes(),
        }
    }
}

/// What must become of a request. Whatever is absent is not compared, but `status`: absent means that it is allowed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Whether the request goes on to its route.
    #[serde(default)]
    pub allow: Option<bool>,
    /// The status of the gateway's own answer.
    #[serde(default)]
    pub status: Option<u16>,
    /// The reason, [`portcullis_engine::denial::Reason::as_str`].
    #[serde(default)]
    pub reason: Option<String>,
    /// The policy that decided.
    #[serde(default)]
    pub policy: Option<String>,
    /// The rule that decided; `""` for none.
    #[serde(default)]
    pub rule: Option<String>,
    /// The verified identity; `""` for none.
    #[serde(default)]
    pub principal: Option<String>,
    /// The gateway's own answer's body.
    #[serde(default)]
    pub body: Option<String>,
    /// What the backend receives.
    #[serde(default)]
    pub upstream: Option<Upstream>,
    /// What the client receives.
    #[serde(default)]
    pub response: Option<Response>,
    /// What the policy in shadow would have done.
    #[serde(default)]
    pub shadow: Option<Shadow>,
    /// Whether the route is selected again. Seen only by the engine.
    #[serde(default)]
    pub clear_route_cache: Option<bool>,
    /// Whether the request goes on without a single edit. Seen only by the engine.
    #[serde(default)]
    pub untouched: Option<bool>,
    /// The document is refused as a whole with this reason, before any request.
    #[serde(default)]
    pub decode: Option<String>,
    /// The policy does not compile.
    #[serde(default)]
    pub error: Option<ExpectedError>,
}

/// What the policy in shadow would have done; whatever is absent is not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The policy.
    #[serde(default)]
    pub policy: Option<String>,
    /// Why the request would have ended so, [`portcullis_engine::denial::Reason::as_str`].
    pub reason: String,
    /// The rule that would have decided; `""` for none.
    #[serde(default)]
    pub rule: Option<String>,
}

/// Why a policy does not compile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedError {
    /// [`portcullis_engine::policy::PolicyError::path`].
    pub path: String,
    /// [`portcullis_engine::policy::PolicyError::code`].
    pub code: String,
    /// [`portcullis_engine::policy::PolicyError::fix`].
    #[serde(default)]
    pub fix: Option<String>,
}

/// What the backend receives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The path with its query.
    #[serde(default)]
    pub path: Option<Text>,
    /// Every line of these headers, by lower-case name.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// Headers that do not reach the backend.
    #[serde(default)]
    pub removed: Vec<String>,
    /// Trailers that do not reach the backend.
    #[serde(default)]
    pub removed_trailers: Vec<String>,
}

/// What the client receives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Headers that the backend sent, for an allowed request.
    #[serde(default)]
    pub given: Vec<(Text, Text)>,
    /// Every line of these headers, by lower-case name.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// Headers that do not reach the client.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// The lines of one header: one value, or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Lines {
    /// One line.
    One(Text),
    /// Several, in order.
    Many(Vec<Text>),
}

impl Lines {
    /// Returns the values.
    #[must_use]
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::One(text) => vec![text.bytes()],
            Self::Many(texts) => texts.iter().map(Text::bytes).collect(),
        }
    }
}

/// Reads a file of cases.
///
/// # Errors
/// What is wrong with the YAML or its fields.
pub fn parse(text: &str) -> Result<Vec<Group>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}

impl Group {
    /// Returns the serialized document, as a controller writes it.
    ///
    /// # Errors
    /// Why the policy cannot be serialized.
    pub fn document_bytes(&self) -> Result<Vec<u8>, String> {
        let mut policy = self.policy.clone();
        parse_expressions(&mut policy)?;
        serde_json::to_vec(&policy).map_err(|error| error.to_string())
    }

    /// Returns the serialized secrets, as a controller writes them.
    ///
    /// # Errors
    /// Why the secrets cannot be serialized.
    pub fn secrets_bytes(&self) -> Result<Vec<u8>, String> {
        match &self.secrets {
            Some(secrets) => serde_json::to_vec(secrets),
            None => serde_json::to_vec(&self.hashed_secrets()?),
        }
        .map_err(|error| error.to_string())
    }

    /// Returns the document.
    ///
    /// # Errors
    /// Why the policy is none.
    pub fn document(&self) -> Result<Document, String> {
        serde_json::from_slice(&self.document_bytes()?).map_err(|error| error.to_string())
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

    fn hashed_secrets(&self) -> Result<Secrets, String> {
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
        let nested = |name| Some(Box::new(for_policy(&all, self.policy.get(name)?)));
        let (baseline, shadow) = (nested("baseline"), nested("shadow"));
        let own = match (&baseline, &shadow) {
            (None, None) => all,
            _ => for_policy(&all, &self.policy),
        };
        Ok(Secrets {
            baseline,
            shadow,
            ..own
        })
    }
}

impl Request {
    /// Returns the head as the engine receives it.
    #[must_use]
    pub fn head(&self) -> RequestHead {
        let pseudo = [
            (":method", &self.method),
            (":path", &self.path),
            (":authority", &self.authority),
            (":scheme", &self.scheme),
        ];
        let pseudo = pseudo.map(|(name, value)| (name.as_bytes().to_vec(), value.bytes()));
        let others = self.headers.iter().map(|(name, value)| (name.bytes(), value.bytes()));
        RequestHead {
            headers: pseudo.into_iter().chain(others).collect(),
        }
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

fn get() -> Text {
    Text::Plain("GET".to_owned())
}

fn root() -> Text {
    Text::Plain("/".to_owned())
}

fn host() -> Text {
    Text::Plain("api.example.com".to_owned())
}

fn http() -> Text {
    Text::Plain("http".to_owned())
}

fn loopback() -> From {
    From::Address(Text::Plain("127.0.0.1:50000".to_owned()))
}

const fn in_2026() -> Answer {
    Answer::Number(1_790_000_000_000_000_000)
}

const fn zero() -> Answer {
    Answer::Number(0)
}

fn hex<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    match bytes.collect::<Option<_>>() {
        Some(bytes) if rest.is_empty() => Ok(bytes),
        _ => Err(serde::de::Error::custom("not pairs of hex digits")),
    }
}
