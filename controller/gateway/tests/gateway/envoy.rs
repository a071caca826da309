//! Envoy itself takes every configuration.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use portcullis_gateway::{Admin, BootstrapOptions, Xds, bootstrap, credentials, snippet};

use crate::{goldens::inputs, world::world};

/// A module that exports what Envoy needs to load it and has no callbacks.
#[rustfmt::skip]
const MODULE: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0,
    // types: () -> (), (i32) -> i32
    1, 9, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f,
    // functions
    3, 3, 2, 0, 1,
    // memory of one page
    5, 3, 1, 0, 1,
    // exports: proxy_abi_version_0_2_1, malloc, memory
    7, 45, 3,
    23, b'p', b'r', b'o', b'x', b'y', b'_', b'a', b'b', b'i', b'_', b'v', b'e', b'r', b's', b'i', b'o', b'n', b'_', b'0', b'_', b'2', b'_', b'1', 0, 0,
    6, b'm', b'a', b'l', b'l', b'o', b'c', 0, 1,
    6, b'm', b'e', b'm', b'o', b'r', b'y', 2, 0,
    // bodies: nothing; 0
    10, 9, 2, 2, 0, 0x0b, 4, 0, 0x41, 0, 0x0b,
];

pub(crate) fn envoy() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    let path = std::env::var_os("PORTCULLIS_ENVOY")
        .map(PathBuf::from)
        .or_else(|| Some(cache?.join("portcullis/envoy/1.40.0/envoy")))
        .expect("HOME is set");
    assert!(
        path.is_file(),
        "no Envoy at {}: run `make build`, which fetches it, or set PORTCULLIS_ENVOY",
        path.display()
    );
    path
}

/// A folder of one test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!(
            "portcullis-gateway-{}-{:?}-{name}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        std::fs::write(path.join("filter.wasm"), MODULE).expect("the module can be written");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn validate(scratch: &Scratch, name: &str, configuration: &serde_json::Value) -> Result<(), String> {
    let file = scratch.0.join(format!("{name}.json"));
    std::fs::write(&file, configuration.to_string()).expect("the configuration can be written");
    let output = Command::new(envoy())
        .args([
            "--mode",
            "validate",
            "--concurrency",
            "2",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(&file)
        .output()
        .expect("Envoy starts");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let deprecated = log.contains("deprecated") || log.contains("Deprecated");
    if output.status.success() && !deprecated {
        Ok(())
    } else {
        Err(format!("{name}: {log}"))
    }
}

#[test]
fn envoy_takes_every_golden() {
    let scratch = Scratch::new("goldens");
    let wasm = scratch.0.join("filter.wasm").display().to_string();
    let mut refused = Vec::new();
    for (name, manifests) in inputs() {
        let world = world(&manifests, &wasm);
        for configuration in &world.translation.configurations {
            let title = format!("{name}-{}", configuration.gateway.replace('/', "-"));
            let taken = validate(&scratch, &title, &snippet(configuration, true));
            // All else is right where Envoy gets as far as its databases, which are nowhere.
            let far = |why: &String| name == "geography" && why.contains("Unable to open Maxmind database file /db/");
            refused.extend(taken.err().filter(|why| !far(why)));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn envoy_takes_the_bootstrap() {
    let scratch = Scratch::new("bootstrap");
    let folder = scratch.0.display().to_string();
    let (chain, key) = signed(&scratch);
    for (file, text) in credentials(&chain, &key, &chain, "spiffe://portcullis/controller") {
        std::fs::write(scratch.0.join(file), text).unwrap();
    }
    let tls = |host: &str| Xds::Tls {
        host: host.to_owned(),
        port: 18_000,
        credentials: folder.clone(),
    };
    let socket = || Xds::Socket(format!("{folder}/xds.sock"));
    for (admin, xds) in [
        (Admin::Pipe(format!("{folder}/admin.sock")), socket()),
        (Admin::Tcp("127.0.0.1:0".parse().unwrap()), socket()),
        (
            Admin::Tcp("127.0.0.1:0".parse().unwrap()),
            tls("portcullis.portcullis-system.svc"),
        ),
        (Admin::Tcp("127.0.0.1:0".parse().unwrap()), tls("192.0.2.1")),
        (Admin::Tcp("127.0.0.1:0".parse().unwrap()), tls("2001:db8::1")),
    ] {
        let value = bootstrap(&BootstrapOptions {
            gateway: "edge/public".to_owned(),
            xds,
            admin,
            wasm: "/etc/envoy/portcullis.wasm".to_owned(),
            documents: vec![1],
        });
        validate(&scratch, "bootstrap", &value).unwrap();
    }
}

/// A certificate that signs itself, and its key.
fn signed(scratch: &Scratch) -> (String, String) {
    let path = |name: &str| scratch.0.join(name).display().to_string();
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=a",
        ])
        .args(["-keyout", &path("a.key"), "-out", &path("a.crt")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    (read("a.crt"), read("a.key"))
}
