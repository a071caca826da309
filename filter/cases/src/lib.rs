//! Decisions as data: the files in `filter/engine/testdata/cases`, and how one is run.
//!
//! A file holds YAML documents, each a [`Group`]: a policy, its keys and [`Case`]s. The same files are run natively, in
//! wasm32 and, all but those marked otherwise, as real requests through a real proxy.

mod group;
mod run;
mod tokens;

use std::collections::BTreeMap;

use portcullis_engine::{
    geography::{Field, Geography},
    http::RequestHead,
};
use serde::Deserialize;

pub use group::{Delivered, Group, Key, KeyServer, Next};
pub use run::{Decided, decide, decide_in, run};
pub use tokens::{KeySet, Token};

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
    /// What databases say of the client's place, by [`Field::name`]; absent where the proxy has none.
    #[serde(default)]
    pub geography: Option<BTreeMap<String, String>>,
    /// What the proxy has databases for; all fields where it is absent.
    #[serde(default)]
    pub databases: Option<String>,
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
            geography: self.told_places(),
        }
    }

    fn told_places(&self) -> Option<Geography> {
        let told = self.geography.as_ref()?;
        let served = match &self.databases {
            None => Field::ALL.to_vec(),
            Some(names) => Geography::served(names.as_bytes()),
        };
        let lines = told.iter().map(|(name, value)| {
            let name = format!("{}{name}", portcullis_engine::geography::PREFIX);
            (name.into_bytes(), value.clone().into_bytes())
        });
        let mut geography = Geography::new(served);
        geography.take(&mut lines.collect());
        Some(geography)
    }
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
