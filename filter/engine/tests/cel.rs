//! What expressions are worth: by hand, and beside the `cel` crate, whose parser the controller uses.
#![cfg(not(target_family = "wasm"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::HashMap, sync::Arc};

use cel::{Context, Program};
use portcullis_cases::{self as cases, Decided, Request};
use portcullis_engine::{
    cel::source,
    document::{Document, Secrets},
    policy::{Policy, PolicyError},
    step::Step,
};
use serde_json::{Value, json};

/// What an expression is worth: true, false, or an error.
type Worth = Option<bool>;

fn policy(text: &str, action: &str) -> Result<Policy, PolicyError> {
    let cel = source::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let default = if action == "Allow" { "Deny" } else { "Allow" };
    let document: Document = serde_json::from_value(json!({
        "version": 1, "policy": "a/b",
        "authorization": {"defaultAction": default, "rules": [{"name": "r", "action": action, "cel": cel}]},
    }))
    .unwrap();
    Policy::compile(&document, &Secrets::default())
}

fn allowed(policy: Policy, request: &Request) -> bool {
    let Decided { step, .. } = cases::decide(&Arc::new(policy), request);
    matches!(step, Step::Continue(_))
}

/// An error makes no rule that allows match, and each that denies.
fn worth(text: &str, request: &Request) -> Worth {
    let compile = |action| policy(text, action).unwrap_or_else(|error| panic!("{text}: {error}"));
    match (allowed(compile("Allow"), request), !allowed(compile("Deny"), request)) {
        (true, true) => Some(true),
        (false, false) => Some(false),
        (false, true) => None,
        (true, false) => panic!("{text}: allows, and does not deny"),
    }
}

fn request(value: Value) -> Request {
    serde_json::from_value(value).unwrap()
}

fn plain() -> Request {
    request(json!({
        "method": "POST",
        "path": "/shop/orders?id=7&x=a#b",
        "authority": "api.example.com",
        "from": "10.0.0.7:4000",
        "port": 8443,
        "headers": [
            ["X-Role", "admin"], ["x-many", "a"], ["x-many", "b"], ["referer", "https://a.example/"],
            ["user-agent", "curl/8"], ["x-request-id", "id-1"], ["content-length", "42"], ["x-size", "7"],
            ["x-time", "2026-11-28T18:00:00Z"], ["x-raw", {"hex": "61ff62"}], ["x-umlaut", "äöü"],
        ],
        "attributes": {
            "request.protocol": "HTTP/1.1", "source.port": 4000, "destination.address": "10.0.0.1:8443",
            "connection.mtls": true, "connection.requested_server_name": "api.example.com",
            "connection.tls_version": "TLSv1.3", "connection.id": 9,
            "connection.subject_peer_certificate": "CN=client",
        },
        "verifies_certificates": true,
        // Saturday, 2026-11-28 18:30:15.250 UTC
        "now": 1_795_890_615_250_000_000_u64,
    }))
}

