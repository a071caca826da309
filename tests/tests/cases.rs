//! The engine's cases as real requests: the same files that run natively and in wasm32, through the chain that `render`
//! prints.
//!
//! Every group of cases has a listener of its own, so that a case keeps its own host; the client's address comes from a
//! PROXY protocol header.
//!
//! No manifest stands behind these documents, so `portcullis explain request` cannot be asked. What it would say comes from
//! the engine's transaction: that is run here natively on each case that is refused, and must name the policy, the rule and
//! the reason that Envoy's access log names, and a stage of the policy. The harness asks `portcullis explain reason` about
//! each code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use portcullis_cases::{self as cases, Answer, Case, Delivered, From, Group, Lines};
use portcullis_e2e::{
    access_log::Entry,
    artefacts,
    backend::{Backend, Received},
    client::{Connection, Request, Response},
    clock,
    envoy::Envoy,
    http,
    key_server::{self, KeyServer},
    scratch::Scratch,
    tables,
    wait::PATIENCE,
};
use portcullis_engine::transaction::Stage;
use serde_json::{Value, json};

/// A group and the name of its listener.
struct Placed {
    file: String,
    listener: String,
    group: Group,
}

#[test]
fn cases_through_envoy() {
    let scratch = Scratch::new();
    let backend = Backend::start();
    let groups = placed();
    let envoy = Envoy::start_with(
        &scratch,
        &bootstrap(&scratch, &backend, &key_server(&groups), &groups),
        4,
    )
    .beside_manifests("the policies are the engine's documents");
    let listeners: BTreeMap<String, SocketAddr> = envoy.listeners().into_iter().collect();

    let (mut failures, mut sent, mut skipped) = (Vec::new(), 0, 0);
    for placed in &groups {
        for case in &placed.group.cases {
            if case.not_through_envoy.is_some() {
                skipped += 1;
                continue;
            }
            let address = listeners[&format!("{}-{}", placed.listener, scheme(case))];
            let now = clock::seconds();
            let mut case = placed
                .group
                .with_tokens(case, now)
                .unwrap_or_else(|error| panic!("{}: {}: {error}", placed.file, case.name));
            if let Some(request) = case.request.as_mut().filter(|_| !placed.group.tokens.is_empty()) {
                request.now = Answer::Number(now * 1_000_000_000);
            }
            let case = &case;
            let result = Attempt::make(&envoy, &backend, address, case).and_then(|attempt| {
                attempt.compare(case)?;
                attempt.explain(&placed.group, case)
            });
            sent += 1;
            if let Err(problem) = result {
                failures.push(format!("{}: {}\n  {problem}", placed.file, case.name));
            }
        }
    }
    println!("{sent} cases sent, {skipped} cannot be");
    assert!(
        failures.is_empty(),
        "{} of {sent} cases:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        sent >= 200 && skipped * 4 < sent,
        "nearly every case is a request: {sent} sent, {skipped} not"
    );
}

/// The reason of a refusal that tells nothing of the request.
const BUSY: &str = "basic_busy";

/// What became of one case.
struct Attempt {
    response: Response,
    received: Vec<Received>,
    entry: Entry,
}

