//! What must hold for any bytes: one check a parser, and one for whole transactions. Fuzzers and tests share them.

mod condition;
mod expression;
mod forgery;
mod oracle;
mod readings;
mod rules;
mod scenario;
mod tokens;

use std::sync::Arc;

use portcullis_engine::{
    address,
    cel::source,
    credential::password::PasswordHash,
    denial::Reason,
    document::{Action, Authorization, Document, Expression, Rule, Secrets, VERSION},
    host::{Attribute, Fact, Fault, Host, Signed},
    http::{
        RequestHead, cookie,
        origin::{Origin, Pattern},
        query,
    },
    policy::{self, Policy},
    seal,
    step::Step,
    transaction::Transaction,
    worker::Worker,
};

pub(crate) use tokens::{claims, jwk, jws};

/// A check of any bytes; panics when it does not hold.
pub(crate) type Check = fn(&[u8]);

/// The checks by the names of their fuzz targets.
pub(crate) const ALL: &[(&str, Check)] = &[
    ("address", address),
    ("claims", claims),
    ("condition", condition),
    ("cookie", cookie),
    ("credentials", credentials),
    ("csrf", csrf),
    ("document", document),
    ("jwk", jwk),
    ("jws", jws),
    ("origin", origin),
    ("password", password),
    ("query", query),
    ("transaction", transaction),
];

