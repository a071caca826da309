//! A policy and a request made of bytes, from vocabularies small enough that they meet.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use portcullis_engine::{
    cases::apply,
    denial::Reason,
    document::{
        Action, ApiClient, ApiKey, Authorization, BasicAuth, Cors, Csrf, Document, Fraction, KeySource, Method, Rule,
        Secrets, User, VERSION,
    },
    host::{Fault, Host},
    policy::{Policy, decode},
    seal,
    step::{Outcome, Step},
    transaction::{RequestHead, ResponseHead, Stage, Transaction},
    worker::Worker,
};
use sha2::{Digest, Sha256};

use super::{forgery, oracle};

const KEYS: &[(&str, &[u8])] = &[
    ("alice", b"alice-key"),
    ("bob", b"bob-key"),
    ("carol", b"Bearer alice-key"),
    ("dan", b"a&b=c"),
    ("eve", b"\"q\""),
];
/// Names, passwords, and the SHA-1 of these.
const USERS: &[(&str, &[u8], &str)] = &[
    ("alice", b"x", "{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI="),
    ("bob", b"", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
];
const NETWORKS: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "::ffff:10.1.0.0/112",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
];
const ADDRESSES: &[&str] = &[
    "10.1.2.3:80",
    "10.2.0.1",
    "192.0.2.1:1",
    "[::ffff:10.1.9.9]:5",
    "[2001:db8::1]:443",
    "::1",
    "",
    "junk",
    "10.1.2.3:99999",
];
const NAMES: &[&str] = &[
    "x-api-key",
    "X-Api-Key",
    "x_api_key",
    "authorization",
    "cookie",
    "Cookie",
    "origin",
    "x-client-id",
    "X_Client_Id",
    "x-user",
    "referer",
    "sec-fetch-site",
    "upgrade",
    "connection",
    "x-envoy-retry-on",
    "access-control-request-method",
    "host",
    "accept",
];
const VALUES: &[&str] = &[
    "alice-key",
    "bob-key",
    "Bearer alice-key",
    "bearer  alice-key",
    "key=alice-key; a=1",
    "a=1;key=\"bob-key\"",
    "key=",
    "https://a.example",
    "https://b.example",
    "x-client-id, close",
    "",
    "GET",
    "\"q\"",
    "wrong",
];
const CREDENTIALS: &[&str] = &[
    "Bearer alice-key",
    "Basic YWxpY2U6eA==",
    "basic  YWxpY2U6eA",
    "Basic Ym9iOg==",
    "Basic YWxpY2U6eQ==",
    "Basic YWxpY2U=",
    "Basic YWxpY2U6eB==",
    "Basic\tYWxpY2U6eA==",
    "",
];
const PLACES: &[&str] = &[
    "https://a.example",
    "https://b.a.example:443",
    "https://API.example.com",
    "https://api.example.com:8443",
    "http://api.example.com",
    "https://api.example.com/page",
    "null",
    "",
];
const SITES: &[&str] = &["same-origin", "same-site", "cross-site", "none", "other"];
const PATHS: &[&str] = &[
    "/",
    "/?key=alice-key",
    "/o?a=1&key=bob-key&b=%41",
    "/?%6bey=alice%2dkey",
    "/?key=wrong&key=alice-key",
    "/?key=a%26b=c&&",
    "/?key=Bearer alice-key",
    "?",
    "",
    "/o/..;a=1/%6b?key=alice-key",
];
const ORIGINS: &[&str] = &["*", "https://*", "https://a.example", "https://*.a.example"];

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    fn flip(&mut self) -> bool {
        self.next() % 2 == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() % from.len()]
    }

    fn some<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        (0..self.next() % 4).map(|_| self.pick(from)).collect()
    }

    /// A word of the vocabulary, or raw bytes.
    fn text(&mut self, vocabulary: &[&str]) -> Vec<u8> {
        let length = self.next() % 32;
        if length > 8 {
            return self.pick(vocabulary).into();
        }
        let (raw, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        raw.to_vec()
    }
}

/// How a request ends.
struct End {
    reason: Reason,
    client: Option<&'static str>,
    user: Option<&'static str>,
}

impl End {
    fn of(reason: Reason) -> Self {
        Self {
            reason,
            client: None,
            user: None,
        }
    }
}