#[test]
fn variables_are_what_envoy_makes_of_a_request() {
    for (text, expected) in [
        ("request.method == 'POST'", Some(true)),
        ("request.path == '/shop/orders?id=7&x=a#b'", Some(true)),
        ("request.url_path == '/shop/orders'", Some(true)),
        ("request.query == 'id=7&x=a'", Some(true)),
        ("request['method'] == 'POST'", Some(true)),
        ("request.host == 'api.example.com'", Some(true)),
        ("request.scheme == 'http'", Some(true)),
        ("request.referer == 'https://a.example/'", Some(true)),
        ("request.useragent.startsWith('curl/')", Some(true)),
        ("request.id == 'id-1'", Some(true)),
        ("request.size == 42", Some(true)),
        ("request.protocol == 'HTTP/1.1'", Some(true)),
        ("request.headers['x-role'] == 'admin'", Some(true)),
        ("request.headers['X-ROLE'] == 'admin'", Some(true)),
        ("request.headers.referer == request.referer", Some(true)),
        ("request.headers['x-many'] == 'a,b'", Some(true)),
        ("request.headers[':method'] == 'POST'", Some(true)),
        ("request.headers[':path'] == request.path", Some(true)),
        ("request.headers['host'] == 'api.example.com'", Some(true)),
        ("request.headers['x-absent'] == 'a'", None),
        ("request.headers['x-absent'] != 'a'", None),
        ("!(request.headers['x-absent'] == 'a')", None),
        ("'x-absent' in request.headers", Some(false)),
        ("'x-role' in request.headers", Some(true)),
        ("has(request.headers.referer)", Some(true)),
        ("has(request.headers.absent)", Some(false)),
        ("has(request.referer)", Some(true)),
        ("has(request.method)", Some(true)),
        ("source.address == '10.0.0.7:4000'", Some(true)),
        ("source.port == 4000", Some(true)),
        ("destination.port == 8443", Some(true)),
        ("destination.address == '10.0.0.1:8443'", Some(true)),
        ("connection.mtls", Some(true)),
        ("connection.requested_server_name == 'api.example.com'", Some(true)),
        ("connection.tls_version == 'TLSv1.3'", Some(true)),
        ("connection.id == 9u", Some(true)),
        ("connection.subject_peer_certificate == 'CN=client'", Some(true)),
        ("connection.uri_san_peer_certificate == 'a'", None),
        ("has(connection.uri_san_peer_certificate)", Some(false)),
        ("request.time > timestamp('2026-11-28T18:00:00Z')", Some(true)),
        (
            "request.time.getHours() == 18 && request.time.getMinutes() == 30",
            Some(true),
        ),
        ("request.time.getHours('+05:30') == 0", Some(true)),
        ("request.time.getHours('-01:00') == 17", Some(true)),
        ("request.time.getDayOfWeek() == 6", Some(true)),
        ("request.time.getDayOfWeek('+06:00') == 0", Some(true)),
        ("request.time.getFullYear() == 2026", Some(true)),
        (
            "request.time.getMonth() == 10 && request.time.getDate() == 28",
            Some(true),
        ),
        (
            "request.time.getDayOfMonth() == 27 && request.time.getDayOfYear() == 331",
            Some(true),
        ),
        (
            "request.time.getSeconds() == 15 && request.time.getMilliseconds() == 250",
            Some(true),
        ),
        (
            "request.time - timestamp(request.headers['x-time']) == duration('30m15.25s')",
            Some(true),
        ),
        ("request.time - duration('1h') < request.time", Some(true)),
        ("int(request.time) == 1795890615", Some(true)),
    ] {
        assert_eq!(worth(text, &plain()), expected, "{text}");
    }
}

#[test]
fn errors_are_errors() {
    for (text, expected) in [
        // Overflow, division by zero, and what has no number.
        ("9223372036854775807 + request.size > 0", None),
        ("-9223372036854775808 - request.size < 0", None),
        ("9223372036854775807 * request.size > 0", None),
        ("1 / (request.size - 42) == 1", None),
        ("1 % (request.size - 42) == 1", None),
        ("(-9223372036854775808 + request.size - 42) / -1 > 0", None),
        ("-(-9223372036854775808 + request.size - 42) > 0", None),
        ("int(request.method) == 1", None),
        ("int(request.headers['x-size']) == 7", Some(true)),
        ("double(request.headers['x-size']) == 7.0", Some(true)),
        ("uint(request.headers['x-size']) == 7u", Some(true)),
        ("uint(request.size - 43) == 7u", None),
        ("timestamp(request.method) > request.time", None),
        (
            "timestamp(request.time.getFullYear() * 1000000000000) > request.time",
            None,
        ),
        ("duration(request.method) > duration('1s')", None),
        (
            "request.time + duration('100000h') + duration('70000000h') > request.time",
            None,
        ),
        // Types that only the request tells.
        ("dyn(request.method)", None),
        ("dyn(request.method) && true", None),
        ("!dyn(1)", None),
        ("dyn(request.method) > 1", None),
        ("dyn(request.method) == 1", Some(false)),
        ("dyn(1) == 1.0", Some(true)),
        ("dyn(request.method) + dyn('x') == 'POSTx'", None),
        ("[1, 2][request.size] == 1", None),
        ("[1, 2][dyn('a')] == 1", None),
        ("{'POST': 1}[request.method] == 1", Some(true)),
        ("{'GET': 1}[request.method] == 1", None),
        ("dyn({'a': {'b': 1}}).a.b == 1", Some(true)),
        ("has(dyn({'a': {'b': 1}}).a.c)", Some(false)),
        ("has(dyn({'a': {'b': 1}}).c.b)", None),
        ("has(dyn(1).a)", None),
        ("{request.method: 1, 'POST': 2}['POST'] == 1", None),
        // Absorbed by what decides alone.
        ("request.headers['x-absent'] == 'a' || true", Some(true)),
        ("true || request.headers['x-absent'] == 'a'", Some(true)),
        ("request.headers['x-absent'] == 'a' && false", Some(false)),
        ("request.headers['x-absent'] == 'a' || false", None),
        ("request.headers['x-absent'] == 'a' && true", None),
        (
            "connection.mtls ? true : request.headers['x-absent'] == 'a'",
            Some(true),
        ),
        ("(request.headers['x-absent'] == 'a') ? true : true", None),
        // What is no UTF-8 has no length and no pattern, and is compared byte by byte.
        (
            "request.headers['x-raw'].startsWith('a') && request.headers['x-raw'].endsWith('b')",
            Some(true),
        ),
        ("request.headers['x-raw'].contains('b')", Some(true)),
        ("request.headers['x-raw'].contains('c')", Some(false)),
        ("request.headers['x-raw'] == 'ab'", Some(false)),
        ("size(request.headers['x-raw']) == 3", None),
        ("request.headers['x-raw'].matches('a')", None),
        ("size(request.headers['x-umlaut']) == 3", Some(true)),
        ("request.headers['x-umlaut'].matches('^.ö.$')", Some(true)),
        ("request.headers['x-umlaut'].contains('ö')", Some(true)),
        // Patterns match a part.
        ("request.method.matches('OS')", Some(true)),
        ("request.method.matches('^OS')", Some(false)),
        ("request.method.matches('(?i)^post$')", Some(true)),
        ("request.method.matches('')", Some(true)),
    ] {
        assert_eq!(worth(text, &plain()), expected, "{text}");
    }
}

