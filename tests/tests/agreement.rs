//! What `portcullis test` says before deployment is what Envoy does: every request of every PolicyTest of the repository
//! goes through both, on the same manifests. Of what the gateway answers by itself the harness asks `portcullis explain
//! request` too, as everywhere.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use portcullis_e2e::{
    access_log::Entry,
    artefacts,
    backend::{Backend, Received},
    client::{Connection, Request, Response},
    controller::{self, Place},
    envoy::Envoy,
    http, mmdb,
    scratch::{self, Scratch},
    signed, tables,
    wait::{self, PATIENCE},
};
use serde_json::Value;

/// The port that the examples' backends have; the test's own backend takes its place.
const BACKEND_PORT: &str = "port: 10081";

/// A folder of manifests with the PolicyTests below it.
struct Example {
    name: String,
    folder: PathBuf,
    tests: Vec<PathBuf>,
}

#[test]
fn test_explain_and_envoy_agree() {
    let (mut failures, mut sent, mut denied) = (Vec::new(), 0, 0);
    for example in examples() {
        let scratch = Scratch::new();
        let backend = Backend::start();
        let world = World::start(&scratch, &backend, &example);
        for test in &example.tests {
            let asked = asked(test);
            let told = told(test);
            assert_eq!(asked.len(), told.len(), "{}: every case is told", test.display());
            for (case, told) in asked.iter().zip(&told) {
                let before = backend.count();
                let (response, entry) = world.send(case, told);
                let received = backend.received().split_off(before);
                sent += 1;
                let wrong = differences(told, &response, &entry, &received);
                denied += usize::from(told["allow"] == false);
                if !wrong.is_empty() {
                    failures.push(format!("{}: {}\n  {}", example.name, case.name, wrong.join("\n  ")));
                }
            }
        }
    }
    println!("{sent} requests, {denied} of them denied");
    assert!(
        failures.is_empty(),
        "{} of {sent}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(sent >= 40 && denied >= 20, "{sent} requests, {denied} denied");
}

/// An Envoy with an example's manifests, to which clients come from any address.
struct World {
    envoy: Envoy,
    /// Where each listener's port is really bound.
    bound: BTreeMap<u64, SocketAddr>,
}

impl World {
    fn start(scratch: &Scratch, backend: &Backend, example: &Example) -> Self {
        let folder = scratch.join("manifests");
        let tests: Vec<Value> = example.tests.iter().map(|test| file(test)).collect();
        for entry in fs::read_dir(&example.folder).expect("an example's folder") {
            let path = entry.expect("a folder entry").path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).expect("a manifest");
                let text = signed::served(&text, &tests);
                let text = mmdb::placed(&text, &tests, scratch.path());
                let text = text.replace(BACKEND_PORT, &format!("port: {}", backend.address().port()));
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                scratch::write(&folder.join(name), &text);
            }
        }
        let mut bootstrap = Place::new(scratch, &folder).snippet(scratch);
        let ports: BTreeMap<String, u64> = tables::array(&mut bootstrap["static_resources"]["listeners"])
            .iter()
            .filter_map(|listener| {
                let port = listener["address"]["socket_address"]["port_value"].as_u64()?;
                Some((listener["name"].as_str()?.to_owned(), port))
            })
            .collect();
        tables::on_free_ports(&mut bootstrap);
        tables::behind_a_proxy(&mut bootstrap);
        let mut envoy = Envoy::start_with(scratch, &bootstrap, 4);
        if text_of(&tests).contains("\"geo\"") {
            envoy = envoy.beside_manifests("where a client is stands in databases, and in the cases");
        }
        let bound = envoy.listeners();
        let bound = bound
            .iter()
            .filter_map(|(name, address)| Some((*ports.get(name)?, *address)));
        Self {
            bound: bound.collect(),
            envoy,
        }
    }

    /// Sends a case's request from its address; again while a worker still owes time for another password.
    fn send(&self, case: &Asked, told: &Value) -> (Response, Entry) {
        let port = told["port"].as_u64().expect("the port is told");
        let address = self.bound[&port];
        wait::until("the worker has time for a password", PATIENCE, || {
            let logged = self.envoy.entries().len();
            let mut connection = Connection::open_as(address, SocketAddr::new(case.from, 40_000));
            let response = connection.send(&case.request);
            let entry = self.envoy.entry(logged);
            let busy = entry.reason().as_deref() == Some("basic_busy") && told["reason"] != "basic_busy";
            (!busy).then_some((response, entry))
        })
    }
}

fn text_of(tests: &[Value]) -> String {
    tests.iter().map(Value::to_string).collect()
}

