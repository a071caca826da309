//! Secrets that must never be seen: planted, and then looked for in everything that an operator can read.

use std::{net::SocketAddr, process::Command, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use portcullis_e2e::{
    artefacts,
    backend::Backend,
    certificate::Certificate,
    client::{self, Request},
    controller,
    live::Live,
    manifests,
    scratch::Scratch,
    wait::{self, PATIENCE},
};
use serde_json::json;

const KEY: &str = "canary-4f1c/9b+27 e6d0";
const OTHER_KEY: &str = "canary-second-81d2c7aa";
/// Stands in a header modifier, in clear: whoever cannot find this cannot find anything.
const CONTROL: &str = "control-5e77/d1+0a 93bc";

/// Something to look for, in every form in which it could be written.
struct Needle {
    name: &'static str,
    forms: Vec<(&'static str, String)>,
}

impl Needle {
    fn new(name: &'static str, bytes: &[u8]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let percent = |upper: bool| -> String {
            let escape = |byte: &u8| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(*byte).to_string(),
                byte if upper => format!("%{byte:02X}"),
                byte => format!("%{byte:02x}"),
            };
            bytes.iter().map(escape).collect()
        };
        let every: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
        let mut forms = vec![
            ("plain", String::from_utf8_lossy(bytes).into_owned()),
            ("hex", hex.clone()),
            ("upper-case hex", hex.to_uppercase()),
            ("percent-encoded", percent(true)),
            ("percent-encoded", percent(false)),
            ("wholly percent-encoded", every),
            ("base64", STANDARD.encode(bytes)),
            ("url-safe base64", URL_SAFE_NO_PAD.encode(bytes)),
        ];
        // Inside a longer text its base64 depends on where it begins: drop what its neighbours take part in.
        for shift in 0..3 {
            let shifted = STANDARD_NO_PAD.encode([&vec![0; shift], bytes].concat());
            let begin = (shift * 8).div_ceil(6);
            let end = (shift + bytes.len()) * 8 / 6;
            forms.push(("base64 inside a text", shifted[begin..end].to_owned()));
        }
        Self { name, forms }
    }

    fn found_in(&self, text: &str) -> Vec<&'static str> {
        self.forms
            .iter()
            .filter(|(_, form)| text.contains(form.as_str()))
            .map(|(form, _)| *form)
            .collect()
    }
}

/// The secrets of a private key: its text as it stands in the manifest, and the bytes of its numbers.
fn key_needles(pem: &str) -> Vec<Needle> {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(lines.concat()).expect("PEM is base64");
    // PKCS#8 of a P-256 key: the private number is the 32 bytes behind the header of its octet string.
    let header = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = der
        .windows(header.len())
        .position(|bytes| bytes == header)
        .expect("a P-256 key")
        + header.len();
    vec![
        Needle::new("TLS key, PEM", lines[0].as_bytes()),
        Needle::new("TLS key, number", &der[at..at + 32]),
    ]
}

struct Scene {
    live: Live,
    certificate: Certificate,
    http: SocketAddr,
    _backend: Backend,
    _scratch: Scratch,
}

impl Scene {
    /// A gateway with secrets in every place that takes some, after good requests, bad ones, and a refused route table.
    fn start() -> Self {
        let scratch = Scratch::new();
        let backend = Backend::start();
        let certificate = Certificate::new(&scratch, "canary", &["secure.example.com"]);
        let (http, https) = (controller::free_port(), controller::free_port());
        let common = manifests::file(&[
            manifests::gateway_class(),
            manifests::gateway(&[
                manifests::http_listener("http", http, None),
                manifests::https_listener("https", https, Some("secure.example.com"), "canary"),
            ]),
            manifests::backend("echo", backend.address()),
            manifests::tls_secret("canary", &certificate.certificate, &certificate.key),
            manifests::secret("shop", "clients", &[("alice", KEY), ("bob", OTHER_KEY)]),
        ]);
        let live = Live::start(
            &[("common.yaml", common), ("routes.yaml", routes(false))],
            &[http, https],
        );
        let address = SocketAddr::from(([127, 0, 0, 1], http));
        let request = Request::get("shop.example.com", "/orders/1");
        assert_eq!(
            client::once(address, &request.clone().header("x-api-key", KEY)).status,
            200
        );
        assert_eq!(client::once(address, &request.header("x-api-key", "guess")).status, 401);
        live.edit("routes.yaml", &routes(true));
        wait::until("Envoy refuses the poisoned route table", PATIENCE, || {
            (live.envoy.stats().sum("http.", ".update_rejected") > 0).then_some(())
        });
        wait::until("the controller tells of it", PATIENCE, || {
            live.controller.output().contains("shop/poison").then_some(())
        });
        Self {
            live,
            certificate,
            http: address,
            _backend: backend,
            _scratch: scratch,
        }
    }