#[test]
fn lists_are_gone_through() {
    for (text, expected) in [
        ("[1, 2, 3].exists(x, x > request.size - 40)", Some(true)),
        ("[1, 2, 3].all(x, x > request.size - 42)", Some(true)),
        ("[1, 2, 3].all(x, x > request.size - 41)", Some(false)),
        ("[1, 2, 3].exists_one(x, x > request.size - 40)", Some(true)),
        ("[1, 2, 3].filter(x, x > 1).size() == 2", Some(true)),
        ("[1, 2, 3].map(x, x * 2) == [2, 4, 6]", Some(true)),
        ("[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]", Some(true)),
        ("{'a': 1, 'b': 2}.exists(key, key == 'b')", Some(true)),
        ("[0, 1].exists(x, 1 / x == 1)", Some(true)),
        ("[0, 1].all(x, 1 / x == 2)", Some(false)),
        ("[0, 1].all(x, 1 / x == 1)", None),
        ("[0, 1].exists_one(x, 1 / x == 1)", None),
        ("[[1], [2]].exists(x, x.exists(y, y == 2))", Some(true)),
        ("['/a', '/shop/'].exists(p, request.url_path.startsWith(p))", Some(true)),
        ("request.method in ['GET', 'POST']", Some(true)),
        ("request.size in [41.0, 42.0]", Some(true)),
        ("request.method in {'POST': 0}", Some(true)),
        ("[1, 'a', null, true].exists(x, x == null)", Some(true)),
        ("dyn(1).exists(x, true)", None),
    ] {
        assert_eq!(worth(text, &plain()), expected, "{text}");
    }
}

#[test]
fn one_request_costs_only_so_much() {
    let list = format!("[{}]", vec!["1"; 200].join(","));
    let long = request(json!({"headers": [["x-a", {"repeat": "a", "times": 60000}]]}));
    let repeated = format!("[{}]", vec!["request.headers['x-a']"; 150].join(","));
    for (text, expected) in [
        (format!("{list}.all(x, {list}.all(y, x == y))"), None),
        (format!("{list}.all(x, x == 1)"), Some(true)),
        (format!("{repeated}.all(x, x.contains('b'))"), None),
        (
            format!("{repeated}.map(x, [x, x]).map(x, [x, x]).map(x, [x, x]).size() == 1"),
            None,
        ),
        ("request.headers['x-a'].matches('(a*)*(a*)*(a*)*b')".to_owned(), None),
        ("request.headers['x-a'].matches('b')".to_owned(), Some(false)),
    ] {
        assert_eq!(worth(&text, &long), expected, "{text:.80}");
        let policy = policy(&text, "Deny").unwrap();
        let start = std::time::Instant::now();
        allowed(policy, &long);
        println!("{:?} {text:.60}", start.elapsed());
    }
}