/// Where the answer, the access log or what the backend got is not what was told.
fn differences(told: &Value, response: &Response, entry: &Entry, received: &[Received]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut equal = |what: &str, told: String, got: String| {
        if told != got {
            wrong.push(format!("{what}: told {told:?}, Envoy {got:?}"));
        }
    };
    let text = |field: &str| told[field].as_str().unwrap_or_default().to_owned();
    let forwarded = told["end"] == "forwarded";
    // The backend answers 200.
    let status = told["status"].as_u64().unwrap_or(200);
    equal("status", status.to_string(), response.status.to_string());
    equal(
        "requests at the backend",
        usize::from(forwarded).to_string(),
        received.len().to_string(),
    );
    for field in ["reason", "policy", "rule", "principal"] {
        // What Envoy answers by itself has no reason; the log has none then either.
        equal(field, text(field), entry.get(field).unwrap_or_default());
    }
    for (name, lines) in told["headers"].as_object().into_iter().flatten() {
        let told: Vec<&str> = lines
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let got: Vec<String> = http::values(&response.headers, name)
            .into_iter()
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect();
        equal(&format!("header {name}"), told.join(","), got.join(","));
    }
    if let (Some(upstream), Some(received)) = (told.get("upstream"), received.first()) {
        equal(
            "path",
            upstream["path"].as_str().unwrap_or_default().to_owned(),
            received.target.clone(),
        );
        for (name, value) in upstream["set"].as_object().into_iter().flatten() {
            let got: Vec<_> = http::values(&received.headers, name)
                .into_iter()
                .map(String::from_utf8_lossy)
                .collect();
            equal(
                &format!("upstream {name}"),
                value.as_str().unwrap_or_default().to_owned(),
                got.join(","),
            );
        }
        for name in upstream["removed"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            equal(
                &format!("upstream {name}"),
                String::new(),
                received.header(name).unwrap_or_default(),
            );
        }
    }
    wrong
}

/// A case's request.
struct Asked {
    name: String,
    from: IpAddr,
    request: Request,
}

/// A PolicyTest.
fn file(test: &Path) -> Value {
    let text = fs::read_to_string(test).expect("a PolicyTest");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", test.display()))
}

/// The cases of a PolicyTest, as the file has them.
fn asked(test: &Path) -> Vec<Asked> {
    let file = file(test);
    let tokens = signed::tokens(&file);
    let cases = file["cases"].as_array().expect("cases");
    cases
        .iter()
        .map(|case| {
            let request = &case["request"];
            let line = request
                .as_str()
                .or_else(|| request["line"].as_str())
                .expect("a request line");
            let line = signed::put(line, &tokens);
            let (method, url) = line.split_once(' ').expect("METHOD URL");
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let at = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(at);
            let path = if path.is_empty() { "/" } else { path };
            let from = request["from"].as_str().unwrap_or("127.0.0.1");
            let mut sent = Request::new(method, authority, path);
            for (name, value) in request["headers"].as_object().into_iter().flatten() {
                let lines = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                for line in &lines {
                    let line = line.as_str().map_or_else(|| line.to_string(), str::to_owned);
                    sent = sent.header(name, signed::put(&line, &tokens));
                }
            }
            if !matches!(method, "GET" | "HEAD" | "OPTIONS") {
                sent = sent.header("content-length", "0");
            }
            Asked {
                name: case["name"].as_str().expect("a name").to_owned(),
                from: from.parse().unwrap_or_else(|error| panic!("{from}: {error}")),
                request: sent,
            }
        })
        .collect()
}

/// What `portcullis test` says of each case, in the same order; all of them pass.
fn told(test: &Path) -> Vec<Value> {
    let output = controller::portcullis(&["test", "-o", "json", &test.display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}: {text}{error}", test.display());
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let tests = report["tests"].as_array().expect("tests");
    tests
        .iter()
        .flat_map(|test| test["cases"].as_array().expect("cases"))
        .map(|case| case["answer"].clone())
        .collect()
}

/// Every folder of the repository's manifests that has PolicyTests.
fn examples() -> Vec<Example> {
    let root = artefacts::root().join("manifests/examples");
    let mut examples = Vec::new();
    for entry in fs::read_dir(&root).expect("the examples") {
        let folder = entry.expect("a folder entry").path();
        let Ok(files) = fs::read_dir(folder.join("tests")) else {
            continue;
        };
        let mut tests: Vec<PathBuf> = files.map(|file| file.expect("a folder entry").path()).collect();
        tests.retain(|test| test.extension().is_some_and(|extension| extension == "yaml"));
        tests.sort();
        examples.push(Example {
            name: folder.file_name().expect("a name").to_string_lossy().into_owned(),
            folder,
            tests,
        });
    }
    examples.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(examples.len() >= 5, "the examples have tests");
    examples
}