/// Splits an input at its first NUL: what is configured, and what is sent.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// `document NUL secrets`: whatever is decoded is refused under another name, and is what its serialization says.
pub(crate) fn document(data: &[u8]) {
    let (document, secrets) = split(data);
    let secrets = if secrets.is_empty() { br#"{"salt":""}"# } else { secrets };
    assert!(matches!(
        policy::decode("0123456789abcdef0123456789abcdef", document, secrets),
        Err(Reason::PolicyMismatch | Reason::PolicyUndecodable)
    ));
    if let Ok(policy) = policy::decode(&seal::hash(document, secrets), document, secrets) {
        let read: Document = serde_json::from_slice(document).unwrap();
        assert_eq!(read.policy, policy.name());
        let written = serde_json::to_vec(&read).unwrap();
        assert!(policy::decode(&seal::hash(&written, secrets), &written, secrets).is_ok());
    }
}

/// `entry NUL origin`: an entry matches only what a reading of its text allows.
pub(crate) fn origin(data: &[u8]) {
    let (entry, sent) = split(data);
    let origin = Origin::parse(sent);
    if let Some(origin) = &origin {
        assert!(sent.is_ascii());
        let text = std::str::from_utf8(sent).unwrap();
        let rest = text.split_once("://").unwrap().1;
        assert!(!rest.contains(['/', '?', '#', '@', '%', '\\', ',', ' ', '*']));
        assert!(rest.as_bytes().starts_with(origin.host));
    }
    let Some(pattern) = std::str::from_utf8(entry).ok().and_then(Pattern::parse) else {
        return;
    };
    if let Some(origin) = &origin {
        let entry = std::str::from_utf8(entry).unwrap();
        let sent = std::str::from_utf8(sent).unwrap();
        assert_eq!(
            pattern.matches(origin),
            oracle::origin_is_allowed(entry, sent),
            "{entry} {sent}"
        );
    }
    // An entry without a wildcard is an origin itself, and allows itself.
    if !entry.contains(&b'*') {
        assert!(pattern.matches(&Origin::parse(entry).unwrap()));
    }
}

/// `expression NUL path NUL value`, as written or as a list of nodes: a rule that allows by it and one that denies by it
/// differ only where there is no answer, and then nothing passes.
pub(crate) fn condition(data: &[u8]) {
    let (expression, rest) = split(data);
    let (path, value) = split(rest);
    let Some(expression) = read_condition(expression) else {
        return;
    };
    let written = serde_json::to_vec(&expression).unwrap();
    assert_eq!(serde_json::from_slice::<Expression>(&written).unwrap(), expression);
    let headers = [
        (":method", &b"GET"[..]),
        (":path", path),
        (":authority", b"a"),
        ("x-a", value),
    ];
    let head = RequestHead {
        geography: None,
        headers: headers
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .to_vec(),
    };
    let allowed = |action, default_action| {
        let rule = Rule {
            name: "r".to_owned(),
            action,
            client_cidrs: Default::default(),
            geo_locations: Vec::new(),
            certificate: None,
            methods: Vec::new(),
            path: None,
            headers: Vec::new(),
            jwt: None,
            cel: Some(expression.clone()),
        };
        let document = Document {
            version: VERSION,
            policy: "a/b".to_owned(),
            authorization: Some(Authorization {
                default_action,
                rules: vec![rule],
            }),
            ..Document::default()
        };
        let policy = Policy::compile(&document, &Secrets::default()).ok()?;
        let mut transaction = Transaction::new(Arc::new(policy));
        let step = transaction.on_request(&head, &Silent, &mut Worker::default());
        Some(matches!(step, Step::Continue(_)))
    };
    let (allow, deny) = (
        allowed(Action::Allow, Action::Deny),
        allowed(Action::Deny, Action::Allow),
    );
    assert_eq!(allow.is_some(), deny.is_some());
    // What the rule allows, the same rule denies.
    assert!(allow != Some(true) || deny == Some(false));
}

fn read_condition(text: &[u8]) -> Option<Expression> {
    let nodes = serde_json::from_slice(text).ok();
    nodes.or_else(|| source::parse(std::str::from_utf8(text).ok()?).ok())
}

/// A proxy that knows nothing, but the time.
struct Silent;

impl Host for Silent {
    fn client_address(&self) -> Result<Vec<u8>, Fault> {
        Ok(b"10.0.0.1:1".to_vec())
    }

    fn now(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    fn random(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    fn attribute(&self, attribute: Attribute) -> Result<Option<Fact>, Fault> {
        Ok((attribute == Attribute::RequestTime).then_some(Fact::Number(0)))
    }

    fn verify_signature(&self, _signed: &Signed<'_>) -> Result<bool, Fault> {
        Err(Fault)
    }
}

/// `name NUL target`: what is not removed keeps its bytes and its order.
pub(crate) fn query(data: &[u8]) {
    let (name, target) = split(data);
    let names = [name].into_iter();
    let found = query::split(target)
        .1
        .is_some_and(|query| query::values(query, name).next().is_some());
    let edited = query::without(target, &names);
    assert_eq!(edited.is_some(), found);
    let Some(edited) = edited else {
        return;
    };
    assert_eq!(query::without(&edited, &names), None);
    assert_eq!(query::split(&edited).0, query::split(target).0);
    assert_eq!(edited, oracle::target_without(target, name));
}

/// `name NUL cookies`, with a line for each line: what is not removed keeps its bytes and its order.
pub(crate) fn cookie(data: &[u8]) {
    let (name, text) = split(data);
    let names = [name].into_iter();
    let lines = text.split(|byte| *byte == b'\n');
    let edited = cookie::without(lines.clone(), &names);
    if lines.clone().any(|line| cookie::values(line, name).next().is_some()) {
        assert!(edited.is_some());
    }
    let Some(edited) = edited else {
        return;
    };
    assert_eq!(cookie::without([&edited[..]].into_iter(), &names), None);
    assert!(cookie::values(&edited, name).next().is_none());
    let pieces = |text: &[u8]| -> Vec<Vec<u8>> {
        let pieces = text.split(|byte| matches!(byte, b';' | b'\n'));
        pieces
            .map(|piece| oracle::trimmed(piece).to_vec())
            .filter(|piece| !piece.is_empty())
            .collect()
    };
    let kept: Vec<_> = pieces(text)
        .into_iter()
        .filter(|piece| !oracle::is_cookie(piece, name))
        .collect();
    assert_eq!(pieces(&edited), kept);
}

/// `network NUL address`: a set holds what its network holds.
pub(crate) fn address(data: &[u8]) {
    let (network, sent) = split(data);
    let address = address::parse(sent);
    if let Some(address) = address {
        assert_eq!(address.to_canonical(), address);
        assert_eq!(address::parse(address.to_string().as_bytes()), Some(address));
    }
    if let Some(network) = std::str::from_utf8(network)
        .ok()
        .and_then(|text| address::parse_network(text).ok())
    {
        assert_eq!(network.trunc(), network);
        assert_eq!(address::parse_network(&network.to_string()), Ok(network));
    }
}

/// Lines of `Authorization`: read bit by bit they say the same.
pub(crate) fn credentials(data: &[u8]) {
    let document = br#"{"version":1,"policy":"a/b","basicAuth":{}}"#;
    let secrets = br#"{"salt":"","users":[{"name":"alice","hash":"{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSU="}]}"#;
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let expected = match oracle::basic(&lines) {
        Ok((name, password)) if name == b"alice" && password == b"alice-password" => Reason::Allowed,
        Ok(_) => Reason::BasicWrong,
        Err(reason) => reason,
    };
    let headers = lines.iter().map(|line| ("authorization", line.to_vec()));
    assert_eq!(
        scenario::decide(document, secrets, "GET", headers),
        expected,
        "{lines:?}"
    );
}

/// `entry NUL method NUL origins NUL referers NUL sites`, with a line for each line: judged as the table has it.
pub(crate) fn csrf(data: &[u8]) {
    let mut parts = data
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned());
    let entry = parts.next().unwrap_or_default();
    let method = match parts.next().as_deref() {
        Some("GET") => "GET",
        Some("UPGRADE") => "UPGRADE",
        Some("DELETE") => "DELETE",
        _ => "POST",
    };
    let mut lines = || -> Vec<String> {
        let part = parts.next().unwrap_or_default();
        if part.is_empty() {
            Vec::new()
        } else {
            part.split('\n').map(str::to_owned).collect()
        }
    };
    let (origins, referers, sites) = (lines(), lines(), lines());
    let listed: Vec<String> = Pattern::parse(&entry).map(|_| entry).into_iter().collect();
    let document = serde_json::json!({"version": 1, "policy": "a/b", "csrf": {"additionalOrigins": listed}});
    let headers = [("origin", &origins), ("referer", &referers), ("sec-fetch-site", &sites)];
    let headers = headers
        .into_iter()
        .flat_map(|(name, lines)| lines.iter().map(move |line| (name, line.clone().into_bytes())));
    let upgrade = (method == "UPGRADE").then(|| ("upgrade", b"websocket".to_vec()));
    let sent = if method == "UPGRADE" { "GET" } else { method };
    let got = scenario::decide(
        document.to_string().as_bytes(),
        br#"{"salt":""}"#,
        sent,
        headers.chain(upgrade),
    );
    let claim = forgery::Claim {
        method: sent.to_owned(),
        is_upgrade: method == "UPGRADE",
        host: "api.example.com".to_owned(),
        is_secure: true,
        port: 8443,
        origins: origins.clone(),
        referers: referers.clone(),
        sites: sites.clone(),
    };
    assert_eq!(
        got,
        claim.judge(&listed).err().unwrap_or(Reason::Allowed),
        "{listed:?} {claim:?}"
    );
}

/// A password hash: what is accepted has one spelling, a bounded cost, and cannot be read back.
pub(crate) fn password(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(hash) = PasswordHash::parse(text) else {
        return;
    };
    assert!(hash.cost() <= 110_000, "a tenth of a second");
    assert!(
        ["{SHA}", "$2a$", "$2b$", "$2y$", "$apr1$", "$5$", "$6$"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
    );
    assert_eq!(format!("{hash:?}"), "PasswordHash([redacted])");
    let (start, last) = text.split_at(text.len() - 1);
    for other in ["", ".", "/", "0", "=", " ", "Z", "z", "ab"] {
        if other != last {
            assert_ne!(
                PasswordHash::parse(&format!("{start}{other}")).as_ref(),
                Ok(&hash),
                "{text} {other}"
            );
        }
    }
    if hash.cost() <= 1000 {
        let _ = hash.matches(data);
    }
}

/// Bytes that stand for policies and a request: the decision is the oracle's, and so is what goes upstream.
pub(crate) fn transaction(data: &[u8]) {
    scenarios(data);
}

/// As [`transaction`], and names what was shown.
pub(crate) fn scenarios(data: &[u8]) -> Vec<String> {
    scenario::Scenario::check(data)
}
