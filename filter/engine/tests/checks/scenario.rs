//! A policy and a request made of bytes, from vocabularies small enough that they meet.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use portcullis_engine::{
    cases::apply,
    denial::Reason,
    document::{Action, ApiClient, ApiKey, Authorization, Cors, Document, KeySource, Rule, Secrets, VERSION},
    host::{Fault, Host},
    policy::Policy,
    step::{Outcome, Step},
    transaction::{RequestHead, ResponseHead, Stage, Transaction},
    worker::Worker,
};
use sha2::{Digest, Sha256};

use super::oracle;

const KEYS: &[(&str, &[u8])] = &[
    ("alice", b"alice-key"),
    ("bob", b"bob-key"),
    ("carol", b"Bearer alice-key"),
    ("dan", b"a&b=c"),
    ("eve", b"\"q\""),
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

pub(crate) struct Scenario {
    document: Document,
    keys: Vec<(&'static str, &'static [u8])>,
    head: RequestHead,
    address: Option<Vec<u8>>,
}

impl Host for Scenario {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        self.address.clone().ok_or(Fault)
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
        let method = bytes.pick(&["GET", "POST", "OPTIONS"]);
        let mut headers = vec![
            (b":method".to_vec(), method.into()),
            (b":path".to_vec(), bytes.text(PATHS)),
            (b":authority".to_vec(), b"api.example.com".to_vec()),
            (b":scheme".to_vec(), b"https".to_vec()),
        ];
        let lines = bytes.next() % 8;
        headers.extend((0..lines).map(|_| (bytes.pick(NAMES).into(), bytes.text(VALUES))));
        let address = (bytes.next() % 16 != 1).then(|| bytes.text(ADDRESSES));
        let document = Document {
            version: VERSION,
            policy: "a/b".to_owned(),
            refuse: None,
            cors,
            api_key,
            authorization,
            ..Document::default()
        };
        Self {
            document,
            keys,
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
            (expected.0, expected.1),
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
        expected.0
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
            ..Secrets::default()
        };
        Policy::compile(&self.document, &secrets).unwrap()
    }

    /// The reason and the identity, by the rules as the documentation has them.
    fn expected(&self) -> (Reason, Option<&'static str>) {
        if self
            .lines(":path")
            .first()
            .is_some_and(|path| oracle::has_hidden_step(path))
        {
            return (Reason::PathAmbiguous, None);
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
            return (
                if allowed {
                    Reason::CorsPreflight
                } else {
                    Reason::CorsOriginDenied
                },
                None,
            );
        }
        match self.expected_verdict() {
            None => return (Reason::HostFault, None),
            Some(Action::Deny) => return (Reason::AuthorizationDenied, None),
            Some(Action::Allow) => {}
        }
        match self.expected_client() {
            Ok(client) => (Reason::Allowed, client),
            Err(reason) => (reason, None),
        }
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
        let Some(api_key) = &self.document.api_key else {
            return;
        };
        if api_key.forward_client_id_header.is_some() {
            let ids: Vec<_> = upstream
                .iter()
                .filter(|(name, _)| folded(name) == b"x-client-id")
                .collect();
            assert_eq!(ids.len(), 1, "one verified id and nothing that looks like it");
            assert_eq!(Some(ids[0].1.as_slice()), self.expected().1.map(str::as_bytes));
            assert_eq!(
                cleared,
                self.head.headers.iter().any(|(name, _)| folded(name) == b"x-client-id")
            );
        }
        if api_key.sanitize {
            let mut again = Transaction::new(Arc::clone(policy));
            let _ = again.on_request(&RequestHead { headers: upstream }, self, &mut Worker::default());
            assert_eq!(again.facts().reason, Reason::ApiKeyMissing, "no source is left");
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
