//! What must hold for any bytes: one check a parser, and one for whole transactions. Fuzzers and tests share them.

mod oracle;
mod scenario;

use portcullis_engine::{
    address,
    denial::Reason,
    document::Document,
    http::{
        cookie,
        origin::{Origin, Pattern},
        query,
    },
    policy, seal,
};

/// A check of any bytes; panics when it does not hold.
pub(crate) type Check = fn(&[u8]);

/// The checks by the names of their fuzz targets.
pub(crate) const ALL: &[(&str, Check)] = &[
    ("address", address),
    ("cookie", cookie),
    ("document", document),
    ("origin", origin),
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

/// Bytes that stand for a policy and a request: the decision is the oracle's, and so is what goes upstream.
pub(crate) fn transaction(data: &[u8]) {
    reason(data);
}

/// As [`transaction`], and tells how the request ended.
pub(crate) fn reason(data: &[u8]) -> Reason {
    scenario::Scenario::read(data).check()
}
