//! Spellings of a host, and hosts that differ from the TLS server name: whatever a client writes, it never reaches the
//! backend of a laxer virtual host.

use std::net::SocketAddr;

use portcullis_e2e::{
    backend::Backend,
    certificate::Certificate,
    client::{self, Connection, Request},
    controller,
    curl::{Answer, curl},
    live::Live,
    manifests,
    scratch::Scratch,
};
use serde_json::{Value, json};

const KEY: &str = "key-of-alice";

/// `secure.example.com` has a listener, a route and a policy of its own; every other host is open.
struct Scene {
    lax: Backend,
    strict: Backend,
    http: SocketAddr,
    https: SocketAddr,
    certificate: Certificate,
    // Last: everything above is used by it.
    _live: Live,
    _scratch: Scratch,
}

impl Scene {
    fn start() -> Self {
        let scratch = Scratch::new();
        let certificate = Certificate::new(&scratch, "wild", &["*.example.com"]);
        let (lax, strict) = (Backend::named("lax"), Backend::named("strict"));
        let (http, https) = (controller::free_port(), controller::free_port());
        let to = |mut route: Value, sections: &[&str]| {
            let parent = |section: &&str| json!({"name": "public", "namespace": "edge", "sectionName": section});
            route["spec"]["parentRefs"] = sections.iter().map(parent).collect();
            route
        };
        let listeners = [
            manifests::http_listener("http-any", http, None),
            manifests::http_listener("http-secure", http, Some("secure.example.com")),
            manifests::https_listener("https-any", https, Some("*.example.com"), "wild"),
            manifests::https_listener("https-secure", https, Some("secure.example.com"), "wild"),
        ];
        let objects = [
            manifests::gateway_class(),
            manifests::gateway(&listeners),
            manifests::tls_secret("wild", &certificate.certificate, &certificate.key),
            manifests::backend("lax", lax.address()),
            manifests::backend("strict", strict.address()),
            manifests::secret("shop", "clients", &[("alice", KEY)]),
            to(manifests::route("any", &[], "/", "lax"), &["http-any", "https-any"]),
            to(
                manifests::route("secure", &["secure.example.com"], "/", "strict"),
                &["http-secure", "https-secure"],
            ),
            manifests::policy("secure", json!({"apiKeyAuth": manifests::api_key_auth("clients")})),
        ];
        let live = Live::start(&[("all.yaml", manifests::file(&objects))], &[http, https]);
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            lax,
            strict,
            http: local(http),
            https: local(https),
            certificate,
            _live: live,
            _scratch: scratch,
        }
    }

    /// The arguments of a request over TLS: the server name is `sni`, the host header is `host`.
    fn request(&self, sni: &str, host: &str, more: &[&str]) -> Vec<String> {
        let port = self.https.port();
        let mut arguments = vec![
            "--cacert".to_owned(),
            self.certificate.file.display().to_string(),
            "--resolve".to_owned(),
            format!("{sni}:{port}:127.0.0.1"),
            "--header".to_owned(),
            format!("host: {host}"),
            format!("https://{sni}:{port}/"),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        arguments
    }
}

fn refused(answer: &Answer, allowed: &[u16]) {
    assert!(
        allowed.contains(&answer.status) && answer.backend.is_empty(),
        "{answer:?}"
    );
}

#[test]
fn host_spellings() {
    let scene = Scene::start();
    let send = |request: &Request| client::once(scene.http, request);

    // The open door is open, and the guarded one opens with a key: this test can fail.
    assert_eq!(
        send(&Request::get("other.example.org", "/"))
            .header("x-backend")
            .as_deref(),
        Some("lax")
    );
    let keyed = Request::get("secure.example.com", "/").header("x-api-key", KEY);
    assert_eq!(send(&keyed).header("x-backend").as_deref(), Some("strict"));
    let (lax, strict) = (scene.lax.count(), scene.strict.count());

    let same = [
        "secure.example.com",
        "secure.example.com:80",
        "secure.example.com:65535",
        "secure.example.com.",
        "secure.example.com.:80",
        "SECURE.example.COM",
    ];
    for host in same {
        assert_eq!(send(&Request::get(host, "/")).status, 401, "{host} is the same host");
    }
    let odd = [
        "u@secure.example.com",
        "u:p@secure.example.com",
        "secure.example.com,foo",
        "foo,secure.example.com",
        "secure.example.com foo",
        "secure.example.com/foo",
        "secure.example.com#foo",
        "secure.example.com?foo",
        "secure.example.com\\foo",
        "secure.example.com..",
        "secure.example.com:80:80",
        "secure.example.com:",
        "secure.example.com:http",
        "secure%2eexample.com",
        "\u{ff}secure.example.com",
        "[::1]secure.example.com",
    ];
    for host in odd {
        let status = send(&Request::get(host, "/")).status;
        assert!([400, 401, 404].contains(&status), "{host}: {status}");
        assert_eq!(scene.lax.count(), lax, "{host} reached the laxer backend");
    }
    let targets: [(&str, Vec<&str>); 4] = [
        ("http://secure.example.com/", vec!["other.example.org"]),
        ("http://u@secure.example.com/", vec!["other.example.org"]),
        ("/", vec!["secure.example.com", "other.example.org"]),
        ("/", vec!["other.example.org", "secure.example.com"]),
    ];
    for (target, hosts) in targets {
        let mut request = Request::bare("GET", target.as_bytes());
        for host in &hosts {
            request = request.header("host", host);
        }
        let status = send(&request).status;
        assert!([400, 401, 404].contains(&status), "{target} {hosts:?}: {status}");
    }
    assert_eq!(
        (scene.lax.count(), scene.strict.count()),
        (lax, strict),
        "nothing reached a backend"
    );
}

