//! A policy made of bytes.

use portcullis_engine::{
    cel::source,
    document::{
        self, Action, ApiClient, ApiKey, Authorization, BasicAuth, ClaimMatch, ClaimType, Cors, Csrf, Document,
        Fraction, HeaderMatch, JwtPrincipal, KeySource, Method, PathMatch, PathMatchType, Refuse, Rule, Secrets,
        VERSION,
    },
};
use sha2::{Digest, Sha256};

use super::{Condition, Expression, NOW, bytes::Bytes, rules, token};

/// Clients and their keys.
const KEYS: &[(&str, &[u8])] = &[
    ("alice", b"alice-key"),
    ("bob", b"bob-key"),
    ("carol", b"Bearer alice-key"),
    ("dan", b"a&b=c"),
    ("eve", b"\"q\""),
];
/// The last two have slow hashes.
const USERS: &[User] = &[
    User::new("alice", "x", "{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=", "YWxpY2U6eA=="),
    User::new("alice", "", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "YWxpY2U6"),
    User::new("bob", "", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "Ym9iOg=="),
    User::new("carol", "x", "$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.", "Y2Fyb2w6eA=="),
    User::new("carol", "", "$apr1$s$e2aCb9PLCjZ2t55SoAxXn.", "Y2Fyb2w6"),
];
const POLICIES: &[&str] = &["a/b", "c/d"];
pub(super) const NETWORKS: &[&str] = &[
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "::ffff:10.1.0.0/112",
    "2001:db8::/32",
];
const ORIGINS: &[&str] = &["*", "https://*", "https://a.example", "https://*.a.example"];
const METHODS: &[&str] = &["GET", "post", "OPTIONS", "DELETE"];
const EXACT: &[&str] = &[
    "/admin",
    "/admin",
    "/",
    "/admin/",
    "/o",
    "/a%20b",
    "/admin;v=1",
    "/admin;v=1",
    "/o;v=1/x",
    "/o/%C3%A9",
    "/admin%2541",
];
const WORDS: &[&[u8]] = &[
    b"/admin", b"/", b"/o", b"a", b"n", b"?", b"key", b"%20", b"/o;v=1", b";v", b"\xe9", b".", b"x=1",
];
const CLASSES: &[&[u8]] = &[b"/", b"0123456789", b"nmi", b"?&#", b"\xe9\xc3"];
const HEADERS: &[&str] = &[
    "x-role",
    "X_Role",
    "x-role",
    "host",
    ":authority",
    "x-user",
    "x-client-id",
    "x_who",
    "x-api-key",
    ":method",
];
const HEADER_VALUES: &[&str] = &[
    "admin",
    "guest",
    "guest, admin",
    "admin,guest",
    "",
    "alice",
    "bob",
    "carol",
    "api.example.com",
    "Shop.example.com",
    "GET",
];
const CALLERS: &[&str] = &["alice", "bob", "carol"];
const CLAIMS: &[(&str, ClaimType, &str)] = &[
    ("sub", ClaimType::String, "alice"),
    ("sub", ClaimType::String, "carol"),
    ("roles", ClaimType::StringArray, "admin"),
    ("roles", ClaimType::String, "admin"),
    ("level", ClaimType::String, "7"),
    ("level", ClaimType::String, "9007199254740993"),
    ("team.name", ClaimType::String, "blue"),
    ("scope", ClaimType::StringArray, "write"),
];
const SCOPES: &[&str] = &["read", "write"];
const CLIENT_HEADERS: &[&str] = &["X-Client-Id", "x_who", "X-Api-Key"];
const USER_HEADERS: &[&str] = &["x-user", "X-Who"];

/// Which policy of a request one is: neither every field nor every answer belongs to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Own,
    Baseline,
    Shadow,
}

/// A client whose key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client {
    pub(super) id: &'static str,
    pub(super) key: &'static [u8],
    /// In seconds.
    pub(super) not_after: Option<u64>,
}

/// A user whose password is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct User {
    pub(super) name: &'static str,
    pub(super) password: &'static str,
    pub(super) hash: &'static str,
    /// Name and password, as they are sent.
    pub(super) encoded: &'static str,
}