pub(crate) struct Scenario {
    document: Document,
    keys: Vec<(&'static str, &'static [u8])>,
    users: Vec<(&'static str, &'static [u8], &'static str)>,
    head: RequestHead,
    address: Option<Vec<u8>>,
}

impl Host for Scenario {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        self.address.clone().ok_or(Fault)
    }

    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(Some(8443))
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(1_790_000_000_000_000_000)
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

impl Scenario {
    pub(crate) fn read(data: &[u8]) -> Self {
        let mut bytes = Bytes(data);
        let api_key = bytes.flip().then(|| ApiKey {
            extract_from: sources(&mut bytes),
            forward_client_id_header: bytes.flip().then(|| "X-Client-Id".to_owned()),
            sanitize: bytes.flip(),
        });
        let mut keys = if api_key.is_some() {
            bytes.some(KEYS)
        } else {
            Vec::new()
        };
        keys.sort_unstable();
        keys.dedup();
        let authorization = bytes.flip().then(|| Authorization {
            default_action: bytes.pick(&[Action::Allow, Action::Deny]),
            rules: rules(&mut bytes),
        });
        let cors = bytes.flip().then(|| Cors {
            allow_origins: bytes.some(ORIGINS).into_iter().map(str::to_owned).collect(),
            allow_methods: vec![bytes.pick(&["*", "PUT"]).to_owned()],
            allow_credentials: bytes.flip(),
            ..Cors::default()
        });
        let basic_auth = bytes.flip().then(|| BasicAuth {
            forward_username_header: bytes.flip().then(|| "x-user".to_owned()),
        });
        let mut users = if basic_auth.is_some() {
            bytes.some(USERS)
        } else {
            Vec::new()
        };
        users.sort_unstable();
        users.dedup();
        let any_of = if api_key.is_some() && basic_auth.is_some() && bytes.flip() {
            vec![Method::BasicAuth, Method::ApiKey]
        } else {
            Vec::new()
        };
        let csrf = bytes.flip().then(|| Csrf {
            additional_origins: bytes.some(ORIGINS).into_iter().map(str::to_owned).collect(),
            shadow_fraction: (bytes.next() % 4 == 1).then_some(Fraction {
                numerator: 1,
                denominator: 1,
            }),
        });
        let method = bytes.pick(&["GET", "POST", "OPTIONS"]);
        let mut headers = vec![
            (b":method".to_vec(), method.into()),
            (b":path".to_vec(), bytes.text(PATHS)),
            (b":authority".to_vec(), b"api.example.com".to_vec()),
            (b":scheme".to_vec(), b"https".to_vec()),
        ];
        let lines = bytes.next() % 8;
        headers.extend((0..lines).map(|_| {
            let name = bytes.pick(NAMES);
            let values = match name {
                "authorization" if bytes.flip() => CREDENTIALS,
                "origin" | "referer" if bytes.flip() => PLACES,
                "sec-fetch-site" => SITES,
                _ => VALUES,
            };
            (name.into(), bytes.text(values))
        }));
        let address = (bytes.next() % 16 != 1).then(|| bytes.text(ADDRESSES));
        let document = Document {
            version: VERSION,
            policy: "a/b".to_owned(),
            refuse: None,
            cors,
            csrf,
            api_key,
            basic_auth,
            any_of,
            authorization,
            ..Document::default()
        };
        Self {
            document,
            keys,
            users,
            head: RequestHead { headers },
            address,
        }
    }

    /// Checks the decision, and returns its reason.
    pub(crate) fn check(&self) -> Reason {
        let policy = Arc::new(self.compile());
        let mut transaction = Transaction::new(Arc::clone(&policy));
        let step = transaction.on_request(&self.head, self, &mut Worker::default());
        let facts = transaction.facts();
        let expected = self.expected();
        assert_eq!(
            (facts.reason, facts.principal),
            (expected.reason, expected.user.or(expected.client)),
            "{:?} {:?}",
            self.document,
            self.head
        );
        match &step {
            Step::Continue(edits) => {
                assert_eq!((facts.outcome, facts.reason), (Outcome::Allow, Reason::Allowed));
                assert_eq!(transaction.stage(), Stage::Allowed);
                let mut upstream = self.head.headers.clone();
                apply(&edits.headers, &mut upstream);
                self.check_upstream(&policy, upstream, edits.clear_route_cache);
            }
            Step::Reply(reply) => {
                assert_ne!(facts.outcome, Outcome::Allow);
                assert_eq!(reply.reason, facts.reason);
                assert_eq!(transaction.stage(), Stage::Replied);
            }
        }
        self.check_response(&transaction);
        let again = transaction.on_request(&self.head, self, &mut Worker::default());
        assert!(
            matches!(again, Step::Reply(reply) if reply.reason == Reason::HostFault),
            "a second head is refused"
        );
        expected.reason
    }