#[test]
fn server_name_that_differs_from_the_host() {
    let scene = Scene::start();
    let http1 = ["--http1.1"];
    let open = curl(&[scene.request("any.example.com", "any.example.com", &http1)]);
    assert_eq!(
        (open[0].status, open[0].backend.as_str()),
        (200, "lax"),
        "the open door is open"
    );
    let closed = curl(&[scene.request("secure.example.com", "secure.example.com", &http1)]);
    assert_eq!(closed[0].status, 401);
    let (lax, strict) = (scene.lax.count(), scene.strict.count());

    for host in [
        "secure.example.com",
        "secure.example.com:443",
        "secure.example.com.",
        "SECURE.example.com",
    ] {
        refused(&curl(&[scene.request("any.example.com", host, &http1)])[0], &[421]);
    }
    for host in ["u@secure.example.com", "secure.example.com,foo"] {
        refused(
            &curl(&[scene.request("any.example.com", host, &http1)])[0],
            &[400, 404, 421],
        );
    }
    // The other way round: through the guarded listener to the open one's host.
    refused(
        &curl(&[scene.request("secure.example.com", "any.example.com", &http1)])[0],
        &[404, 421],
    );
    assert_eq!(
        (scene.lax.count(), scene.strict.count()),
        (lax, strict),
        "nothing reached a backend"
    );
}

#[test]
fn one_coalesced_http2_connection() {
    let scene = Scene::start();
    let answers = curl(&[
        scene.request("any.example.com", "any.example.com", &["--http2"]),
        scene.request("any.example.com", "secure.example.com", &["--http2"]),
        scene.request(
            "any.example.com",
            "secure.example.com",
            &["--http2", "--header", &format!("x-api-key: {KEY}")],
        ),
        scene.request("any.example.com", "any.example.com", &["--http2"]),
    ]);
    assert!(answers.iter().all(|answer| answer.version == "2"), "{answers:?}");
    assert!(
        answers[1..].iter().all(|answer| answer.connects == 0),
        "one connection: {answers:?}"
    );
    assert_eq!((answers[0].status, answers[0].backend.as_str()), (200, "lax"));
    refused(&answers[1], &[421]);
    refused(&answers[2], &[421]);
    assert_eq!(
        (answers[3].status, answers[3].backend.as_str()),
        (200, "lax"),
        "the connection lives on"
    );
    assert_eq!((scene.lax.count(), scene.strict.count()), (2, 0));
}

#[test]
fn the_guarded_host_over_tls_decides_as_over_http() {
    let scene = Scene::start();
    let key = format!("x-api-key: {KEY}");
    let answers = curl(&[
        scene.request(
            "secure.example.com",
            "secure.example.com",
            &["--http2", "--header", &key],
        ),
        scene.request("secure.example.com", "secure.example.com", &["--http2"]),
    ]);
    assert_eq!(
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
        [200, 401]
    );
    let mut connection = Connection::open(scene.http);
    assert_eq!(
        connection
            .send(&Request::get("secure.example.com", "/").header("x-api-key", KEY))
            .status,
        200
    );
    assert_eq!((scene.lax.count(), scene.strict.count()), (0, 2));
}

/// A route may match on `Host` like on any header: a port that the client writes does not lead around it, to a laxer rule.
#[test]
fn a_port_does_not_evade_a_match_on_the_host_header() {
    let (lax, strict) = (Backend::named("lax"), Backend::named("strict"));
    let port = controller::free_port();
    let route = |name: &str, backend: &str, headers: Value| {
        let mut route = manifests::route(name, &[], "/", backend);
        route["spec"]["rules"][0]["matches"][0]["headers"] = headers;
        route
    };
    let objects = [
        manifests::gateway_class(),
        manifests::gateway(&[manifests::http_listener("http", port, None)]),
        manifests::backend("lax", lax.address()),
        manifests::backend("strict", strict.address()),
        manifests::route("any", &[], "/", "lax"),
        route(
            "admin",
            "strict",
            json!([{"name": "Host", "value": "admin.example.com"}]),
        ),
        route(
            "staff",
            "strict",
            json!([{"name": "host", "type": "RegularExpression", "value": "staff[0-9]\\.example\\.com"}]),
        ),
        manifests::policy("admin", json!({"authorization": {"defaultAction": "Deny"}})),
        manifests::policy("staff", json!({"authorization": {"defaultAction": "Deny"}})),
    ];
    let _live = Live::start(&[("all.yaml", manifests::file(&objects))], &[port]);
    let gateway = SocketAddr::from(([127, 0, 0, 1], port));
    let status = |host: &str| client::once(gateway, &Request::get(host, "/")).status;
    for host in ["admin.example.com", "staff7.example.com"] {
        for spelt in [
            host.to_owned(),
            format!("{host}:80"),
            format!("{host}:{port}"),
            format!("{host}.:80"),
        ] {
            assert_eq!(status(&spelt), 403, "{spelt}");
        }
    }
    assert_eq!(status("adminxexample.com:80"), 200);
    assert_eq!(status("admin.example.com.evil.example:80"), 200);
}