impl User {
    const fn new(name: &'static str, password: &'static str, hash: &'static str, encoded: &'static str) -> Self {
        Self {
            name,
            password,
            hash,
            encoded,
        }
    }
}

/// A policy without another one in it, and what its secrets are made of.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) document: Document,
    pub(super) clients: Vec<Client>,
    pub(super) users: Vec<User>,
    pub(super) default_action: Option<Action>,
    pub(super) rules: Vec<rules::Rule>,
}

impl Side {
    pub(super) fn read(bytes: &mut Bytes<'_>, party: Party) -> Self {
        let policy = bytes.pick(POLICIES).to_owned();
        let refuse = bytes
            .odds(1, 128)
            .then(|| bytes.pick(&[Refuse::PolicyInvalid, Refuse::FilterTooOld]));
        let api_key = bytes.odds(3, 8).then(|| ApiKey {
            extract_from: sources(bytes),
            forward_client_id_header: bytes.flip().then(|| bytes.pick(CLIENT_HEADERS).to_owned()),
            sanitize: bytes.flip(),
        });
        let clients = if api_key.is_some() { clients(bytes) } else { Vec::new() };
        let basic_auth = bytes.odds(3, 8).then(|| BasicAuth {
            forward_username_header: bytes.flip().then(|| bytes.pick(USER_HEADERS).to_owned()),
        });
        let mut users = if basic_auth.is_some() {
            bytes.few(USERS)
        } else {
            Vec::new()
        };
        users.sort_unstable();
        users.dedup_by_key(|user| user.name);
        let jwt = bytes.odds(3, 8).then(|| token::policy(bytes));
        let is_strict = jwt.as_ref().is_some_and(|jwt| !jwt.optional && !jwt.fail_open);
        let configured = [
            (Method::BasicAuth, basic_auth.is_some()),
            (Method::Jwt, is_strict && bytes.flip()),
            (Method::ApiKey, api_key.is_some()),
        ];
        let mut any_of: Vec<Method> = configured
            .into_iter()
            .filter_map(|(method, is_configured)| is_configured.then_some(method))
            .collect();
        if any_of.len() < 2 || bytes.flip() {
            any_of.clear();
        }
        let csrf = bytes.odds(1, 4).then(|| Csrf {
            additional_origins: bytes.some(ORIGINS).into_iter().map(str::to_owned).collect(),
            shadow_fraction: bytes.odds(1, 4).then(|| Fraction {
                numerator: bytes.pick(&[1, 0, 2]),
                denominator: 2,
            }),
        });
        let cors = (party != Party::Baseline && bytes.odds(3, 8)).then(|| Cors {
            allow_origins: bytes.some(ORIGINS).into_iter().map(str::to_owned).collect(),
            allow_methods: vec![bytes.pick(&["*", "PUT"]).to_owned()],
            allow_credentials: bytes.flip(),
            ..Cors::default()
        });
        let mut side = Self {
            document: Document {
                version: VERSION,
                policy,
                refuse,
                cors,
                csrf,
                api_key,
                basic_auth,
                jwt,
                any_of,
                ..Document::default()
            },
            clients,
            users,
            default_action: None,
            rules: Vec::new(),
        };
        // One header cannot tell two identities.
        let [client, user, _] = side.forwards();
        let any_of = &side.document.any_of;
        if client.is_some()
            && client == user
            && !(any_of.contains(&Method::ApiKey) && any_of.contains(&Method::BasicAuth))
        {
            side.document.basic_auth = Some(BasicAuth::default());
        }
        if bytes.odds(5, 8) {
            side.default_action = Some(bytes.pick(&[Action::Allow, Action::Deny]));
            let told: Vec<String> = side.forwards().into_iter().flatten().map(text).collect();
            let providers: Vec<String> = side
                .document
                .jwt
                .iter()
                .flat_map(|jwt| &jwt.providers)
                .map(|provider| provider.name.clone())
                .collect();
            side.rules = (0..bytes.next() % 5)
                .map(|place| rule(bytes, place, &told, &providers))
                .collect();
        }
        side
    }

