//! Requests through Envoy: what the tables mean. The filter and its seal are left out; they have tests of their own.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::proxy::{Proxy, RECEIVED, backend, free_port, launch, send_to};

const MANIFESTS: &str = include_str!("traffic.yaml");

fn start() -> Proxy {
    let port = free_port();
    let manifests = MANIFESTS
        .replace("LISTENER", &port.to_string())
        .replace("STRICT", &backend("strict").to_string())
        .replace("WIDE", &backend("wide").to_string())
        .replace("INNER", &free_port().to_string())
        .replace("FLAKY", &backend("flaky").to_string())
        .replace("COPY", &backend("copy").to_string())
        .replace("ANYONE", &backend("anyone").to_string())
        .replace("NOBODY", &free_port().to_string());
    launch(&manifests, port, &["mirror-withheld", "no-endpoints"])
}

fn send(proxy: &Proxy, lines: &[&str]) -> String {
    send_to(proxy.port, lines)
}

struct Case {
    request: &'static [&'static str],
    status: u16,
    /// Must stand in the answer.
    holds: &'static [&'static str],
}

const fn case(request: &'static [&'static str], status: u16, holds: &'static [&'static str]) -> Case {
    Case { request, status, holds }
}

fn run(cases: &[Case]) {
    let proxy = start();
    let mut failures = Vec::new();
    for case in cases {
        let answer = send(&proxy, case.request);
        let head = format!("HTTP/1.1 {} ", case.status);
        let missing: Vec<_> = case.holds.iter().filter(|wanted| !answer.contains(**wanted)).collect();
        if !answer.starts_with(&head) || !missing.is_empty() {
            failures.push(format!(
                "{:?}: wanted {} {missing:?}, got {answer:?}",
                case.request, case.status
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// `strict.example.com` has a virtual host of its own; `*.example.com` and `*` go to other backends.
#[test]
fn no_spelling_of_a_host_reaches_a_wider_one() {
    const GET: &str = "GET /hosts HTTP/1.1";
    run(&[
        case(&[GET, "host: strict.example.com"], 200, &["backend strict"]),
        case(&[GET, "host: STRICT.example.COM"], 200, &["backend strict"]),
        case(&[GET, "host: strict.example.com:80"], 200, &["backend strict"]),
        case(&[GET, "host: strict.example.com:65535"], 200, &["backend strict"]),
        case(&[GET, "host: strict.example.com."], 200, &["backend strict"]),
        case(&[GET, "host: strict.example.com.:8080"], 200, &["backend strict"]),
        case(&[GET, "host: strict.example.com:99999"], 200, &["backend strict"]),
        case(
            &[
                "GET http://strict.example.com:80/hosts HTTP/1.1",
                "host: other.example.org",
            ],
            200,
            &["backend strict"],
        ),
        case(&[GET, "host: www.example.com"], 200, &["backend wide"]),
        case(&[GET, "host: a.b.example.com:81"], 200, &["backend wide"]),
        case(&[GET, "host: example.org"], 200, &["backend anyone"]),
        case(&[GET, "host: 192.0.2.1:8080"], 200, &["backend anyone"]),
        case(&[GET, "host: [2001:db8::1]:8080"], 200, &["backend anyone"]),
        case(&[GET, "host: localhost"], 200, &["backend anyone"]),
        case(&[GET, "host: u@strict.example.com"], 400, &[]),
        case(&[GET, "host: strict.example.com,foo"], 400, &[]),
        case(&[GET, "host: foo,strict.example.com"], 400, &[]),
        case(&[GET, "host: strict.example.com.."], 400, &[]),
        case(&[GET, "host: .strict.example.com"], 400, &[]),
        case(&[GET, "host: strict.example.com:80:80"], 400, &[]),
        case(&[GET, "host: strict.example.com:"], 400, &[]),
        case(&[GET, "host: strict.example.com:+80"], 400, &[]),
        case(&[GET, "host: strict.example.com:999999"], 400, &[]),
        case(&[GET, "host: strict.example.com:8a"], 400, &[]),
        case(&[GET, "host: strict.example.com%2e"], 400, &[]),
        case(&[GET, "host: strict.example.com/"], 400, &[]),
        case(&[GET, "host: strict.example.com\\"], 400, &[]),
        case(&[GET, "host: strict.example.com?"], 400, &[]),
        case(&[GET, "host: strict.example.com;a"], 400, &[]),
        case(&[GET, "host: str\u{ef}ct.example.com"], 400, &[]),
        case(&[GET, "host: strict.example.com", "host: www.example.com"], 400, &[]),
        case(&[GET, "host: "], 400, &[]),
    ]);
}

#[test]
fn paths_are_read_once_and_alike() {
    const HOST: &str = "host: strict.example.com";
    run(&[
        case(&["GET /hosts/../secret HTTP/1.1", HOST], 404, &[]),
        case(&["GET //hosts HTTP/1.1", HOST], 200, &["get /hosts "]),
        case(&["GET /hosts%2fx HTTP/1.1", HOST], 307, &["location: /hosts/x"]),
        case(&["GET /hostsx HTTP/1.1", HOST], 404, &[]),
        case(&["GET /hosts/ HTTP/1.1", HOST], 200, &["get /hosts/ "]),
        case(&["GET /hosts HTTP/1.1", HOST, "x_y: 1"], 400, &[]),
        // Envoy routes no request without a path; the filter refuses what has no route.
        case(&["OPTIONS * HTTP/1.1", HOST], 404, &[]),
        case(&["GET /absent HTTP/1.1", HOST], 404, &[]),
        case(&["GET /empty HTTP/1.1", HOST], 503, &[]),
        case(&["GET /nothing HTTP/1.1", HOST], 500, &[]),
        case(
            &["GET /hosts HTTP/1.1", HOST, "x-forwarded-client-cert: By=a"],
            200,
            &["backend strict"],
        ),
    ]);
}

#[test]
fn matches_are_tried_in_the_order_of_the_gateway_api() {
    const HOST: &str = "host: order.example.org";
    run(&[
        case(&["GET /exact HTTP/1.1", HOST], 302, &["location: http://exact.test/"]),
        case(
            &["GET /exact/more HTTP/1.1", HOST],
            302,
            &["location: http://prefix.test/"],
        ),
        case(&["GET /regex/7 HTTP/1.1", HOST], 302, &["location: http://regex.test/"]),
        case(
            &["GET /regex/7/8 HTTP/1.1", HOST],
            302,
            &["location: http://root.test/"],
        ),
        case(
            &["POST /exact/more HTTP/1.1", HOST],
            302,
            &["location: http://method.test/"],
        ),
        case(
            &["GET /exact/more HTTP/1.1", HOST, "x-a: 1"],
            302,
            &["location: http://header.test/"],
        ),
        case(
            &["POST /exact/more HTTP/1.1", HOST, "x-a: 1", "x-b: 1"],
            302,
            &["location: http://method.test/"],
        ),
        case(
            &["GET /exact/more?q=1&r=2 HTTP/1.1", HOST],
            302,
            &["location: http://query.test/"],
        ),
    ]);
}

#[test]
fn filters_do_what_the_gateway_api_says() {
    const HOST: &str = "host: filters.example.org";
    run(&[
        case(
            &["GET /headers HTTP/1.1", HOST, "x-gone: 1", "x-set: client"],
            200,
            &[
                "x-set: 100% %req(cookie)%\r\n",
                "x-add: a",
                "backend anyone",
                "x-out: %UP%",
            ],
        ),
        case(&["GET /rewrite/full?a=1 HTTP/1.1", HOST], 200, &["get /new/a\\b?a=1 "]),
        case(&["GET /rewrite/prefix HTTP/1.1", HOST], 200, &["get /new "]),
        case(&["GET /rewrite/prefix/a?b=1 HTTP/1.1", HOST], 200, &["get /new/a?b=1 "]),
        case(&["GET /rewrite/c.t/a HTTP/1.1", HOST], 200, &["get /a "]),
        case(&["GET /rewrite/c.t HTTP/1.1", HOST], 200, &["get / "]),
        case(&["GET /rewrite/c.t/ HTTP/1.1", HOST], 200, &["get / "]),
        case(
            &[
                "GET /rewrite/host HTTP/1.1",
                HOST,
                "x-forwarded-host: forged.example.org",
                "x-forwarded-proto: https",
            ],
            200,
            &[
                "\nhost: inner.example.org\r\n",
                "\nx-forwarded-host: filters.example.org\r\n",
                "\nx-forwarded-proto: http\r\n",
            ],
        ),
        case(
            &["GET /redirect/https?q=1 HTTP/1.1", HOST],
            301,
            &["location: https://filters.example.org/redirect/https?q=1\r\n"],
        ),
        case(
            &["GET /redirect/port HTTP/1.1", HOST],
            302,
            &["location: https://filters.example.org:8443/redirect/port\r\n"],
        ),
        // The port that the client came to is not the one that it is sent to.
        case(
            &["GET /redirect/https HTTP/1.1", "host: filters.example.org:8080"],
            301,
            &["location: https://filters.example.org:443/redirect/https\r\n"],
        ),
        case(
            &["GET /redirect/port HTTP/1.1", "host: filters.example.org:8080"],
            302,
            &["location: https://filters.example.org:8443/redirect/port\r\n"],
        ),
        case(&["GET /redirect/prefix/a HTTP/1.1", HOST], 307, &["/new/a\r\n"]),
        case(&["GET /redirect/c.t/a HTTP/1.1", HOST], 307, &["/a\r\n"]),
        case(&["GET /redirect/full/a HTTP/1.1", HOST], 308, &["/new/100%\r\n"]),
    ]);
}

/// A preflight is never forwarded, and without the filter it is answered 404.
#[test]
fn a_preflight_has_no_backend() {
    const HOST: &str = "host: cors.example.org";
    const ORIGIN: &str = "origin: https://app.example.com";
    run(&[
        case(&["POST /orders HTTP/1.1", HOST], 200, &["backend anyone"]),
        case(
            &[
                "OPTIONS /orders HTTP/1.1",
                HOST,
                ORIGIN,
                "access-control-request-method: POST",
            ],
            404,
            &[],
        ),
        case(
            &[
                "OPTIONS /orders HTTP/1.1",
                HOST,
                ORIGIN,
                "access-control-request-method: PUT",
            ],
            404,
            &[],
        ),
        case(&["OPTIONS /orders HTTP/1.1", HOST], 404, &[]),
        case(&["PUT /filter HTTP/1.1", HOST], 200, &["backend anyone"]),
        case(
            &[
                "OPTIONS /filter HTTP/1.1",
                HOST,
                ORIGIN,
                "access-control-request-method: PUT",
            ],
            404,
            &[],
        ),
    ]);
}

/// A gRPC request's path is its service and method; an answer of Envoy's own is a gRPC status.
#[test]
fn grpc_is_routed_by_service_and_method() {
    const HOST: &str = "host: grpc.example.org";
    const GRPC: &str = "content-type: application/grpc";
    const UNIMPLEMENTED: &[&str] = &["grpc-status: 12\r\n"];
    run(&[
        case(
            &["POST /shop.Orders/List HTTP/1.1", HOST, GRPC],
            200,
            &["backend anyone", "x-rule: served"],
        ),
        case(
            &["POST /shop.Orders/List HTTP/1.1", HOST, GRPC, "x-canary: yes"],
            200,
            &["x-rule: canary"],
        ),
        case(
            &["POST /shop.Stock/Anything HTTP/1.1", HOST, GRPC],
            200,
            &["x-rule: served"],
        ),
        case(
            &["POST /any.Service/Check HTTP/1.1", HOST, GRPC],
            200,
            &["x-rule: served"],
        ),
        case(&["POST /b/c HTTP/1.1", HOST, GRPC], 200, &["x-rule: served"]),
        case(&["POST /shop.Orders/Delete HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(&["POST /shop.Orders/list HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(&["POST /shop.Stock HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(&["POST /shop.Stocks/A HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(&["POST /a/cd HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(&["POST /ab/c HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(&["POST /a HTTP/1.1", HOST, GRPC], 200, UNIMPLEMENTED),
        case(
            &["POST /any.Service/Check/more HTTP/1.1", HOST, GRPC],
            200,
            UNIMPLEMENTED,
        ),
        case(
            &["POST /shop.Broken/A HTTP/1.1", HOST, GRPC],
            200,
            &["grpc-status: 2\r\n"],
        ),
        case(
            &["POST /shop.Down/A HTTP/1.1", HOST, GRPC],
            200,
            &["grpc-status: 14\r\n"],
        ),
        case(&["POST /shop.Orders/Delete HTTP/1.1", HOST], 404, &[]),
    ]);
}

/// Two bounds: `request` for all attempts together, `backendRequest` for each (Gateway API, `HTTPRouteTimeouts`).
#[test]
fn timeouts_and_retries_are_the_rules_own() {
    const HOST: &str = "host: timing.example.org";
    run(&[
        case(&["GET /503/retried HTTP/1.1", HOST], 200, &["backend flaky"]),
        case(&["GET /503/other-code HTTP/1.1", HOST], 503, &["backend flaky"]),
        case(&["GET /503/plain HTTP/1.1", HOST], 503, &["backend flaky"]),
        case(&["GET /slow/bounded HTTP/1.1", HOST], 504, &[]),
        case(&["GET /slow/attempt HTTP/1.1", HOST], 504, &[]),
        case(&["GET /slow/retried HTTP/1.1", HOST], 200, &["backend flaky"]),
        case(&["GET /slow/both HTTP/1.1", HOST], 504, &[]),
        case(&["GET /slow/unbounded HTTP/1.1", HOST], 200, &["backend flaky"]),
        // A client cannot ask for retries or for other bounds.
        case(
            &[
                "GET /refused HTTP/1.1",
                HOST,
                "x-envoy-retry-on: 5xx",
                "x-envoy-max-retries: 9",
            ],
            503,
            &[],
        ),
    ]);
}

/// Copies go to the mirror and hold no credentials; what the backend gets does.
#[test]
fn a_copy_holds_no_credentials() {
    let proxy = start();
    let fields = [
        "authorization: Bearer secret-1",
        "cookie: session=secret-2",
        "proxy-authorization: Basic secret-3",
        "x-api-key: secret-4",
        "x-kept: 1",
    ];
    let copy_of = |path: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let received = RECEIVED.lock().unwrap();
            let copy = received
                .iter()
                .find(|(_, name, head)| *name == "copy" && head.contains(path))
                .map(|(_, _, head)| head.clone());
            drop(received);
            if copy.is_some() || Instant::now() > deadline {
                return copy.unwrap_or_default();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let head = |line: &'static str, host: &'static str| [&[line, host], fields.as_slice()].concat();

    let answer = send(
        &proxy,
        &head("GET /copied?key=secret-5&a=1 HTTP/1.1", "host: mirror.example.org"),
    );
    assert!(
        answer.contains("backend anyone") && answer.contains("secret-4"),
        "{answer}"
    );
    let copy = copy_of("/copied");
    assert!(
        copy.contains("x-kept: 1") && copy.contains("/copied?key=secret-5&a=1 "),
        "{copy}"
    );
    // The query is no place for keys under this policy.
    assert!(!copy.replace("secret-5", "").contains("secret"), "{copy}");

    let answer = send(
        &proxy,
        &head("GET /queried?key=secret-5&a=1 HTTP/1.1", "host: query.example.org"),
    );
    assert!(answer.contains("/queried?key=secret-5&a=1 "), "{answer}");
    let answer = send(&proxy, &["GET /uncopied HTTP/1.1", "host: never.example.org"]);
    assert!(answer.contains("backend anyone"), "{answer}");
    std::thread::sleep(Duration::from_millis(500));
    let received = RECEIVED.lock().unwrap();
    let copied = |path: &str| {
        received
            .iter()
            .any(|(_, name, head)| *name == "copy" && head.contains(path))
    };
    assert!(!copied("/uncopied") && !copied("/queried"));
}

/// What one HTTP/2 connection may make Envoy keep is little: its settings say so before any request (RFC 9113 §6.5).
#[test]
fn one_connection_holds_few_streams_and_little_data() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let proxy = start();
    let mut connection = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    connection
        .write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat())
        .unwrap();
    let mut head = [0; 9];
    connection.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "no SETTINGS frame: {head:?}");
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    connection.read_exact(&mut payload).unwrap();
    let setting = |wanted: u16| {
        payload.chunks_exact(6).find_map(|entry| {
            let (name, value) = entry.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*name) == wanted).then(|| u32::from_be_bytes(value.try_into().unwrap()))
        })
    };
    assert_eq!(setting(MAX_CONCURRENT_STREAMS), Some(100));
    assert_eq!(setting(INITIAL_WINDOW_SIZE), Some(64 * 1024));
}
