//! What goes on to the backend and what goes back, line by line.

use std::collections::BTreeSet;

use portcullis_engine::{
    document::KeySource,
    step::{RequestEdits, apply},
    transaction::{ResponseHead, Transaction},
};

use super::{
    decision::{End, presented_in},
    policy::Side,
    request::{Sent, lines},
    rules::fold,
};
use crate::checks::oracle::{self, trimmed};

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// Holds the edits against what the backend should get: nothing but what the policies ask for is changed.
pub(super) fn check_request(sides: &[&Side], sent: &Sent, end: &End, edits: &RequestEdits) {
    let names: BTreeSet<Vec<u8>> = sides.iter().flat_map(|side| side.forwards()).flatten().collect();
    let mut got = sent.head.headers.clone();
    apply(&edits.headers, &mut got);
    assert_eq!(
        sorted(&got),
        sorted(&expected(sides, sent, end, &names)),
        "{sides:?} {sent:?}"
    );
    let is_identity = |(name, _): &(Vec<u8>, Vec<u8>)| names.contains(&fold(name));
    assert_eq!(edits.clear_route_cache, sent.head.headers.iter().any(is_identity));
    for (source, name) in sources(sides) {
        if !names.contains(&fold(name.as_bytes())) {
            assert_eq!(presented_in(source, &got), [] as [Vec<u8>; 0], "no key is left");
        }
    }
}

/// Trailers lose the headers that tell identities, and nothing else.
pub(super) fn check_trailers(sides: &[&Side], sent: &Sent, transaction: &Transaction) {
    let names: BTreeSet<Vec<u8>> = sides.iter().flat_map(|side| side.forwards()).flatten().collect();
    let mut got = sent.head.headers.clone();
    apply(&transaction.on_request_trailers(&got), &mut got);
    let mut expected = sent.head.headers.clone();
    expected.retain(|(name, _)| !names.contains(&fold(name)));
    assert_eq!(got, expected);
}

/// The sources of keys that are removed, with their names.
fn sources<'a>(sides: &'a [&Side]) -> impl Iterator<Item = (&'a KeySource, &'a str)> {
    let documents = sides.iter().filter_map(|side| side.document.api_key.as_ref());
    let sanitized = documents.filter(|api_key| api_key.sanitize);
    sanitized
        .flat_map(|api_key| &api_key.extract_from)
        .map(|source| match source {
            KeySource::Header(name) | KeySource::Param(name) | KeySource::Cookie(name) => (source, name.as_str()),
        })
}

fn expected(sides: &[&Side], sent: &Sent, end: &End, names: &BTreeSet<Vec<u8>>) -> Lines {
    let mut headers = sent.head.headers.clone();
    headers.retain(|(name, _)| {
        let is_envoys = fold(name).starts_with(b"x-envoy-") && !name.eq_ignore_ascii_case(b"x-envoy-external-address");
        !names.contains(&fold(name)) && !is_envoys
    });
    let options: Vec<Vec<u8>> = sent
        .lines("connection")
        .iter()
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(|option| trimmed(option).to_vec())
        .collect();
    let is_guarded = |option: &Vec<u8>| {
        let option = fold(option);
        names.contains(&option)
            || [&b"host"[..], b"forwarded"].contains(&&option[..])
            || option.starts_with(b"x-forwarded-")
            || option.starts_with(b"x-envoy-")
    };
    if options.iter().any(is_guarded) {
        let kept: Vec<_> = options
            .into_iter()
            .filter(|option| !option.is_empty() && !is_guarded(option))
            .collect();
        replace(&mut headers, b"connection", kept.join(&b", "[..]));
    }
    for (source, name) in sources(sides) {
        match source {
            KeySource::Header(_) => headers.retain(|(sent, _)| sent.to_ascii_lowercase() != name.as_bytes()),
            KeySource::Param(_) => {
                for (_, target) in headers.iter_mut().filter(|(sent, _)| sent == b":path") {
                    *target = oracle::target_without(target, name.as_bytes());
                }
            }
            KeySource::Cookie(_) => {
                let cookies: Vec<Vec<u8>> = lines(&headers, "cookie")
                    .iter()
                    .flat_map(|line| line.split(|byte| *byte == b';'))
                    .map(|cookie| trimmed(cookie).to_vec())
                    .filter(|cookie| !cookie.is_empty())
                    .collect();
                let (removed, kept): (Vec<_>, Vec<_>) = cookies
                    .into_iter()
                    .partition(|cookie| oracle::is_cookie(cookie, name.as_bytes()));
                if !removed.is_empty() {
                    replace(&mut headers, b"cookie", kept.join(&b"; "[..]));
                }
            }
        }
    }
    for (name, value) in end.told.iter().flatten() {
        // The header's own spelling is the policy's.
        headers.push((name.clone(), value.clone().into_bytes()));
    }
    headers
}

/// Puts one line in place of all of that name; an empty one is none.
fn replace(headers: &mut Lines, name: &[u8], value: Vec<u8>) {
    headers.retain(|(sent, _)| sent.to_ascii_lowercase() != name);
    if !value.is_empty() {
        headers.push((name.to_vec(), value));
    }
}

fn sorted(headers: &Lines) -> Lines {
    let mut headers: Lines = headers
        .iter()
        .map(|(name, value)| (fold(name), value.clone()))
        .collect();
    headers.sort();
    headers
}

/// Nobody may read the answer whom the policy does not let read it.
pub(super) fn check_response(own: &Side, sent: &Sent, transaction: &Transaction) {
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
    let line = |wanted: &str| lines(&response, wanted).first().copied();
    let origins = sent.lines("origin");
    let Some(cors) = &own.document.cors else {
        assert_eq!(response.len(), 2, "what the backend says stays as it is");
        return;
    };
    if origins.iter().all(|origin| origin.is_empty()) && origins.len() < 2 {
        return;
    }
    let credentials = line("access-control-allow-credentials").is_some();
    if credentials {
        assert!(cors.allow_credentials);
        assert!(
            cors.allow_origins.iter().any(|entry| entry.ends_with("a.example")),
            "a host is named"
        );
    }
    match line("access-control-allow-origin") {
        None => assert!(!credentials),
        Some(b"*") => assert!(cors.allow_origins.iter().any(|entry| entry == "*") && !credentials),
        Some(origin) => assert_eq!(origins, [origin], "never the backend's own"),
    }
}
