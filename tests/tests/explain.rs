//! What the gateway answers without a policy's refusal is explained too, and what is explained is held against Envoy: the
//! harness does that in every suite, and here it is shown that it does.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use portcullis_e2e::{
    backend::Backend,
    certificate::Certificate,
    client::{self, Request},
    clock, controller,
    curl::curl,
    denials::{self, Exchange},
    live::Live,
    manifests,
    scratch::Scratch,
};
use serde_json::{Value, json};

const KEY: &str = "key-of-alice";

/// A guarded host, a rule without a backend, and a host of a TLS listener.
fn objects(http: u16, https: u16, backend: &Backend, certificate: &Certificate) -> Vec<Value> {
    let mut nowhere = manifests::route("nowhere", &["shop.example.com"], "/nowhere", "echo");
    nowhere["spec"]["rules"][0]["backendRefs"] = json!([manifests::backend_ref("not-there")]);
    let mut detected = manifests::route("secure", &["secure.example.com"], "/", "echo");
    detected["spec"]["parentRefs"][0]["sectionName"] = "https".into();
    vec![
        manifests::gateway_class(),
        manifests::gateway(&[
            manifests::http_listener("http", http, None),
            manifests::https_listener("https", https, Some("secure.example.com"), "tls"),
            manifests::https_listener("other", https, Some("other.example.com"), "tls"),
        ]),
        manifests::tls_secret("tls", &certificate.certificate, &certificate.key),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", KEY)]),
        manifests::route("orders", &["shop.example.com"], "/orders", "echo"),
        manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
        nowhere,
        detected,
    ]
}

#[test]
fn answers_that_no_policy_gives_are_explained() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let certificate = Certificate::new(&scratch, "tls", &["*.example.com"]);
    let (http, https) = (controller::free_port(), controller::free_port());
    let objects = manifests::file(&objects(http, https, &backend, &certificate));
    let live = Live::start(&[("all.yaml", objects)], &[http, https]);
    let gateway = SocketAddr::from(([127, 0, 0, 1], http));
    let send = |request: &Request| client::once(gateway, request).status;
    let get = |target: &str| Request::get("shop.example.com", target);

    // The route table's own answers: explain request must know each of them.
    assert_eq!(send(&get("/orders")), 401);
    assert_eq!(send(&get("/elsewhere")), 404);
    assert_eq!(send(&get("/nowhere")), 500);
    assert_eq!(send(&Request::get("any.example.com", "/")), 404);
    assert_eq!(send(&Request::get("u@shop.example.com", "/orders")), 400);
    assert_eq!(send(&Request::get("shop.example.com,x", "/orders")), 400);
    // Every character that a host may hold or not, in the middle of one.
    for byte in b' '..=b'~' {
        let host = [b"shop".as_slice(), &[byte], b"example.com"].concat();
        let request = Request::bare("GET", b"/orders").header("host", host);
        let status = send(&request);
        assert!([400, 401, 404].contains(&status), "{:?}: {status}", char::from(byte));
    }
    let over_tls = |host: &str| {
        let header = format!("host: {host}");
        let resolve = format!("secure.example.com:{https}:127.0.0.1");
        let (file, url) = (
            certificate.file.display().to_string(),
            format!("https://secure.example.com:{https}/"),
        );
        let arguments = ["--cacert", &file, "--resolve", &resolve, "-H", &header, &url];
        curl(&[arguments.map(str::to_owned).to_vec()])[0].status
    };
    assert_eq!(over_tls("secure.example.com"), 200);
    assert_eq!(over_tls("other.example.com"), 421);
    assert_eq!(over_tls("shop.example.com"), 421);

    // What Envoy refuses before it looks for a route.
    assert_eq!(send(&get("/orders%2fx")), 307);
    assert_eq!(send(&get("/orders%00")), 400);
    assert_eq!(send(&get("/orders").header("x_under", "1")), 400);
    assert_eq!(send(&Request::bare("GET", b"/orders")), 400);
    assert_eq!(send(&Request::bare("get me", b"/orders")), 400);
    let mut many = get("/orders");
    for number in 0..101 {
        many = many.header(format!("x-{number}"), "1");
    }
    assert_eq!(send(&many), 431);
    assert_eq!(send(&get("/orders").header("x-large", "1".repeat(64 * 1024))), 431);
    let summary = live.envoy.explained();
    for code in ["api_key_missing", "direct_response", "path_normalization_failed"] {
        assert!(summary.codes.contains(code), "{code}: {summary:?}");
    }
    assert!(summary.lines >= 100 && summary.asked >= 8, "{summary:?}");
}

/// A gateway with one guarded route.
fn guarded() -> (Live, SocketAddr) {
    let backend = Backend::start();
    let port = controller::free_port();
    let objects = manifests::file(&[
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("echo", backend.address()),
        manifests::secret("shop", "clients", &[("alice", KEY)]),
        manifests::route("orders", &[], "/orders", "echo"),
        manifests::policy("orders", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
    ]);
    let live = Live::start(&[("all.yaml", objects)], &[port]);
    (live, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// What the end of a gateway is stopped by.
fn stopped_by(live: Live) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(live))) else {
        panic!("nothing is missed");
    };
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn control_a_denial_that_nobody_hands_in_is_missed() {
    let (live, gateway) = guarded();
    let command = format!("curl -s -o /dev/null http://{gateway}/orders");
    let status = std::process::Command::new("bash").args(["-c", &command]).status();
    assert!(status.expect("bash runs").success());
    let text = stopped_by(live);
    assert!(
        text.contains("no client of the harness handed in this request"),
        "{text}"
    );
}

#[test]
fn control_a_denial_that_is_explained_otherwise_is_noticed() {
    let (live, gateway) = guarded();
    let sent = clock::milliseconds();
    let command = format!("curl -s -o /dev/null -H 'x-api-key: guess' http://{gateway}/orders");
    let status = std::process::Command::new("bash").args(["-c", &command]).status();
    assert!(status.expect("bash runs").success());
    // Handed in without the key: explain answers for a request that was never sent.
    denials::record(Exchange {
        to: gateway,
        from: gateway.ip(),
        server_name: None,
        certificate: None,
        method: "GET".to_owned(),
        target: "/orders".to_owned(),
        headers: vec![("host".to_owned(), gateway.to_string().into_bytes())],
        status: 401,
        sent,
        answered: clock::milliseconds(),
    });
    let text = stopped_by(live);
    let expected = "reason: explain \"api_key_missing\", Envoy \"api_key_unknown\"";
    assert!(text.contains(expected), "{text}");
}

#[test]
#[should_panic(expected = "nobody watches it")]
fn control_a_gateway_that_nobody_watches_cannot_refuse() {
    denials::record(Exchange {
        to: SocketAddr::from(([127, 0, 0, 1], 9)),
        from: [127, 0, 0, 1].into(),
        server_name: None,
        certificate: None,
        method: "GET".to_owned(),
        target: "/".to_owned(),
        headers: Vec::new(),
        status: 401,
        sent: 0,
        answered: 0,
    });
}
