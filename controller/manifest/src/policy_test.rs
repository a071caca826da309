//! `PolicyTest` files: requests to manifests, with the answers that they must get. Never part of a snapshot.

mod callouts;
mod tokens;

use std::{collections::BTreeMap, sync::LazyLock};

use portcullis_attachment::finding::Severity;
use serde_json::{Value as Json, json};

use crate::{
    Diagnostic, near,
    place::{Place, Position, field, index},
    schema::Schema,
    tree::{self, Node, Value},
    validate::{Fault, Manner, validate},
};

pub use self::{
    callouts::Callout,
    tokens::{Key, Token, put},
};

/// The `apiVersion` of test files.
pub const API_VERSION: &str = "portcullis.dev/v1alpha1";

/// The kind of test files.
pub const KIND: &str = "PolicyTest";

/// The cases of one file that is right.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// The name under which the file was given.
    pub file: String,
    /// `metadata.name`.
    pub name: String,
    /// Paths of manifests, relative to the file.
    pub manifests: Vec<String>,
    /// The Gateway, `namespace/name`, if the file says which.
    pub gateway: Option<String>,
    /// The time, RFC 3339, if the file says one.
    pub now: Option<String>,
    /// The keys of issuers, in the order of the file.
    pub keys: Vec<Key>,
    /// The tokens that requests hold.
    pub tokens: Vec<Token>,
    /// What fails of what policies have the proxy ask.
    pub callouts: Vec<Callout>,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// One request and what is expected.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it stands.
    pub place: Place,
    /// Its name, one of its file.
    pub name: String,
    /// `METHOD URL`; may name tokens, as may headers ([`put`]).
    pub line: String,
    /// The address of the peer, if the case says one.
    pub from: Option<String>,
    /// What databases say of the client's place, by `portcullis_engine::geography::Field::name`, if the case says it; empty for an
    /// address that none holds.
    pub geo: Option<BTreeMap<String, String>>,
    /// The valid certificate that the client shows, if it shows one.
    pub certificate: Option<Certificate>,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// The body, which no policy of this version reads.
    pub body: Option<String>,
    /// What is expected; at least one thing.
    pub expect: Expect,
}

/// The names in a client's certificate that a proxy sees: the first of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The URI.
    pub uri_san: Option<String>,
    /// The DNS name.
    pub dns_san: Option<String>,
    /// The subject (RFC 2253).
    pub subject: Option<String>,
}

/// What is expected of an answer; texts may hold `*` for any characters where it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The HTTP status.
    pub status: Option<u16>,
    /// The reason.
    pub reason: Option<String>,
    /// Headers of the answer, with `*`; nothing for a header that must be absent.
    pub headers: BTreeMap<String, Option<String>>,
    /// Whether the request gets what its route does.
    pub allow: Option<bool>,
    /// The policy that decided, `namespace/name`.
    pub policy: Option<String>,
    /// The authorization rule that decided.
    pub rule: Option<String>,
    /// The verified identity.
    pub principal: Option<String>,
    /// What the backend gets.
    pub upstream: Option<ExpectUpstream>,
}

/// What is expected of the request that a backend gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectUpstream {
    /// Headers with their values, with `*`.
    pub set: BTreeMap<String, String>,
    /// Headers that must be absent.
    pub removed: Vec<String>,
    /// The path with its query, with `*`.
    pub path: Option<String>,
}

/// What test files may name.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// The reasons of answers.
    pub reasons: &'a [&'a str],
    /// The algorithms that tokens are signed by.
    pub algorithms: &'a [&'a str],
}