    fn compile(&self) -> Policy {
        let client = |(id, key): &(&str, &[u8])| ApiClient {
            id: (*id).to_owned(),
            sha256: Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after: None,
        };
        let secrets = Secrets {
            salt: String::new(),
            api_keys: self.keys.iter().map(client).collect(),
            users: self
                .users
                .iter()
                .map(|(name, _, hash)| User {
                    name: (*name).to_owned(),
                    hash: (*hash).to_owned(),
                })
                .collect(),
            ..Secrets::default()
        };
        Policy::compile(&self.document, &secrets).unwrap()
    }

    /// The reason and the identities, by the rules as the documentation has them.
    fn expected(&self) -> End {
        if self
            .lines(":path")
            .first()
            .is_some_and(|path| oracle::has_hidden_step(path))
        {
            return End::of(Reason::PathAmbiguous);
        }
        let origins: Vec<_> = self.lines("origin");
        let asks = self.lines("access-control-request-method");
        if let Some(cors) = &self.document.cors
            && origins.iter().any(|origin| !origin.is_empty()) | (origins.len() > 1)
            && asks.iter().any(|ask| !ask.is_empty()) | (asks.len() > 1)
            && self.lines(":method") == [b"OPTIONS"]
        {
            let allowed = match &origins[..] {
                [origin] => cors.allow_origins.iter().any(|entry| {
                    entry == "*"
                        || ["https://a.example", "https://b.example"]
                            .iter()
                            .any(|known| known.as_bytes() == *origin && oracle::origin_is_allowed(entry, known))
                        || !VALUES.iter().any(|value| value.as_bytes() == *origin) && is_raw_origin(entry, origin)
                }),
                _ => cors.allow_origins.iter().any(|entry| entry == "*"),
            };
            return End::of(if allowed {
                Reason::CorsPreflight
            } else {
                Reason::CorsOriginDenied
            });
        }
        match self.expected_verdict() {
            None => return End::of(Reason::HostFault),
            Some(Action::Deny) => return End::of(Reason::AuthorizationDenied),
            Some(Action::Allow) => {}
        }
        if let Some(csrf) = &self.document.csrf
            && csrf.shadow_fraction.is_none()
            && let Err(reason) = self.forgery(csrf)
        {
            return End::of(reason);
        }
        let (client, user) = (self.expected_client(), self.expected_user());
        let (client, user) = if self.document.any_of.is_empty() {
            match (client, user) {
                (Ok(client), Ok(user)) => (client, user),
                (Err(reason), _) | (_, Err(reason)) => return End::of(reason),
            }
        } else {
            match (client, user) {
                (Ok(client), _) => (client, None),
                (_, Ok(user)) => (None, user),
                (Err(Reason::ApiKeyMissing), Err(Reason::BasicMissing)) => return End::of(Reason::CredentialMissing),
                (Err(reason), Err(Reason::BasicMissing)) | (_, Err(reason)) => return End::of(reason),
            }
        };
        End {
            reason: Reason::Allowed,
            client,
            user,
        }
    }

    fn forgery(&self, csrf: &Csrf) -> Result<(), Reason> {
        let text = |name: &str| -> Vec<String> {
            let latin = |line: &[u8]| line.iter().map(|byte| char::from(*byte)).collect();
            self.lines(name).into_iter().map(latin).collect()
        };
        let claim = forgery::Claim {
            method: text(":method").concat(),
            is_upgrade: self.lines("upgrade").iter().any(|line| !line.is_empty()),
            host: "api.example.com",
            is_secure: true,
            port: 8443,
            origins: text("origin"),
            referers: text("referer"),
            sites: text("sec-fetch-site"),
        };
        claim.judge(&csrf.additional_origins)
    }

    fn expected_user(&self) -> Result<Option<&'static str>, Reason> {
        if self.document.basic_auth.is_none() {
            return Ok(None);
        }
        let (name, password) = oracle::basic(&self.lines("authorization"))?;
        let known = self
            .users
            .iter()
            .find(|(user, known, _)| user.as_bytes() == name && **known == password);
        known.map(|(user, _, _)| Some(*user)).ok_or(Reason::BasicWrong)
    }

