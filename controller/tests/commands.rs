//! The built program's commands that end by themselves: what they print where, and their exit codes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop the test that they are called from"
)]

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

mod common;

use serde_json::Value;

use self::common::{PORTCULLIS, edit, manifests};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/examples/quickstart");

fn portcullis(arguments: &[&str]) -> Output {
    portcullis_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments, "")
}

fn portcullis_in(folder: &Path, arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(PORTCULLIS)
        .args(arguments)
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no stdin may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

fn folder(cidr: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("orders.yaml"), manifests(80, cidr)).unwrap();
    folder
}

#[test]
fn version_says_what_it_writes() {
    let output = portcullis(&["version"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).starts_with(concat!("portcullis ", env!("CARGO_PKG_VERSION"))));
    let output = portcullis(&["version", "-o", "json"]);
    assert_eq!(json(&output)["documents"], serde_json::json!([1]));
}

#[test]
fn a_controller_is_ready_when_its_socket_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    let ask = || portcullis(&["version", "--ready", path.to_str().unwrap()]);
    assert_eq!(code(&ask()), 2);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(code(&ask()), 0);
    drop(listener);
    let output = ask();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no controller answers"), "{}", stderr(&output));
}

#[test]
fn usage_and_unreadable_paths_cannot_be_told() {
    for (arguments, expected) in [
        (&["check"][..], "no manifests; name them with -f PATH, or - for stdin"),
        (
            &["check", "-f", "nowhere.yaml"],
            "nowhere.yaml: no such file or folder; check the path",
        ),
        (
            &["render", "-f", "nowhere.yaml"],
            "nowhere.yaml: no such file or folder; check the path",
        ),
        (
            &["run", "-f", "nowhere.yaml", "--envoy", "/nowhere/envoy"],
            "nowhere.yaml: no such file or folder; check the path",
        ),
        (
            &["version", "--ready", "foo:1"],
            "write http://foo:1 for Envoy's admin interface",
        ),
        (&["run"], "no manifests; name them with -f PATH, or - for stdin"),
        (&["run", "--kubernetes", "-f", "nowhere.yaml"], "cannot be used with"),
        (&["check", "--nonsense"], "unexpected argument"),
        (&["nonsense"], "unrecognized subcommand"),
        (&[], "Usage"),
    ] {
        let output = portcullis(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn check_has_nothing_to_say_about_the_quickstart() {
    let output = portcullis(&["check", "--strict", "-f", QUICKSTART]);
    assert_eq!(stdout(&output), "");
    assert_eq!(stderr(&output), "4 files: no findings\n");
    assert_eq!(code(&output), 0);
}

#[test]
fn check_names_the_place_the_field_and_the_fix() {
    let folder = folder("10.0.0/8");
    let output = portcullis_in(folder.path(), &["check", "-f", "orders.yaml", "--color", "never"], "");
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = manifests(80, "10.0.0/8")
        .lines()
        .position(|line| line.contains("10.0.0/8"))
        .unwrap()
        + 1;
    let place = format!(
        "orders.yaml:{line}:11 error[invalid-cidr] SecurityPolicy edge/orders \
         spec.authorization.rules[0].principal.clientCIDRs[0]: "
    );
    assert!(
        stdout(&output).contains(&place),
        "expected {place}\n{}",
        stdout(&output)
    );
    assert!(
        stdout(&output).contains(r#"; write "10.0.0.0/8""#),
        "{}",
        stdout(&output)
    );
    assert_eq!(stderr(&output), "1 file: 1 error, 0 warnings\n");

    let output = portcullis_in(folder.path(), &["check", "-f", ".", "-o", "json"], "");
    let diagnostic = &json(&output)["diagnostics"][0];
    assert_eq!(diagnostic["code"], "invalid-cidr");
    assert_eq!(diagnostic["file"], "orders.yaml");
    assert_eq!(diagnostic["line"], line);
    assert_eq!(diagnostic["severity"], "error");
}

#[test]
fn check_reads_stdin_and_colours_on_demand_only() {
    let text = manifests(80, "10.0.0/8");
    let folder = tempfile::tempdir().unwrap();
    let output = portcullis_in(folder.path(), &["check", "-f", "-"], &text);
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).starts_with("stdin:"), "{}", stdout(&output));
    assert!(!stdout(&output).contains('\x1b'));
    let output = portcullis_in(folder.path(), &["check", "-f", "-", "--color", "always"], &text);
    assert!(
        stdout(&output).contains("\x1b[31merror[invalid-cidr]\x1b[0m"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn warnings_are_errors_only_with_strict() {
    let folder = folder("10.0.0.0/8");
    let path = folder.path().join("orders.yaml");
    // No Secret holds a key: every request is refused, which may be meant.
    edit(&path, "stringData:\n  alice: canary-key-of-alice", "stringData: {}");
    let check = |strict: &[&str]| portcullis_in(folder.path(), &[&["check", "-f", "."], strict].concat(), "");
    let output = check(&[]);
    assert!(stdout(&output).contains(" warning["), "{}", stdout(&output));
    assert_eq!(code(&output), 0, "{}", stdout(&output));
    assert_eq!(code(&check(&["--strict"])), 1);
}

#[test]
fn crds_are_printed_for_kubectl() {
    let output = portcullis(&["crds"]);
    assert_eq!(code(&output), 0);
    assert_eq!(stdout(&output).matches("\nkind: CustomResourceDefinition\n").count(), 5);
    assert!(stdout(&output).starts_with("---\n"));
    let output = portcullis(&["crds", "-o", "json"]);
    let names: Vec<_> = json(&output)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|crd| crd["metadata"]["name"].clone())
        .collect();
    assert_eq!(
        names,
        [
            "accesspolicies.portcullis.dev",
            "backends.gateway.envoyproxy.io",
            "clienttrafficpolicies.gateway.envoyproxy.io",
            "envoyproxies.gateway.envoyproxy.io",
            "securitypolicies.gateway.envoyproxy.io"
        ]
    );
}

/// `render` with a state folder and a filter of the test's own.
fn render(folder: &Path, arguments: &[&str]) -> Output {
    let state = folder.join("state");
    let arguments = [
        &[
            "render",
            "-f",
            "orders.yaml",
            "--wasm",
            "/filter.wasm",
            "--state-dir",
            state.to_str().unwrap(),
        ],
        arguments,
    ]
    .concat();
    portcullis_in(folder, &arguments, "")
}

#[test]
fn render_prints_the_same_bytes_each_time_and_no_secret() {
    let folder = folder("10.0.0.0/8");
    let first = render(folder.path(), &[]);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    for part in [
        "gateway: edge/public",
        "type.googleapis.com/envoy.config.listener.v3.Listener",
        "/filter.wasm",
    ] {
        assert!(stdout(&first).contains(part), "{part} is missing");
    }
    assert!(!stdout(&first).contains("canary-key-of-alice"));
    assert_eq!(stdout(&render(folder.path(), &[])), stdout(&first));

    let one = render(folder.path(), &["--gateway", "edge/public", "-o", "json"]);
    assert_eq!(json(&one)["gateway"], "edge/public");
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    assert_ne!(
        stdout(&render(folder.path(), &[])),
        stdout(&first),
        "another key, other names of policies"
    );
}

#[test]
fn render_refuses_what_it_cannot_take_whole() {
    let folder = folder("10.0.0.0/8");
    let output = render(folder.path(), &["--gateway", "edge/other"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no Gateway edge/other of this controller is served; served are: edge/public"));

    let path = folder.path().join("orders.yaml");
    edit(&path, "defaultAction", "defaultAktion");
    let output = render(folder.path(), &[]);
    assert_eq!((code(&output), stdout(&output)), (1, ""));
    assert!(
        stderr(&output).contains("not rendered: mend orders.yaml first"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_snippet_leaves_secrets_out_or_writes_them_where_only_the_user_reads() {
    let folder = folder("10.0.0.0/8");
    let plain = render(folder.path(), &["--snippet", "-o", "json"]);
    assert_eq!(code(&plain), 0, "{}", stderr(&plain));
    assert!(
        json(&plain)["static_resources"]["listeners"][0].is_object(),
        "{}",
        stdout(&plain)
    );

    let file = folder.path().join("envoy.json");
    let written = render(
        folder.path(),
        &["--snippet", "-o", "json", "--show-secrets", file.to_str().unwrap()],
    );
    assert_eq!((code(&written), stdout(&written)), (0, ""), "{}", stderr(&written));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_ne!(whole, json(&plain), "only the file holds the secrets");
}

#[test]
fn a_bootstrap_names_the_gateway_and_the_socket() {
    let folder = folder("10.0.0.0/8");
    let output = render(
        folder.path(),
        &["--bootstrap", "--xds-socket", "/run/x.sock", "-o", "json"],
    );
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let bootstrap = json(&output);
    assert_eq!(bootstrap["node"]["cluster"], "edge/public");
    assert!(stdout(&output).contains("/run/x.sock"));
    assert_eq!(
        bootstrap["node"]["metadata"]["portcullis"]["documents"],
        serde_json::json!([1])
    );
}

#[test]
fn a_folder_without_manifests_is_no_answer() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["check", "render"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args([command, "-f"])
            .arg(empty.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("add -R"), "{command}");
    }
}

/// What the Envoy of a pod gets: the filter, if it is one that decodes what this build writes, and this program.
#[test]
fn the_filter_is_unpacked_for_an_envoy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let no_filter = folder.path().join("other.wasm");
    fs::write(&no_filter, b"\0asm\x01\0\0\0").unwrap();
    let output = portcullis(&["unpack", path, "--wasm", no_filter.to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(!folder.path().join("portcullis").exists(), "all or nothing");

    let filter = folder.path().join("filter.wasm");
    // A custom section `portcullis`, as the filter has it.
    let declaration = br#"{"version":"0.1.0","documents":[1]}"#;
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    module.push(u8::try_from(1 + "portcullis".len() + declaration.len()).unwrap());
    module.push(u8::try_from("portcullis".len()).unwrap());
    module.extend(b"portcullis");
    module.extend(declaration);
    fs::write(&filter, &module).unwrap();
    for _ in 0..2 {
        // Again: an init container that is restarted.
        let output = portcullis(&["unpack", path, "--wasm", filter.to_str().unwrap()]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    assert_eq!(fs::read(folder.path().join("portcullis.wasm")).unwrap(), module);
    let unpacked = folder.path().join("portcullis");
    let version = Command::new(&unpacked).arg("version").output().unwrap();
    assert!(stdout(&version).starts_with("portcullis "), "{}", stderr(&version));
    let output = portcullis(&["unpack", "/nowhere/at/all", "--wasm", filter.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
}