    /// The headers that carry the client's id, the user's name and the token's subject, by their folded names.
    pub(super) fn forwards(&self) -> [Option<Vec<u8>>; 3] {
        let client = self.document.api_key.as_ref();
        let client = client.and_then(|api_key| api_key.forward_client_id_header.as_ref());
        let user = self.document.basic_auth.as_ref();
        let user = user.and_then(|basic_auth| basic_auth.forward_username_header.as_ref());
        let subject = self.document.jwt.iter().flat_map(|jwt| &jwt.providers);
        let subject = subject.flat_map(|provider| &provider.claim_to_headers).next();
        let names = [client, user, subject.map(|entry| &entry.header)];
        names.map(|name| name.map(|name| rules::fold(name.as_bytes())))
    }

    /// The same policy, but that it asks for the credentials of another one, and for all of them.
    pub(super) fn asking_as(mut self, other: &Self) -> Self {
        self.document.api_key.clone_from(&other.document.api_key);
        self.document.basic_auth.clone_from(&other.document.basic_auth);
        self.document.any_of.clear();
        let [client, user, _] = self.forwards();
        if client.is_some() && client == user {
            self.document.basic_auth = Some(BasicAuth::default());
        }
        self.clients.clone_from(&other.clients);
        self.users.clone_from(&other.users);
        self
    }

    pub(super) fn without_rule(&self, place: usize) -> Self {
        let mut side = self.clone();
        side.rules.remove(place);
        side
    }

    pub(super) fn document(&self) -> Document {
        Document {
            authorization: self.default_action.map(|default_action| Authorization {
                default_action,
                rules: self.rules.iter().map(|rule| rule.written.clone()).collect(),
            }),
            ..self.document.clone()
        }
    }

    pub(super) fn secrets(&self) -> Secrets {
        let client = |client: &Client| ApiClient {
            id: client.id.to_owned(),
            sha256: Sha256::digest(client.key)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            not_after: client.not_after,
        };
        let user = |user: &User| document::User {
            name: user.name.to_owned(),
            hash: user.hash.to_owned(),
        };
        Secrets {
            api_keys: self.clients.iter().map(client).collect(),
            users: self.users.iter().map(user).collect(),
            key_sets: token::key_sets(self.document.jwt.as_ref()),
            ..Secrets::default()
        }
    }
}