    fn expected_verdict(&self) -> Option<Action> {
        let Some(authorization) = &self.document.authorization else {
            return Some(Action::Allow);
        };
        if authorization.rules.is_empty() {
            return Some(authorization.default_action);
        }
        let address = portcullis_engine::address::parse(self.address.as_ref()?);
        let matched = authorization.rules.iter().find(|rule| match address {
            None => rule.action == Action::Deny,
            Some(address) => rule.client_cidrs.iter().any(|network| holds(network, address)),
        });
        Some(matched.map_or(authorization.default_action, |rule| rule.action))
    }

    fn expected_client(&self) -> Result<Option<&'static str>, Reason> {
        let Some(api_key) = &self.document.api_key else {
            return Ok(None);
        };
        let mut presented = false;
        let mut clients = BTreeSet::new();
        for source in &api_key.extract_from {
            let values: BTreeSet<Vec<u8>> = self
                .presented(source)
                .into_iter()
                .filter(|value| !value.is_empty())
                .collect();
            if values.len() > 1 {
                return Err(Reason::ApiKeyUnknown);
            }
            for value in values {
                presented = true;
                let client = |key: &[u8]| self.keys.iter().find(|(_, known)| *known == key).map(|(id, _)| *id);
                let stripped = match source {
                    KeySource::Header(name) if name == "authorization" => {
                        let is_bearer = value.to_ascii_lowercase().starts_with(b"bearer ");
                        is_bearer.then(|| value[7..].trim_ascii_start())
                    }
                    KeySource::Header(_) => value.strip_prefix(b"Bearer "),
                    _ => None,
                };
                clients.extend(stripped.and_then(client).or_else(|| client(&value)));
            }
        }
        match (clients.len(), presented) {
            (1, _) => Ok(clients.first().copied()),
            (0, false) => Err(Reason::ApiKeyMissing),
            _ => Err(Reason::ApiKeyUnknown),
        }
    }

    fn presented(&self, source: &KeySource) -> Vec<Vec<u8>> {
        match source {
            KeySource::Header(name) => self.lines(name).into_iter().map(<[u8]>::to_vec).collect(),
            KeySource::Param(name) => {
                let parameters = self
                    .lines(":path")
                    .first()
                    .map(|path| oracle::parameters(path))
                    .unwrap_or_default();
                parameters
                    .into_iter()
                    .filter(|(_, sent, _)| sent == name.as_bytes())
                    .map(|(_, _, value)| value)
                    .collect()
            }
            KeySource::Cookie(name) => {
                let lines: Vec<_> = self.lines("cookie").into_iter().map(<[u8]>::to_vec).collect();
                oracle::cookies(&lines, name.as_bytes())
            }
        }
    }

    fn lines(&self, name: &str) -> Vec<&[u8]> {
        let named = self
            .head
            .headers
            .iter()
            .filter(|(sent, _)| sent.to_ascii_lowercase() == name.as_bytes());
        named.map(|(_, value)| value.as_slice()).collect()
    }

    fn check_upstream(&self, policy: &Arc<Policy>, upstream: Vec<(Vec<u8>, Vec<u8>)>, cleared: bool) {
        let folded = |name: &[u8]| {
            name.to_ascii_lowercase()
                .iter()
                .map(|byte| if *byte == b'_' { b'-' } else { *byte })
                .collect::<Vec<_>>()
        };
        assert!(!upstream.iter().any(|(name, _)| folded(name).starts_with(b"x-envoy-")));
        let expected = self.expected();
        let (api_key, basic_auth) = (&self.document.api_key, &self.document.basic_auth);
        let client_header = api_key
            .as_ref()
            .and_then(|api_key| api_key.forward_client_id_header.as_ref());
        let user_header = basic_auth
            .as_ref()
            .and_then(|basic_auth| basic_auth.forward_username_header.as_ref());
        let mut guarded = Vec::new();
        for (header, name, verified) in [
            (client_header, &b"x-client-id"[..], expected.client),
            (user_header, b"x-user", expected.user),
        ] {
            if header.is_none() {
                continue;
            }
            guarded.push(name);
            let lines = upstream.iter().filter(|(sent, _)| folded(sent) == name);
            let values: Vec<&[u8]> = lines.map(|(_, value)| value.as_slice()).collect();
            let verified: Vec<&[u8]> = verified.into_iter().map(str::as_bytes).collect();
            assert_eq!(values, verified, "the verified id and nothing that looks like it");
        }
        let sent = |(name, _): &(Vec<u8>, Vec<u8>)| guarded.contains(&&folded(name)[..]);
        assert_eq!(cleared, self.head.headers.iter().any(sent));
        let Some(api_key) = api_key else {
            return;
        };
        if api_key.sanitize {
            let mut again = Transaction::new(Arc::clone(policy));
            let _ = again.on_request(&RequestHead { headers: upstream }, self, &mut Worker::default());
            if self.document.any_of.is_empty() {
                assert_eq!(again.facts().reason, Reason::ApiKeyMissing, "no source is left");
            } else {
                let user = again.facts().principal;
                assert!(
                    user.is_none_or(|user| ["alice", "bob"].contains(&user) && expected.user == Some(user)),
                    "no source is left"
                );
            }
        }
    }

    fn check_response(&self, transaction: &Transaction) {
        let mut response = vec![
            (
                b"access-control-allow-origin".to_vec(),
                b"https://backend.example".to_vec(),
            ),
            (b"access-control-allow-credentials".to_vec(), b"true".to_vec()),
        ];
        apply(
            &transaction.on_response(&ResponseHead { status: 200 }).headers,
            &mut response,
        );
        let line = |wanted: &[u8]| {
            response
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_slice())
        };
        let origins = self.lines("origin");
        let Some(cors) = &self.document.cors else {
            return;
        };
        if origins.iter().all(|origin| origin.is_empty()) && origins.len() < 2 {
            return;
        }
        let credentials = line(b"access-control-allow-credentials").is_some();
        if credentials {
            assert!(cors.allow_credentials);
            assert!(
                cors.allow_origins.iter().any(|entry| entry.ends_with("a.example")),
                "a host is named"
            );
        }
        match line(b"access-control-allow-origin") {
            None => assert!(!credentials),
            Some(b"*") => assert!(cors.allow_origins.iter().any(|entry| entry == "*") && !credentials),
            Some(origin) => assert_eq!(origins, [origin], "never the backend's own"),
        }
    }
}