#[test]
fn readings_of_a_path_are_judged_by_how_it_is_tested() {
    let at = |path: &str| request(json!({"path": path}));
    let pairs = [
        // A rule that denies finds every reading, and the slash at the end makes no difference.
        ("request.url_path.startsWith('/admin')", "Deny", "/%2561dmin", false),
        ("request.url_path == '/admin'", "Deny", "/admin;x=1", false),
        ("request.url_path == '/admin'", "Deny", "/admin/", false),
        ("request.path == '/admin?x'", "Deny", "/admin%20?x", false),
        ("request.url_path in ['/admin']", "Deny", "/admin%3fx", false),
        ("request.url_path.matches('^/admin$')", "Deny", "/admin/", false),
        (
            "['/admin'].exists(p, request.url_path == p)",
            "Deny",
            "/%2561dmin",
            false,
        ),
        (
            "!request.url_path.startsWith('/open/')",
            "Deny",
            "/open%252f..%252fadmin",
            false,
        ),
        ("!request.url_path.startsWith('/open/')", "Deny", "/open/a%20b", true),
        ("request.url_path != '/open/'", "Deny", "/open/", true),
        ("request.headers[':path'] == '/admin'", "Deny", "/%2561dmin", false),
        // One that allows goes by what was sent, but for what it excludes.
        ("request.url_path == '/a%20b'", "Allow", "/a%20b", true),
        ("request.url_path == '/a b'", "Allow", "/a%20b", false),
        ("request.url_path == '/admin'", "Allow", "/admin/", false),
        ("!request.url_path.startsWith('/admin')", "Allow", "/%2561dmin", false),
        ("!request.url_path.startsWith('/admin')", "Allow", "/a%20b", true),
        ("request.url_path != '/admin'", "Allow", "/admin;x", false),
    ];
    for (text, action, path, expected) in pairs {
        let policy = policy(text, action).unwrap();
        assert_eq!(allowed(policy, &at(path)), expected, "{action} {text}: {path}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    for (text, code) in [
        ("request", "unknown-variable"),
        ("request.foo == 'a'", "unknown-variable"),
        ("request.duration > duration('1s')", "unknown-variable"),
        ("response.code == 200", "unknown-variable"),
        ("xds.node.id == 'a'", "unknown-variable"),
        ("filter_state['a'] == 'b'", "unknown-variable"),
        ("upstream.address == 'a'", "unknown-variable"),
        ("[1].all(x, y == 1)", "unknown-variable"),
        ("[1].all(x, x == 1) && x == 1", "unknown-variable"),
        ("string(1) == '1'", "unknown-function"),
        ("request.method.lowerAscii() == 'get'", "unknown-function"),
        ("math.abs(1) == 1", "unknown-variable"),
        ("size() == 1", "unknown-function"),
        ("request.method", "cel-type"),
        ("request.size + 1", "cel-type"),
        ("request.method + 'a' == 'GETa'", "cel-type"),
        ("request.method == 1", "cel-type"),
        ("request.method < 1", "cel-type"),
        ("request.size.startsWith('4')", "cel-type"),
        ("!request.method", "cel-type"),
        ("request.method && true", "cel-type"),
        ("request.headers == {}", "cel-type"),
        ("request.headers.exists(x, true)", "cel-type"),
        ("size(request.headers) == 1", "cel-type"),
        ("request.method.foo == 1", "cel-type"),
        ("timestamp('yesterday') < request.time", "cel-type"),
        ("request.time.getHours('Europe/Berlin') == 1", "cel-time-zone"),
        ("request.method.matches(request.path)", "invalid-regex"),
        ("request.method.matches('(')", "invalid-regex"),
        (r"request.method.matches('\\pL')", "invalid-regex"),
        ("request.method.matches('(?=a)')", "invalid-regex"),
        ("request.method.matches('((a{100}){100}){100}')", "regex-too-large"),
        ("[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))", "cel-too-large"),
    ] {
        let error = policy(text, "Allow").err().unwrap_or_else(|| panic!("{text} compiles"));
        assert_eq!(
            (error.path.as_str(), error.code),
            ("authorization.rules[0].cel", code),
            "{text}"
        );
    }
}

#[test]
fn what_is_written_wrong_is_told_with_its_place() {
    for (text, place) in [
        ("request.method ==", Some((1, 18))),
        ("request.method = 'GET'", Some((1, 16))),
        ("a &&\n  b c", Some((2, 5))),
        ("", Some((1, 1))),
        ("b'a' == b'a'", None),
        ("has(1)", None),
        ("Type{a: 1} == 1", None),
        ("'a'.int() == 1", None),
    ] {
        let error = source::parse(text).err().unwrap_or_else(|| panic!("{text} parses"));
        assert_eq!(error.place, place, "{text}: {error}");
    }
    for text in [
        "(".repeat(4000),
        "[".repeat(4000),
        "!".repeat(4000),
        "-".repeat(4000),
        "a.".repeat(2000),
        "a[".repeat(1000),
        "a?".repeat(1000),
        format!("{}1{}", "[".repeat(200), "]".repeat(200)),
        vec!["a"; 1300].join("||"),
        vec!["1"; 1300].join("+"),
        "a".repeat(4097),
    ] {
        if let Ok(parsed) = source::parse(&text) {
            let document = json!({
                "version": 1, "policy": "a/b",
                "authorization": {"defaultAction": "Deny", "rules": [{"name": "r", "action": "Allow", "cel": parsed}]},
            });
            let document: Document = serde_json::from_value(document).unwrap();
            assert!(Policy::compile(&document, &Secrets::default()).is_err(), "{text:.40}");
        }
    }
}

/// The same, by the crate whose parser is used.
fn oracle(text: &str) -> Worth {
    let mut context = Context::default();
    context.add_variable_from_value("request", HashMap::from([("method", "POST"), ("scheme", "http")]));
    match Program::compile(text).unwrap().execute(&context) {
        Ok(cel::Value::Bool(holds)) => Some(holds),
        _ => None,
    }
}

struct Random(u64);

impl Random {
    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from(self.0 >> 33).unwrap() % all.len();
        all.get(place).copied().unwrap()
    }

    fn value(&mut self, depth: u32) -> String {
        let leaf = [
            "0",
            "1",
            "2",
            "-1",
            "9223372036854775807",
            "1u",
            "2u",
            "1.5",
            "2.0",
            "''",
            "'a'",
            "'POST'",
            "true",
            "false",
            "null",
            "request.method",
            "request.scheme",
            "[]",
            "[1, 2]",
            "['a', 1]",
            "{}",
            "{'a': 1}",
            "{1: 'a'}",
        ];
        if depth == 0 {
            return format!("dyn({})", self.pick(&leaf));
        }
        let mut inner = || self.value(depth - 1);
        let (a, b, c) = (inner(), inner(), inner());
        let form = self.pick(&[
            "A == B",
            "A != B",
            "A < B",
            "A >= B",
            "A + B",
            "A - B",
            "A * B",
            "A / B",
            "A % B",
            "-A",
            "!A",
            "A && B",
            "A || B",
            "A ? B : C",
            "A in B",
            "A[B]",
            "size(A)",
            "A.contains(B)",
            "A.startsWith(B)",
            "A.endsWith(B)",
            "[A, B]",
            "{'a': A}",
            "[A, B].exists(x, x == C)",
            "[A, B].all(x, x == C)",
            "[A, B].map(x, x == C)",
            "[A, B].filter(x, x != C)",
            "int(A)",
            "uint(A)",
            "double(A)",
            "has({'a': A}.a)",
            "dyn({'b': A}).b",
            "A.matches('^a')",
        ]);
        format!(
            "dyn({})",
            form.replace('A', "\u{1}")
                .replace('B', "\u{2}")
                .replace('C', "\u{3}")
                .replace('\u{1}', &a)
                .replace('\u{2}', &b)
                .replace('\u{3}', &c)
        )
    }
}

/// Joins texts and lists, which Envoy does not, and what Envoy's and the crate's conversions take otherwise.
fn differs(text: &str) -> bool {
    [" + ", "int(", "double(", "uint("]
        .iter()
        .any(|part| text.contains(part))
}

#[test]
fn the_crate_finds_the_same() {
    let mut random = Random(7);
    let (mut compared, mut apart) = (0, Vec::new());
    for round in 0..3_000 {
        let text = random.value(1 + round % 3);
        let (Ok(_), false) = (policy(&text, "Allow"), differs(&text)) else {
            continue;
        };
        compared += 1;
        let (own, other) = (worth(&text, &plain()), oracle(&text));
        if own != other {
            apart.push(format!("{own:?}, the crate {other:?}: {text}"));
        }
    }
    assert!(compared > 1_000, "{compared} compared");
    assert!(
        apart.is_empty(),
        "{} of {compared}:\n{}",
        apart.len(),
        apart.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}