/// The part of `callouts` that belongs to external authorization.
const LATER: &str = "extAuth";

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let map = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let upstream = json!({
        "type": "object",
        "minProperties": 1,
        "properties": {"set": map(), "removed": texts(), "path": text()},
    });
    let status = json!({"type": "integer", "minimum": 100, "maximum": 599});
    let properties = json!({
        "status": status, "reason": text(), "headers": {}, "allow": {"type": "boolean"}, "policy": text(),
        "rule": text(), "principal": text(), "upstream": upstream,
    });
    let expect = json!({"type": "object", "minProperties": 1, "properties": properties});
    let name = || json!({"type": "string", "minLength": 1});
    let properties = json!({"alg": text(), "servesProvider": name()});
    let key = json!({"type": "object", "required": ["alg"], "properties": properties});
    let claims = json!({"type": "object", "additionalProperties": true});
    let properties = json!({"key": text(), "claims": claims});
    let token = json!({"type": "object", "required": ["key"], "properties": properties});
    let several = |of| json!({"type": "object", "additionalProperties": of});
    let status = json!({"type": "integer", "minimum": 100, "maximum": 599});
    let answer = json!({"type": "object", "required": ["status"], "properties": {"status": status}});
    let callouts = json!({"type": "object", "properties": {(LATER): {}, "remoteJWKS": several(answer)}});
    let properties = json!({"name": name(), "request": {}, "expect": expect});
    let case = json!({"type": "object", "required": ["name", "request", "expect"], "properties": properties});
    let properties = json!({"name": name(), "labels": map(), "annotations": map()});
    let metadata = json!({"type": "object", "required": ["name"], "properties": properties});
    let properties = json!({
        "apiVersion": text(), "kind": text(), "metadata": metadata, "manifests": texts(), "gateway": text(), "now": text(),
        "callouts": callouts, "keys": several(key), "tokens": several(token),
        "cases": {"type": "array", "minItems": 1, "items": case},
    });
    let required = ["apiVersion", "kind", "metadata", "cases"];
    let root = json!({"type": "object", "required": required, "properties": properties});
    Schema::compile(&root)
});

static REQUEST: LazyLock<Schema> = LazyLock::new(|| {
    let name = || json!({"type": "string", "minLength": 1});
    let flag = || json!({"type": "boolean"});
    let geo = json!({
        "country": name(), "region": name(), "city": name(), "asn": {"type": "integer", "minimum": 1}, "isp": name(),
        "anonymous": flag(), "vpn": flag(), "hosting": flag(), "tor": flag(), "proxy": flag(),
    });
    Schema::compile(&json!({
        "type": "object",
        "required": ["line"],
        "properties": {
            "line": {"type": "string", "minLength": 1},
            "from": {"type": "string"},
            "geo": {"type": "object", "properties": geo},
            "clientCertificate": {
                "type": "object",
                "minProperties": 1,
                "properties": {
                    "uriSAN": {"type": "string", "minLength": 1},
                    "dnsSAN": {"type": "string", "minLength": 1},
                    "subject": {"type": "string", "minLength": 1},
                },
            },
            "headers": {},
            "body": {"type": "string"},
        },
    }))
});

const MANNER: Manner = Manner {
    secret: false,
    null_is_absent: false,
};

/// Whether a document is a test file rather than an object.
pub(crate) fn is_test(root: &Node) -> bool {
    let text = |name: &str| root.get(name).and_then(Node::as_str);
    text("kind") == Some(KIND) && text("apiVersion").is_some_and(|version| version.starts_with("portcullis.dev/"))
}

/// Reads the test files among the documents of a file; other objects are passed over.
///
/// # Errors
///
/// Everything that is wrong with the test files, by place.
pub fn policy_tests(name: &str, text: &str, vocabulary: Vocabulary<'_>) -> Result<Vec<PolicyTest>, Vec<Diagnostic>> {
    let documents = tree::parse(text);
    let mut diagnostics: Vec<Diagnostic> = documents
        .errors
        .iter()
        .map(|error| Diagnostic::of_syntax(name, error))
        .collect();
    let mut tests = Vec::new();
    for root in documents.roots.iter().filter(|root| is_test(root)) {
        let mut reader = Reader {
            vocabulary,
            tokens: Vec::new(),
            faults: Vec::new(),
        };
        let test = reader.test(name, root);
        if reader.faults.is_empty() {
            tests.extend(test);
            continue;
        }
        let object = match root.get("metadata").and_then(|metadata| metadata.get("name")) {
            Some(node) => format!("{KIND} {}", node.as_str().unwrap_or_default()),
            None => KIND.to_owned(),
        };
        let told = reader.faults.iter();
        diagnostics.extend(told.map(|fault| Diagnostic::of_object(Some(name), &object, fault)));
    }
    if diagnostics.is_empty() {
        Ok(tests)
    } else {
        diagnostics.sort();
        Err(diagnostics)
    }
}