/// Decides a request to `https://api.example.com` on port 8443.
pub(crate) fn decide(
    document: &[u8],
    secrets: &[u8],
    method: &str,
    headers: impl Iterator<Item = (&'static str, Vec<u8>)>,
) -> Reason {
    let pseudo = [
        (":method", method),
        (":path", "/"),
        (":authority", "api.example.com"),
        (":scheme", "https"),
    ];
    let lines = pseudo
        .into_iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.into()))
        .chain(headers.map(|(name, value)| (name.as_bytes().to_vec(), value)));
    let scenario = Scenario {
        head: RequestHead {
            headers: lines.collect(),
        },
        ..Scenario::read(&[])
    };
    let policy = decode(&seal::hash(document, secrets), document, secrets).unwrap();
    let mut transaction = Transaction::new(Arc::new(policy));
    let _ = transaction.on_request(&scenario.head, &scenario, &mut Worker::default());
    transaction.facts().reason
}

fn sources(bytes: &mut Bytes<'_>) -> Vec<KeySource> {
    let all = [
        KeySource::Header("x-api-key".to_owned()),
        KeySource::Header("authorization".to_owned()),
        KeySource::Param("key".to_owned()),
        KeySource::Cookie("key".to_owned()),
    ];
    let chosen = bytes.next();
    let some: Vec<_> = all
        .iter()
        .enumerate()
        .filter(|(index, _)| chosen >> index & 1 == 1)
        .map(|(_, source)| source.clone())
        .collect();
    if some.is_empty() { all.to_vec() } else { some }
}

fn rules(bytes: &mut Bytes<'_>) -> Vec<Rule> {
    (0..bytes.next() % 4)
        .map(|index| Rule {
            name: format!("rule-{index}"),
            action: bytes.pick(&[Action::Allow, Action::Deny]),
            methods: Vec::new(),
            path: None,
            headers: Vec::new(),
            client_cidrs: [bytes.pick(NETWORKS)]
                .into_iter()
                .chain(bytes.some(NETWORKS))
                .map(str::to_owned)
                .collect(),
        })
        .collect()
}

fn holds(network: &str, address: IpAddr) -> bool {
    let network = match network {
        "::ffff:10.1.0.0/112" => "10.1.0.0/16",
        other => other,
    };
    network
        .parse::<IpNet>()
        .unwrap()
        .trunc()
        .contains(&address.to_canonical())
}

/// An origin of raw bytes; the parser has a check of its own.
fn is_raw_origin(entry: &str, origin: &[u8]) -> bool {
    portcullis_engine::http::origin::Origin::parse(origin)
        .is_some_and(|_| oracle::origin_is_allowed(entry, std::str::from_utf8(origin).unwrap()))
}