    /// Everything that an operator can read, by name.
    fn readable(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let admin = [
            "/config_dump",
            "/config_dump?include_eds",
            "/stats",
            "/stats/prometheus",
            "/certs",
            "/clusters?format=json",
            "/listeners?format=json",
            "/server_info",
            "/init_dump",
        ];
        for path in admin {
            all.push((path.to_owned(), self.live.envoy.get(path)));
        }
        all.push(("Envoy's log".to_owned(), self.live.envoy.log()));
        all.push(("access log".to_owned(), self.live.envoy.access_log()));
        all.push(("the controller's output".to_owned(), self.live.controller.output()));
        let folder = self.live.folder().display().to_string();
        let state = self.live.scratch.join("state").display().to_string();
        let wasm = artefacts::filter().display().to_string();
        for form in ["text", "json", "yaml"] {
            for more in [&["render"][..], &["render", "--snippet"], &["render", "--bootstrap"]] {
                let mut arguments = more.to_vec();
                arguments.extend(["-o", form, "-f", &folder, "--state-dir", &state, "--wasm", &wasm]);
                all.push((arguments[..more.len() + 2].join(" "), printed(&arguments)));
            }
            all.push((
                format!("check -o {form}"),
                printed(&["check", "-o", form, "-f", &folder]),
            ));
        }
        all
    }
}

fn printed(arguments: &[&str]) -> String {
    let output = controller::portcullis(arguments);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// One guarded route, one that shows the control, and perhaps one that Envoy refuses, under the same policy.
fn routes(poison: bool) -> String {
    let mut orders = manifests::route("orders", &["shop.example.com"], "/orders", "echo");
    orders["spec"]["rules"][0]["filters"] = json!([{
        "type": "ResponseHeaderModifier",
        "responseHeaderModifier": {"set": [{"name": "x-control", "value": CONTROL}]},
    }]);
    let mut poisonous = manifests::route("poison", &["poison.example.com"], "/", "echo");
    if poison {
        manifests::poison(&mut poisonous);
    }
    let policy = |name: &str| manifests::policy(name, json!({"apiKeyAuth": manifests::api_key_auth("clients")}));
    manifests::file(&[orders, poisonous, policy("orders"), policy("poison")])
}

#[test]
fn no_secret_is_readable_anywhere() {
    let scene = Scene::start();
    let mut needles = vec![
        Needle::new("API key", KEY.as_bytes()),
        Needle::new("API key", OTHER_KEY.as_bytes()),
    ];
    needles.extend(key_needles(&scene.certificate.key));
    // A hash of a key is a guess that can be checked: it is no less a secret.
    for key in [KEY, OTHER_KEY] {
        let digest = sha256(key);
        needles.push(Needle {
            name: "API key, SHA-256",
            forms: vec![("hex", digest.to_lowercase())],
        });
        needles.push(Needle::new("API key, SHA-256 in base64", digest.as_bytes()));
    }
    let readable = scene.readable();
    let mut hits = Vec::new();
    for (place, text) in &readable {
        for needle in &needles {
            hits.extend(
                needle
                    .found_in(text)
                    .into_iter()
                    .map(|form| format!("{} in {place}, {form}", needle.name)),
            );
        }
    }
    assert!(hits.is_empty(), "{hits:#?}");

    // The control, which is no secret, is where it must be: these places were really read.
    let control = Needle::new("control", CONTROL.as_bytes());
    for place in [
        "/config_dump",
        "render -o json",
        "render -o yaml",
        "render --snippet -o json",
    ] {
        let text = &readable
            .iter()
            .find(|(name, _)| name == place)
            .expect("the place was read")
            .1;
        assert_eq!(control.found_in(text).first(), Some(&"plain"), "{place}");
    }
    for place in ["access log", "/stats", "/stats/prometheus"] {
        let text = &readable
            .iter()
            .find(|(name, _)| name == place)
            .expect("the place was read")
            .1;
        assert!(
            text.contains("api_key_unknown"),
            "{place} tells of the refused request:\n{text}"
        );
    }
    let certificates = &readable.iter().find(|(name, _)| name == "/certs").expect("read").1;
    assert!(certificates.contains("secure.example.com"), "the certificate is loaded");
}

#[test]
fn control_the_search_finds_every_form() {
    let needle = Needle::new("control", KEY.as_bytes());
    let padded = |before: usize| STANDARD.encode([&vec![b'{'; before], KEY.as_bytes(), b"}\n"].concat());
    let texts = [
        format!("log: {KEY}!"),
        STANDARD.encode(KEY),
        URL_SAFE_NO_PAD.encode(KEY),
        padded(1),
        padded(2),
        padded(3),
        padded(4),
        "63616e6172792d346631632f39622b32372065366430".to_owned(),
        "canary-4f1c%2F9b%2B27%20e6d0".to_owned(),
        "canary-4f1c%2f9b%2b27%20e6d0".to_owned(),
        KEY.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ];
    for text in texts {
        assert!(!needle.found_in(&text).is_empty(), "{text}");
    }
    assert!(needle.found_in("canary-4f1c/9b+27 e6d").is_empty());
}

#[test]
fn a_refused_route_is_told_without_what_it_holds() {
    let scene = Scene::start();
    // Envoy's own message prints the rejected route; what is told of it is the constraint alone.
    let output = scene.live.controller.output();
    assert!(!output.contains("a**") && !output.contains("inline_bytes"), "{output}");
    // And the guarded route of the same table is still guarded.
    std::thread::sleep(Duration::from_millis(200));
    let request = Request::get("shop.example.com", "/orders/1");
    assert_eq!(client::once(scene.http, &request).status, 401);
    assert_eq!(
        client::once(scene.http, &request.header("x-api-key", OTHER_KEY)).status,
        200
    );
}

fn sha256(text: &str) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["dgst", "-sha256", "-r"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("openssl runs");
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("openssl reads");
    drop(input);
    let output = child.wait_with_output().expect("openssl ends");
    String::from_utf8_lossy(&output.stdout)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}