struct Reader<'a> {
    vocabulary: Vocabulary<'a>,
    /// The names of tokens.
    tokens: Vec<String>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, position: Position, code: &'static str, path: &str, message: String, fix: String) {
        self.faults.push(Fault {
            position,
            severity: Severity::Error,
            code,
            path: path.to_owned(),
            message,
            fix: Some(fix),
        });
    }

    fn test(&mut self, file: &str, root: &Node) -> Option<PolicyTest> {
        let (json, faults) = validate(root, &SCHEMA, MANNER);
        self.faults.extend(faults);
        let version = text(&json, "apiVersion").unwrap_or_default();
        if version != API_VERSION
            && let Some(entry) = root.entry("apiVersion")
        {
            self.fault(
                entry.node.position_under(entry.position),
                "unsupported-version",
                "apiVersion",
                format!("{KIND} has no version {version:?} here"),
                format!("write {API_VERSION:?}"),
            );
        }
        if let Some(entry) = root.get("callouts").and_then(|callouts| callouts.entry(LATER)) {
            self.fault(
                entry.position,
                "unsupported-field",
                &field("callouts", LATER),
                "belongs to external authorization, which this version does not enforce".to_owned(),
                "remove it".to_owned(),
            );
        }
        let keys = self.keys(file, root, &json);
        let tokens = self.tokens(file, root, &json, &keys);
        let callouts = self.callouts(file, root, &json, &keys);
        let mut cases: Vec<Case> = Vec::new();
        let nodes = match root.get("cases").map(|node| &node.value) {
            Some(Value::Sequence(nodes)) => nodes.as_slice(),
            _ => &[],
        };
        let values = json.get("cases").and_then(Json::as_array);
        for (number, (node, value)) in nodes.iter().zip(values.into_iter().flatten()).enumerate() {
            let path = index("cases", number);
            let Some(case) = self.case(file, node, value, &path) else {
                continue;
            };
            if cases.iter().any(|other| other.name == case.name) {
                self.fault(
                    node.entry("name").map_or(node.position, |entry| entry.position),
                    "duplicate-entry",
                    &field(&path, "name"),
                    format!("a case before it is named {:?} too", case.name),
                    "give it another name".to_owned(),
                );
            }
            cases.push(case);
        }
        Some(PolicyTest {
            file: file.to_owned(),
            name: text(json.get("metadata")?, "name")?,
            manifests: texts(&json, "manifests"),
            gateway: text(&json, "gateway"),
            now: text(&json, "now"),
            keys,
            tokens,
            callouts,
            cases,
        })
    }

    fn case(&mut self, file: &str, node: &Node, value: &Json, path: &str) -> Option<Case> {
        let mut case = Case {
            place: node.position.in_file(file),
            name: text(value, "name")?,
            line: String::new(),
            from: None,
            geo: None,
            certificate: None,
            headers: Vec::new(),
            body: None,
            expect: Expect::default(),
        };
        let entry = node.entry("request")?;
        let at = &field(path, "request");
        match &entry.node.value {
            Value::String(line) => {
                case.line.clone_from(line);
                self.mentions(entry.node.position_under(entry.position), at, line);
            }
            Value::Mapping(_) => {
                let (request, faults) = validate(&entry.node, &REQUEST, MANNER);
                self.faults.extend(faults.into_iter().map(|fault| Fault {
                    path: format!("{at}.{}", fault.path),
                    ..fault
                }));
                case.line = text(&request, "line").unwrap_or_default();
                if let Some(line) = entry.node.entry("line") {
                    let position = line.node.position_under(line.position);
                    self.mentions(position, &field(at, "line"), &case.line);
                }
                case.from = text(&request, "from");
                case.geo = entry.node.get("geo").map(|geo| match &geo.value {
                    Value::Mapping(entries) => {
                        let told = entries.iter();
                        told.filter_map(|entry| Some((entry.key.clone(), scalar(&entry.node)?)))
                            .collect()
                    }
                    _ => BTreeMap::new(),
                });
                case.certificate = request.get("clientCertificate").map(|certificate| Certificate {
                    uri_san: text(certificate, "uriSAN"),
                    dns_san: text(certificate, "dnsSAN"),
                    subject: text(certificate, "subject"),
                });
                case.body = text(&request, "body");
                if let Some(headers) = entry.node.entry("headers") {
                    case.headers = self.request_headers(&headers.node, &field(at, "headers"));
                }
            }
            _ => self.fault(
                entry.node.position_under(entry.position),
                "wrong-type",
                at,
                "is neither a request line nor an object".to_owned(),
                "write \"GET https://HOST/PATH\", or an object with line, from, clientCertificate, geo, headers and body"
                    .to_owned(),
            ),
        }
        let expect = node.get("expect")?;
        case.expect = self.expect(expect, value.get("expect")?, &field(path, "expect"));
        Some(case)
    }

    /// A header has one text, or a list of texts for several lines.
    fn request_headers(&mut self, node: &Node, path: &str) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let Value::Mapping(entries) = &node.value else {
            self.fault(
                node.position,
                "wrong-type",
                path,
                "is no object of headers".to_owned(),
                "write name: value".to_owned(),
            );
            return lines;
        };
        for entry in entries {
            let path = &field(path, &entry.key);
            if entry.repeated {
                self.fault(
                    entry.position,
                    "duplicate-key",
                    path,
                    "is given twice".to_owned(),
                    "write a list of values".to_owned(),
                );
            }
            let values = match &entry.node.value {
                Value::Sequence(nodes) => nodes.iter().map(scalar).collect::<Option<Vec<_>>>(),
                _ => scalar(&entry.node).map(|value| vec![value]),
            };
            match values {
                Some(values) => {
                    for value in &values {
                        self.mentions(entry.node.position_under(entry.position), path, value);
                    }
                    lines.extend(values.into_iter().map(|value| (entry.key.clone(), value)));
                }
                None => self.fault(
                    entry.node.position_under(entry.position),
                    "wrong-type",
                    path,
                    "is no header value".to_owned(),
                    "write a text, or a list of texts".to_owned(),
                ),
            }
        }
        lines
    }

    fn expect(&mut self, node: &Node, value: &Json, path: &str) -> Expect {
        let reason = text(value, "reason");
        if let Some(reason) = reason
            .as_deref()
            .filter(|reason| !self.vocabulary.reasons.contains(reason))
        {
            let fix = near::nearest(reason, self.vocabulary.reasons.iter().copied()).map_or_else(
                || "`portcullis explain reason` lists the reasons".to_owned(),
                |meant| format!("write {meant:?}"),
            );
            let position = node
                .entry("reason")
                .map_or(node.position, |entry| entry.node.position_under(entry.position));
            self.fault(
                position,
                "unknown-value",
                &field(path, "reason"),
                format!("{reason:?} is not a reason"),
                fix,
            );
        }
        let mut headers = BTreeMap::new();
        if let Some(Value::Mapping(entries)) = node.get("headers").map(|node| &node.value) {
            for entry in entries {
                let expected = match &entry.node.value {
                    Value::Null => Some(None),
                    _ => scalar(&entry.node).map(Some),
                };
                match expected {
                    Some(expected) => {
                        headers.insert(entry.key.to_ascii_lowercase(), expected);
                    }
                    None => self.fault(
                        entry.position,
                        "wrong-type",
                        &field(&field(path, "headers"), &entry.key),
                        "is no header value".to_owned(),
                        "write a text, or null for a header that must be absent".to_owned(),
                    ),
                }
            }
        } else if let Some(entry) = node.entry("headers") {
            self.fault(
                entry.position,
                "wrong-type",
                &field(path, "headers"),
                "is no object of headers".to_owned(),
                "write name: value".to_owned(),
            );
        }
        Expect {
            status: value
                .get("status")
                .and_then(Json::as_u64)
                .and_then(|status| u16::try_from(status).ok()),
            reason,
            headers,
            allow: value.get("allow").and_then(Json::as_bool),
            policy: text(value, "policy"),
            rule: text(value, "rule"),
            principal: text(value, "principal"),
            upstream: value.get("upstream").map(|upstream| ExpectUpstream {
                set: upstream
                    .get("set")
                    .and_then(Json::as_object)
                    .into_iter()
                    .flatten()
                    .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?.to_owned())))
                    .collect(),
                removed: texts(upstream, "removed")
                    .into_iter()
                    .map(|name| name.to_ascii_lowercase())
                    .collect(),
                path: text(upstream, "path"),
            }),
        }
    }
}

/// A value that can stand on a header line.
fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Float(_) | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

fn text(json: &Json, name: &str) -> Option<String> {
    json.get(name)?.as_str().map(ToOwned::to_owned)
}

fn texts(json: &Json, name: &str) -> Vec<String> {
    let list = json.get(name).and_then(Json::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(ToOwned::to_owned))
        .collect()
}
