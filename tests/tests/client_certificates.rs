//! Certificates of clients: whoever shows one that was verified is whom it names, and nobody else is.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use portcullis_e2e::{
    backend::Backend,
    certificate::{Authority, Certificate, Client},
    controller,
    curl::{Answer, curl},
    live::Live,
    manifests,
    scratch::Scratch,
};
use serde_json::{Value, json};

const ORDERS: &str = "spiffe://example.org/ns/shop/sa/orders";

/// On one port `strict.example.com` wants a certificate, `optional.example.com` takes one, `named.example.com` too, but only
/// of one name, and `open.example.com` asks for none; a port of its own takes any. Behind each the same rules decide.
struct Scene {
    backend: Backend,
    port: u16,
    fallback: u16,
    server: Certificate,
    orders: Client,
    other: Client,
    second: Client,
    ended: Client,
    stranger: Client,
    // Last: everything above is used by it.
    live: Live,
    _scratch: Scratch,
}

impl Scene {
    fn start() -> Self {
        let scratch = Scratch::new();
        let server = Certificate::new(&scratch, "wild", &["*.example.com"]);
        let (trusted, evil) = (Authority::new(&scratch, "trusted"), Authority::new(&scratch, "evil"));
        let uri = format!("URI:{ORDERS}");
        let backend = Backend::named("shop");
        let (port, fallback) = (controller::free_port(), controller::free_port());
        let hosts = [
            "strict.example.com",
            "optional.example.com",
            "named.example.com",
            "open.example.com",
        ];
        let mut listeners: Vec<Value> = hosts
            .iter()
            .map(|host| manifests::https_listener(host.split('.').next().unwrap_or_default(), port, Some(host), "wild"))
            .collect();
        listeners.push(manifests::https_listener(
            "fallback",
            fallback,
            Some("fallback.example.com"),
            "wild",
        ));
        let authorities = json!([{"group": "", "kind": "ConfigMap", "name": "trusted"}]);
        let mut gateway = manifests::gateway(&listeners);
        gateway["spec"]["tls"] = json!({"frontend": {
            "default": {},
            "perPort": [{
                "port": fallback,
                "tls": {"validation": {"mode": "AllowInsecureFallback", "caCertificateRefs": authorities}},
            }],
        }});
        let clients = |name: &str, optional: bool| {
            json!({
                "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "ClientTrafficPolicy",
                "metadata": {"name": name, "namespace": "edge"},
                "spec": {
                    "targetRefs": [{
                        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "sectionName": name,
                    }],
                    "tls": {"clientValidation": {"optional": optional, "caCertificateRefs": authorities}},
                },
            })
        };
        let mut named = clients("named", true);
        named["spec"]["tls"]["clientValidation"]["subjectAltNames"] = json!({"uris": [{"value": ORDERS}]});
        let mut policy = manifests::policy(
            "shop",
            json!({"authorization": {"rules": [
                {"name": "orders", "action": "Allow", "principal": {"clientCertificate": {"uriSANs": [{"value": ORDERS}]}}},
                {
                    "name": "expression", "action": "Allow", "cel":
                    format!("request.path == '/cel' && connection.mtls && connection.uri_san_peer_certificate == '{ORDERS}'"),
                },
            ]}}),
        );
        policy["apiVersion"] = "portcullis.dev/v1alpha1".into();
        policy["kind"] = "AccessPolicy".into();
        let objects = [
            manifests::gateway_class(),
            gateway,
            manifests::tls_secret("wild", &server.certificate, &server.key),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "trusted", "namespace": "edge"},
                "data": {"ca.crt": trusted.certificate.certificate},
            }),
            clients("strict", false),
            clients("optional", true),
            named,
            manifests::backend("shop", backend.address()),
            manifests::route("shop", &[], "/", "shop"),
            policy,
        ];
        let live = Live::start(&[("all.yaml", manifests::file(&objects))], &[port, fallback]);
        Self {
            backend,
            port,
            fallback,
            orders: trusted.sign(&scratch, "orders", &uri, 2),
            other: trusted.sign(&scratch, "other", "URI:spiffe://example.org/ns/shop/sa/other", 2),
            second: trusted.sign(&scratch, "second", &format!("URI:spiffe://example.org/a,{uri}"), 2),
            ended: trusted.sign(&scratch, "ended", &uri, -1),
            stranger: evil.sign(&scratch, "stranger", &uri, 2),
            server,
            live,
            _scratch: scratch,
        }
    }

    fn ask(&self, host: &str, certificate: Option<&Client>, more: &[&str]) -> Answer {
        let name = format!("{host}.example.com");
        let port = if host == "fallback" { self.fallback } else { self.port };
        let path = |file: &Path| file.display().to_string();
        let mut arguments = vec!["--cacert".to_owned(), path(&self.server.file)];
        arguments.extend(["--resolve".to_owned(), format!("{name}:{port}:127.0.0.1")]);
        if let Some(certificate) = certificate {
            arguments.extend([
                "--cert".to_owned(),
                path(&certificate.file),
                "--key".to_owned(),
                path(&certificate.key),
            ]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let target = if more.contains(&"--http1.1") { "/cel" } else { "/" };
        arguments.push(format!("https://{name}:{port}{target}"));
        curl(&[arguments]).remove(0)
    }

    fn status(&self, host: &str, certificate: Option<&Client>) -> u16 {
        self.ask(host, certificate, &[]).status
    }
}

#[test]
fn only_verified_certificates_are_identities() {
    let scene = Scene::start();
    let all = [
        None,
        Some(&scene.orders),
        Some(&scene.other),
        Some(&scene.second),
        Some(&scene.ended),
        Some(&scene.stranger),
    ];
    let statuses = |host| all.map(|certificate| scene.status(host, certificate));
    // No connection without a certificate that is valid.
    assert_eq!(statuses("strict"), [0, 200, 403, 403, 0, 0]);
    // None is taken for nobody; one that is wrong is not.
    assert_eq!(statuses("optional"), [403, 200, 403, 403, 0, 0]);
    // One of another name is wrong, and so is none: nothing is optional beside a list of names.
    let closed = [all[0], all[2], all[4], all[5]].map(|certificate| scene.status("named", certificate));
    assert_eq!(closed, [0; 4]);
    assert_eq!(scene.status("named", Some(&scene.orders)), 200);
    // Nobody asked for one, or nobody verified it.
    assert_eq!(statuses("open"), [403; 6]);
    assert_eq!(statuses("fallback"), [403; 6]);
    assert_eq!(scene.backend.count(), 3);

    // Expressions see the same.
    let cel = ["--http1.1"];
    let statuses = |host| all.map(|certificate| scene.ask(host, certificate, &cel).status);
    assert_eq!(statuses("optional"), [403, 200, 403, 403, 0, 0]);
    assert_eq!(statuses("fallback"), [403; 6]);
    assert_eq!(scene.backend.count(), 4);
    drop(scene.live);
}

#[test]
fn nothing_but_the_connection_tells_of_a_certificate() {
    let scene = Scene::start();
    let spoofed = format!("x-forwarded-client-cert: By=spiffe://a;Hash=00;URI={ORDERS}");
    for host in ["optional", "open", "fallback"] {
        let answer = scene.ask(host, None, &["-H", &spoofed]);
        assert_eq!(answer.status, 403, "{host}");
    }
    // Nor does a backend hear it.
    assert_eq!(scene.ask("strict", Some(&scene.orders), &["-H", &spoofed]).status, 200);
    let received = scene.backend.received();
    let heard = received
        .iter()
        .any(|request| request.header("x-forwarded-client-cert").is_some());
    assert!(!heard && received.len() == 1, "{received:?}");

    // A connection of one listener is none of another, whatever host it asks for.
    for (through, to) in [
        ("open", "strict"),
        ("optional", "strict"),
        ("fallback", "strict"),
        ("open", "optional"),
    ] {
        let host = format!("host: {to}.example.com");
        for certificate in [None, Some(&scene.stranger), Some(&scene.orders)] {
            let answer = scene.ask(through, certificate, &["-H", &host]);
            let closed = answer.status == 421 || answer.status == 0 && certificate.is_some();
            assert!(closed && answer.backend.is_empty(), "{through} {to}: {answer:?}");
        }
    }
    assert_eq!(scene.backend.count(), 1);
    drop(scene.live);
}

/// One openssl client: whether it took up a session, and what it was answered.
fn client(
    scene: &Scene,
    version: &str,
    host: &str,
    certificate: Option<&Client>,
    session: (&str, &Path),
) -> (bool, String) {
    let name = format!("{host}.example.com");
    let port = if host == "fallback" { scene.fallback } else { scene.port };
    let mut command = Command::new("openssl");
    command.args(["s_client", version, "-ign_eof", "-servername", &name, "-connect"]);
    command.arg(SocketAddr::from(([127, 0, 0, 1], port)).to_string());
    command.arg(session.0).arg(session.1);
    if let Some(certificate) = certificate {
        command
            .arg("-cert")
            .arg(&certificate.file)
            .arg("-key")
            .arg(&certificate.key);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A connection that is refused may be closed by now.
    let _ = write!(stdin, "GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    thread::sleep(Duration::from_millis(500));
    drop(stdin);
    let output = child.wait_with_output().expect("openssl ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text.contains("Reused, TLS"), text)
}

#[test]
fn no_session_is_taken_up_again_where_certificates_are_asked_for() {
    let scene = Scene::start();
    let sessions = Scratch::new();
    for version in ["-tls1_2", "-tls1_3"] {
        for from in ["open", "optional", "fallback", "strict"] {
            let certificate = match from {
                "fallback" => Some(&scene.stranger),
                "open" => None,
                _ => Some(&scene.orders),
            };
            let file = sessions.join(&format!("{version}-{from}.pem"));
            let (_, text) = client(&scene, version, from, certificate, ("-sess_out", &file));
            assert!(text.contains("HTTP/1.1 "), "{version} {from}: {text}");
            if !file.exists() {
                continue;
            }
            // Sessions are taken up again where nobody asks: this test can fail.
            if from == "open" {
                assert!(client(&scene, version, from, None, ("-sess_in", &file)).0, "{version}");
            }
            for to in ["strict", "optional", "fallback"] {
                let (reused, text) = client(&scene, version, to, None, ("-sess_in", &file));
                assert!(
                    !reused && !text.contains("HTTP/1.1 200"),
                    "{version} {from} {to}: {text}"
                );
            }
        }
    }
    // The answers of these clients were not handed in.
    let _ = scene.live.envoy.beside_manifests("openssl asked");
}