impl Attempt {
    /// Sends the case; again while the worker still owes time for the password that a former case had it check.
    fn make(envoy: &Envoy, backend: &Backend, address: SocketAddr, case: &Case) -> Result<Self, String> {
        let start = Instant::now();
        loop {
            let attempt = Self::once(envoy, backend, address, case)?;
            let busy = attempt.entry.reason().as_deref() == Some(BUSY) && case.expect.reason.as_deref() != Some(BUSY);
            if !busy || start.elapsed() > PATIENCE {
                return Ok(attempt);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn once(envoy: &Envoy, backend: &Backend, address: SocketAddr, case: &Case) -> Result<Self, String> {
        let given = case.expect.response.as_ref().map(|response| {
            let lines = response.given.iter();
            lines
                .map(|(name, value)| (String::from_utf8_lossy(&name.bytes()).into_owned(), value.bytes()))
                .collect()
        });
        backend.answer_with(200, given.unwrap_or_default());
        let (before, logged) = (backend.count(), envoy.entries().len());
        let mut connection = Connection::open_as(address, source(case)?);
        let response = connection.try_send(&request(case)).map_err(|error| error.to_string())?;
        Ok(Self {
            response,
            received: backend.received().split_off(before),
            entry: envoy.entry(logged),
        })
    }

    fn compare(&self, case: &Case) -> Result<(), String> {
        let expect = &case.expect;
        let mut wrong = Vec::new();
        // A policy that is refused as a whole, and one that does not compile, refuse every request.
        let refused = expect
            .error
            .as_ref()
            .map(|_| "policy_undecodable")
            .or(expect.decode.as_deref());
        let status = refused.map(|_| 500).or(expect.status).unwrap_or(200);
        let allowed = refused.is_none() && expect.status.is_none();
        equal(&mut wrong, "status", &status, &self.response.status);
        equal(
            &mut wrong,
            "requests at the backend",
            &usize::from(allowed),
            &self.received.len(),
        );
        let facts = [
            ("reason", refused.map(str::to_owned).or_else(|| expect.reason.clone())),
            ("policy", expect.policy.clone()),
            ("rule", expect.rule.clone()),
            ("principal", expect.principal.clone()),
            (
                "shadow_policy",
                expect.shadow.as_ref().and_then(|shadow| shadow.policy.clone()),
            ),
            (
                "shadow_reason",
                expect.shadow.as_ref().map(|shadow| shadow.reason.clone()),
            ),
            (
                "shadow_rule",
                expect.shadow.as_ref().and_then(|shadow| shadow.rule.clone()),
            ),
        ];
        for (field, expected) in facts {
            if let Some(expected) = expected {
                equal(&mut wrong, field, &expected, &self.entry.get(field).unwrap_or_default());
            }
        }
        if !allowed {
            let reason = self.entry.reason().unwrap_or_default();
            equal(
                &mut wrong,
                "details",
                &Some(format!("portcullis_{reason}")),
                &self.entry.get("details"),
            );
        }
        if let Some(body) = &expect.body {
            equal(&mut wrong, "body", body, &self.response.text());
        }
        if let (Some(upstream), Some(received)) = (&expect.upstream, self.received.first()) {
            if let Some(path) = &upstream.path {
                equal(
                    &mut wrong,
                    "path",
                    &shown(&path.bytes()),
                    &shown(received.target.as_bytes()),
                );
            }
            lines(
                &mut wrong,
                "upstream",
                &received.headers,
                &upstream.headers,
                &upstream.removed,
            );
        }
        if let Some(response) = &expect.response {
            lines(
                &mut wrong,
                "response",
                &self.response.headers,
                &response.headers,
                &response.removed,
            );
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n  "))
        }
    }
}

impl Attempt {
    /// Holds what the engine says natively of a refusal against the access log.
    fn explain(&self, group: &Group, case: &Case) -> Result<(), String> {
        let logged = |field: &str| self.entry.get(field).unwrap_or_default();
        let mut wrong = Vec::new();
        if let Err(reason) = group.delivered()?.decode() {
            equal(
                &mut wrong,
                "native reason",
                &reason.as_str().to_owned(),
                &logged("reason"),
            );
            return if wrong.is_empty() {
                Ok(())
            } else {
                Err(wrong.join("\n  "))
            };
        }
        let Some(request) = case.request.as_ref().filter(|_| self.response.status != 200) else {
            return Ok(());
        };
        let decided = cases::decide_in(group, request)?;
        let facts = decided.transaction.facts();
        equal(&mut wrong, "native policy", &facts.policy.to_owned(), &logged("policy"));
        equal(
            &mut wrong,
            "native rule",
            &facts.rule.unwrap_or_default().to_owned(),
            &logged("rule"),
        );
        equal(
            &mut wrong,
            "native reason",
            &facts.reason.as_str().to_owned(),
            &logged("reason"),
        );
        let ended = decided.transaction.ended();
        if ended > Stage::Authorization {
            wrong.push(format!("no stage refused it: {ended}"));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n  "))
        }
    }
}

fn lines(
    wrong: &mut Vec<String>,
    side: &str,
    headers: &[(String, Vec<u8>)],
    expected: &BTreeMap<String, Lines>,
    removed: &[String],
) {
    let got = |name: &str| -> Vec<String> { http::values(headers, name).into_iter().map(shown).collect() };
    for (name, values) in expected {
        let values: Vec<String> = values.bytes().iter().map(|value| shown(value)).collect();
        // Towards the client Envoy may write the lines of a list as one (RFC 9110, 5.3). What goes to the backend is
        // compared line by line: there a comma could be an attack.
        if side == "response" {
            equal(
                wrong,
                &format!("{side} {name}"),
                &values.join(","),
                &got(name).join(","),
            );
        } else {
            equal(wrong, &format!("{side} {name}"), &values, &got(name));
        }
    }
    for name in removed {
        equal(wrong, &format!("{side} {name}"), &Vec::new(), &got(name));
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(wrong: &mut Vec<String>, what: &str, expected: &T, got: &T) {
    if expected != got {
        wrong.push(format!("{what}: expected {expected:?}, got {got:?}"));
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn request(case: &Case) -> Request {
    let Some(request) = &case.request else {
        return Request::get("api.example.com", "/");
    };
    let method = String::from_utf8(request.method.bytes()).expect("a method is text");
    let mut sent = Request::bare(&method, &request.path.bytes()).header("host", request.authority.bytes());
    for (name, value) in &request.headers {
        sent = sent.header(name.bytes(), value.bytes());
    }
    sent
}

fn source(case: &Case) -> Result<SocketAddr, String> {
    let Some(request) = &case.request else {
        return Ok(SocketAddr::from(([127, 0, 0, 1], 40000)));
    };
    // A real proxy always tells an address; a case that needs it to fail cannot be sent.
    let From::Address(address) = &request.from else {
        return Ok(SocketAddr::from(([127, 0, 0, 1], 40000)));
    };
    let text = String::from_utf8(address.bytes()).map_err(|error| error.to_string())?;
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 40000));
    text.parse()
        .or_else(|_| bare())
        .map_err(|error| format!("{text}: {error}"))
}

fn scheme(case: &Case) -> String {
    let scheme = case.request.as_ref().map(|request| request.scheme.bytes());
    scheme.map_or_else(
        || "http".to_owned(),
        |scheme| String::from_utf8_lossy(&scheme).into_owned(),
    )
}

/// A server that answers under each source's id as the cases say.
fn key_server(groups: &[Placed]) -> KeyServer {
    let server = KeyServer::start();
    for (id, keys) in groups.iter().flat_map(|placed| &placed.group.key_servers) {
        let answer = keys.serves.as_ref().map_or_else(key_server::Answer::failure, |keys| {
            key_server::Answer::keys(&keys.text().expect("known keys"))
        });
        server.answer(&format!("/{id}"), answer);
    }
    server
}

/// `render`'s listener for each group and scheme, with the group's policy on its only route.
fn bootstrap(scratch: &Scratch, backend: &Backend, keys: &KeyServer, groups: &[Placed]) -> Value {
    let mut bootstrap = tables::of_one_route(scratch, backend);
    tables::add_cluster(&mut bootstrap, "keys", keys.address());
    let route = tables::route(&mut bootstrap, "/").clone();
    let listener = bootstrap["static_resources"]["listeners"][0].clone();
    let mut listeners = Vec::new();
    for placed in groups {
        let own = placed.group.delivered().expect("a policy");
        let next = placed.group.next_delivered().expect("a policy");
        let mut routes = vec![governed(&route, &own)];
        if let Some((next, delivered)) = &next {
            tables::recheck(&mut routes[0]);
            let mut other = governed(&route, delivered);
            tables::select_by_claim(&mut other, &next.header, &next.value);
            routes.insert(0, other);
        }
        let mut host = json!({"name": placed.listener, "domains": ["*"], "routes": routes});
        for delivered in std::iter::once(&own).chain(next.as_ref().map(|(_, delivered)| delivered)) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("JSON is text");
            tables::deliver(
                &mut host,
                &delivered.hash,
                &text(&delivered.document),
                &text(&delivered.secrets),
            );
        }
        for (id, server) in &placed.group.key_servers {
            if let Some(keys) = &server.shipped {
                tables::ship_keys(&mut host, id, &keys.text().expect("known keys"), server.age);
            }
        }
        let schemes: BTreeSet<String> = placed.group.cases.iter().map(scheme).collect();
        for scheme in schemes {
            let mut one = json!({"static_resources": {"listeners": [listener]}});
            for manager in tables::managers(&mut one) {
                manager["route_config"]["virtual_hosts"] = json!([host]);
                manager["scheme_header_transformation"] = json!({"scheme_to_overwrite": scheme});
            }
            let mut listener = one["static_resources"]["listeners"][0].take();
            listener["name"] = format!("{}-{scheme}", placed.listener).into();
            listeners.push(listener);
        }
    }
    bootstrap["static_resources"]["listeners"] = listeners.into();
    bootstrap
}

/// A route under that policy.
fn governed(route: &Value, policy: &Delivered) -> Value {
    let mut route = route.clone();
    route["metadata"]["filter_metadata"]["portcullis"]["h"] = policy.hash.clone().into();
    route
}

fn placed() -> Vec<Placed> {
    let folder = artefacts::root().join("filter/engine/testdata/cases");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let mut groups = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a case file can be read");
        let file = path
            .strip_prefix(&folder)
            .expect("inside the folder")
            .display()
            .to_string();
        for group in cases::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}")) {
            groups.push(Placed {
                listener: format!("group-{}", groups.len()),
                file: file.clone(),
                group,
            });
        }
    }
    groups
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}