fn clients(bytes: &mut Bytes<'_>) -> Vec<Client> {
    let mut clients: Vec<Client> = bytes
        .few(KEYS)
        .into_iter()
        .map(|(id, key)| Client {
            id,
            key,
            not_after: bytes.odds(1, 4).then(|| bytes.pick(&[NOW, 2 * NOW])),
        })
        .collect();
    clients.sort_unstable();
    clients.dedup_by_key(|client| client.id);
    clients
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

fn text(name: Vec<u8>) -> String {
    String::from_utf8(name).unwrap()
}

/// A rule; `told` are the headers that carry identities, `providers` those who verify tokens.
fn rule(bytes: &mut Bytes<'_>, place: usize, told: &[String], providers: &[String]) -> rules::Rule {
    let owned = |texts: Vec<&str>| -> Vec<String> { texts.into_iter().map(str::to_owned).collect() };
    let conditions = bytes.pick(&[1_u8, 2, 4, 8, 2, 3, 6, 8, 10, 8, 15, 2, 2, 2, 2, 16, 32, 32, 32, 48, 34]);
    let action = bytes.pick(&[Action::Allow, Action::Deny]);
    let has = |place: u8| conditions >> place & 1 == 1;
    let methods = if has(0) { owned(bytes.few(METHODS)) } else { Vec::new() };
    let (path, expression) = if has(1) { path(bytes) } else { (None, None) };
    let client_cidrs = if has(2) { owned(bytes.few(NETWORKS)) } else { Vec::new() };
    let headers = if has(3) {
        (0..=bytes.next() % 2)
            .map(|_| match told {
                [_, ..] if bytes.flip() => HeaderMatch {
                    name: told[bytes.next() % told.len()].clone(),
                    values: owned(bytes.few(CALLERS)),
                },
                _ => HeaderMatch {
                    name: bytes.pick(HEADERS).to_owned(),
                    values: owned(bytes.few(HEADER_VALUES)),
                },
            })
            .collect()
    } else {
        Vec::new()
    };
    let condition = (has(4) || (has(5) && providers.is_empty()))
        .then(|| Condition::of(&mut || bytes.next(), !providers.is_empty(), 2));
    let jwt = (has(5) && !providers.is_empty()).then(|| principal(bytes, providers));
    rules::Rule {
        written: Rule {
            name: format!("rule-{place}"),
            action,
            methods,
            path,
            headers,
            client_cidrs: client_cidrs.iter().collect(),
            geo_locations: Vec::new(),
            certificate: None,
            cel: condition
                .as_ref()
                .map(|condition| source::parse(&condition.written()).unwrap()),
            jwt,
        },
        expression,
        condition,
    }
}

/// What a rule asks of a token.
fn principal(bytes: &mut Bytes<'_>, providers: &[String]) -> JwtPrincipal {
    let claim = |(name, value_type, value): (&str, ClaimType, &str)| ClaimMatch {
        name: name.to_owned(),
        value_type,
        values: vec![value.to_owned()],
    };
    let scopes = bytes.odds(1, 4).then(|| bytes.pick(SCOPES).to_owned());
    let count = bytes.pick(&[1, 1, 2]);
    JwtPrincipal {
        provider: providers[bytes.next() % providers.len()].clone(),
        claims: (0..count).map(|_| claim(bytes.pick(CLAIMS))).collect(),
        scopes: scopes.into_iter().collect(),
    }
}

fn path(bytes: &mut Bytes<'_>) -> (Option<PathMatch>, Option<Expression>) {
    let r#type = bytes.pick(&[
        PathMatchType::Exact,
        PathMatchType::PathPrefix,
        PathMatchType::RegularExpression,
    ]);
    let invert = bytes.odds(3, 8);
    let expression = (r#type == PathMatchType::RegularExpression).then(|| {
        let start = Expression::word(bytes.pick(WORDS));
        let end = if bytes.odds(1, 4) {
            // One segment.
            let others = Expression::Class {
                negated: true,
                bytes: b"/",
            };
            others.repeated()
        } else {
            expression(bytes, 3)
        };
        Expression::Sequence(vec![start, end])
    });
    let expression = match expression {
        Some(Expression::Sequence(parts)) if bytes.odds(1, 8) => Some(Expression::Choice(parts)),
        other => other,
    };
    let value = expression
        .as_ref()
        .map_or_else(|| bytes.pick(EXACT).to_owned(), Expression::written);
    (Some(PathMatch { r#type, value, invert }), expression)
}

fn expression(bytes: &mut Bytes<'_>, depth: usize) -> Expression {
    let kinds = if depth == 0 { 4 } else { 8 };
    match bytes.next() % kinds {
        0 => Expression::Sequence(Vec::new()),
        1 => Expression::word(bytes.pick(WORDS)),
        2 => Expression::Any,
        3 => Expression::Class {
            negated: bytes.flip(),
            bytes: bytes.pick(CLASSES),
        },
        4 => Expression::Choice((0..=bytes.next() % 3).map(|_| expression(bytes, depth - 1)).collect()),
        5 => Expression::Sequence((0..=bytes.next() % 3).map(|_| expression(bytes, depth - 1)).collect()),
        6 => {
            let (least, most) = bytes.pick(&[
                (0, None),
                (1, None),
                (0, Some(1)),
                (2, None),
                (1, Some(2)),
                (2, Some(2)),
                (0, Some(0)),
            ]);
            Expression::Repeat {
                inner: Box::new(expression(bytes, depth - 1)),
                least,
                most,
                lazy: bytes.flip(),
            }
        }
        // What people write.
        _ => {
            let (least, most) = bytes.pick(&[(0, None), (0, Some(1)), (1, None)]);
            Expression::Repeat {
                inner: Box::new(match bytes.pick(b"..anm/") {
                    b'.' => Expression::Any,
                    byte => Expression::Byte(byte),
                }),
                least,
                most,
                lazy: false,
            }
        }
    }
}
