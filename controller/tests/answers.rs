//! `test` and `status` of the built program: answers without an Envoy, what they print, and their exit codes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop the test that they are called from"
)]

use std::{fs, path::Path};

mod common;
#[path = "common/told.rs"]
mod told;

use self::{
    common::{edit, manifests},
    told::{EXAMPLES, portcullis},
};

/// A folder with the manifests of [`manifests`] and a test file of these cases.
fn folder(cases: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("manifests")).unwrap();
    fs::write(
        folder.path().join("manifests/orders.yaml"),
        manifests(8080, "10.0.0.0/8"),
    )
    .unwrap();
    fs::write(folder.path().join("cases.yaml"), file(cases)).unwrap();
    folder
}

fn file(cases: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: PolicyTest\nmetadata: {{name: orders}}\nmanifests: [manifests]\n{cases}"
    )
}

const CASES: &str = "cases:
- name: no key
  request: {line: GET http://a.example.com/, from: 10.0.0.1}
  expect: {status: 401, reason: api_key_missing}
- name: alice
  request: {line: GET http://a.example.com/, from: 10.0.0.1, headers: {x-api-key: canary-key-of-alice}}
  expect: {allow: true, rule: office, principal: alice}
";

#[test]
fn every_example_gets_the_answers_that_it_says() {
    let told = portcullis(Path::new(EXAMPLES), &["test", "."]);
    assert_eq!(told.code, 0, "{}{}", told.stdout, told.stderr);
    assert!(!told.stdout.contains("FAIL"), "{}", told.stdout);
    for entry in fs::read_dir(EXAMPLES).unwrap() {
        let folder = entry.unwrap().path();
        // What is tested are requests; a TCPRoute has none. A cluster's endpoints are in no folder; its guide is run in one.
        if !["broken", "kubernetes", "tcp"]
            .iter()
            .any(|name| folder.ends_with(name))
        {
            assert!(folder.join("tests").is_dir(), "{} has no test", folder.display());
        }
    }
    // A test beside manifests is no manifest.
    let told = portcullis(Path::new(EXAMPLES), &["check", "--strict", "-R", "-f", "quickstart"]);
    assert_eq!(
        (told.code, told.stderr.as_str()),
        (0, "5 files: no findings\n"),
        "{}",
        told.stdout
    );
}

#[test]
fn a_case_that_holds_is_one_line() {
    let folder = folder(CASES);
    let told = portcullis(folder.path(), &["test", "cases.yaml"]);
    assert_eq!(
        told.stdout,
        "pass orders: no key  401 api_key_missing\npass orders: alice  allowed\n"
    );
    assert_eq!((told.code, told.stderr.as_str()), (0, "2 cases: 2 passed, 0 failed\n"));
    let told = portcullis(
        folder.path(),
        &["test", "cases.yaml", "--run", "^al", "--color", "always"],
    );
    assert_eq!(
        told.stdout,
        "\u{1b}[32mpass\u{1b}[0m orders: alice\u{1b}[2m  allowed\u{1b}[0m\n"
    );
    assert_eq!(told.stderr, "\u{1b}[32m1 case: 1 passed, 0 failed\u{1b}[0m\n");
}

#[test]
fn a_case_that_does_not_hold_says_what_is_and_why() {
    let folder = folder(
        &CASES
            .replace("api_key_missing", "api_key_unknown")
            .replace("401", "403"),
    );
    let told = portcullis(folder.path(), &["test", "cases.yaml"]);
    assert_eq!(
        told.stdout,
        "FAIL orders: no key\n     \
         cases.yaml:6  GET http://a.example.com/\n     \
         status  expected 403, is 401\n     \
         reason  expected api_key_unknown, is api_key_missing\n     \
         why: edge/orders refuses it in authentication: api_key_missing\n\
         pass orders: alice  allowed\n"
    );
    assert_eq!((told.code, told.stderr.as_str()), (1, "2 cases: 1 passed, 1 failed\n"));
    let told = portcullis(folder.path(), &["test", "cases.yaml", "-o", "json"]);
    let report = told.json();
    assert_eq!(told.code, 1);
    assert_eq!(report["failed"], 1);
    let case = &report["tests"][0]["cases"][0];
    assert_eq!(case["result"], "failed");
    assert_eq!(case["mismatches"][0]["field"], "status");
    assert_eq!(case["answer"]["stage"], "authentication");
    assert_eq!(case["answer"]["headers"]["www-authenticate"][0], "ApiKey realm=\"api\"");
    let told = portcullis(folder.path(), &["test", "cases.yaml", "-o", "yaml"]);
    assert!(told.stdout.contains("failed: 1"), "{}", told.stdout);
}

#[test]
fn what_depends_on_what_is_not_said_is_not_guessed() {
    let folder = folder(&CASES.replace(", from: 10.0.0.1", ""));
    let told = portcullis(folder.path(), &["test", "cases.yaml"]);
    assert_eq!(told.code, 2, "{}", told.stdout);
    assert!(
        told.stdout
            .contains("edge/orders has rules on addresses, and the request does not say where it comes from"),
        "{}",
        told.stdout
    );
    let told = portcullis(
        folder.path(),
        &["explain", "request", "GET", "http://a/", "-f", "manifests"],
    );
    assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{}", told.stderr);
}

#[test]
fn test_files_at_fault_are_refused_with_place_and_fix() {
    for (cases, expected) in [
        (
            "cases: []\n",
            "cases.yaml:5:8 error[too-short] PolicyTest orders cases: ",
        ),
        (
            &CASES.replace("reason:", "raeson:"),
            "cases.yaml:8:25 error[unknown-field] PolicyTest orders cases[0].expect.raeson: is not a field here; write \"reason\"",
        ),
        (
            &CASES.replace("api_key_missing", "api_key_mising"),
            "error[unknown-value] PolicyTest orders cases[0].expect.reason: \"api_key_mising\" is not a reason; write \"api_key_missing\"",
        ),
        (
            &CASES.replace("name: alice", "name: no key"),
            "error[duplicate-entry] PolicyTest orders cases[1].name: a case before it is named \"no key\" too",
        ),
        (
            &format!("callouts: {{extAuth: {{status: 200}}}}\n{CASES}"),
            "cases.yaml:5:12 error[unsupported-field] PolicyTest orders callouts.extAuth: belongs to external authorization",
        ),
        (
            &format!("callouts: {{remoteJWKS: {{corp: {{status: 200}}}}}}\n{CASES}"),
            "cases.yaml:5:25 error[invalid-combination] PolicyTest orders callouts.remoteJWKS.corp: does not say which keys the server answers with; write keys with servesProvider: corp",
        ),
        (
            &format!(
                "keys: {{idp: {{alg: ES256, servesProvider: corp}}}}\ncallouts: {{remoteJWKS: {{corp: {{status: 503}}}}}}\n{CASES}"
            ),
            "error[invalid-combination] PolicyTest orders callouts.remoteJWKS.corp: fails, and keys serve the provider \"corp\" too",
        ),
        (
            &format!("keys: {{idp: {{alg: ES265}}}}\n{CASES}"),
            "cases.yaml:5:19 error[unknown-value] PolicyTest orders keys.idp.alg: \"ES265\" is not an algorithm that tokens are signed by; write \"ES256\"",
        ),
        (
            &format!("keys: {{idp: {{alg: ES256}}}}\ntokens: {{alice: {{key: ipd}}}}\n{CASES}"),
            "cases.yaml:6:23 error[unknown-value] PolicyTest orders tokens.alice.key: no key is called \"ipd\"; write \"idp\"",
        ),
        (
            &CASES.replace("{x-api-key: canary-key-of-alice}", "{authorization: 'Bearer ${bob}'}"),
            "cases[1].request.headers.authorization: no token is called \"bob\"; name one of tokens, or write $${",
        ),
        (
            &CASES.replace("{status: 401, reason: api_key_missing}", "{}"),
            "error[too-short] PolicyTest orders cases[0].expect",
        ),
        (
            &CASES.replace("expect: {status", "expect: {status: 401, status"),
            "error[duplicate-key]",
        ),
        ("cases: [\n", "error[yaml-syntax]"),
    ] {
        let folder = folder(cases);
        let told = portcullis(folder.path(), &["test", "cases.yaml"]);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{cases}");
        assert!(told.stderr.contains(expected), "{expected}\n{}", told.stderr);
    }
}

const TOKENS: &str = "now: 2026-11-25T12:00:00Z
keys:
  trusted: {alg: ALG, servesProvider: corp}
  foreign: {alg: ALG}
tokens:
  alice: {key: trusted, claims: {iss: https://idp.example.com, sub: alice, exp: now+60, id: 12345678901234567}}
  mallory: {key: foreign, claims: {iss: https://idp.example.com, sub: alice, exp: now+60}}
  late: {key: trusted, claims: {iss: https://idp.example.com, sub: alice, exp: now-61}}
cases:
- name: alice
  request: {line: GET http://a.example.com/, headers: {authorization: 'Bearer ${alice}'}}
  expect: {allow: true, principal: alice, upstream: {set: {x-user: alice, x-id: '12345678901234567'}}}
- name: alice in the query
  request: GET http://a.example.com/?access_token=${alice}
  expect: {allow: true, principal: alice}
- name: nobody
  request: GET http://a.example.com/
  expect: {status: 401, reason: jwt_missing}
- name: mallory
  request: {line: GET http://a.example.com/, headers: {authorization: 'Bearer ${mallory}'}}
  expect: {status: 401, reason: jwt_signature}
- name: late
  request: {line: GET http://a.example.com/, headers: {authorization: 'Bearer ${late}'}}
  expect: {status: 401, reason: jwt_expired}
- name: no token at all
  request: {line: GET http://a.example.com/, headers: {authorization: 'Bearer $${alice}'}}
  expect: {status: 401, reason: jwt_malformed}
";

/// A folder whose only policy asks for tokens by keys that would have to be fetched.
fn folder_of_tokens(cases: &str) -> tempfile::TempDir {
    let folder = folder(cases);
    let file = folder.path().join("manifests/orders.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let others = text
        .split("---\n")
        .filter(|object| !object.contains("kind: SecurityPolicy"));
    let policy = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: orders, namespace: edge}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]\n  jwt:\n    providers:\n    - name: corp\n      issuer: https://idp.example.com\n      remoteJWKS: {uri: https://idp.example.com/keys}\n      claimToHeaders: [{header: x-user, claim: sub}, {header: x-id, claim: id}]\n";
    let objects: Vec<&str> = others.chain([policy]).collect();
    fs::write(&file, objects.join("---\n")).unwrap();
    folder
}

#[test]
fn tokens_are_signed_by_keys_that_serve_a_provider() {
    for alg in [
        "EdDSA", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "PS256", "PS384", "PS512", "RS256", "RS384",
        "RS512",
    ] {
        let folder = folder_of_tokens(&TOKENS.replace("ALG", alg));
        let told = portcullis(folder.path(), &["test", "cases.yaml"]);
        assert_eq!(told.code, 0, "{alg}: {}{}", told.stdout, told.stderr);
    }
}

#[test]
fn keys_of_nobody_and_times_that_are_none_are_refused() {
    for (from, to, expected) in [
        (
            "servesProvider: corp",
            "servesProvider: crop",
            "cases.yaml:7: keys.trusted.servesProvider: no policy has a provider \"crop\"",
        ),
        (
            "exp: now-61",
            "exp: nowish",
            "cases.yaml:12: tokens.late.claims.exp: \"nowish\" is no time",
        ),
    ] {
        let folder = folder_of_tokens(&TOKENS.replace("ALG", "ES256").replace(from, to));
        let told = portcullis(folder.path(), &["test", "cases.yaml"]);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{to}");
        assert!(told.stderr.contains(expected), "{expected}\n{}", told.stderr);
    }
}

/// A server of keys that fails: nobody's token can be verified, and that is not the client's fault.
const FAILING: &str = "keys:
  foreign: {alg: ES256}
tokens:
  alice: {key: foreign, claims: {iss: https://idp.example.com, sub: alice, exp: now+60}}
callouts:
  remoteJWKS: {corp: {status: 503}}
cases:
- name: alice
  request: {line: GET http://a.example.com/, headers: {authorization: 'Bearer ${alice}'}}
  expect: {status: 503, reason: jwt_keys_unavailable, headers: {retry-after: '1'}}
- name: nobody
  request: GET http://a.example.com/
  expect: {status: 401, reason: jwt_missing}
";

#[test]
fn a_server_of_keys_answers_as_the_file_says_or_the_answer_cannot_be_told() {
    let told = portcullis(folder_of_tokens(FAILING).path(), &["test", "cases.yaml"]);
    assert_eq!(told.code, 0, "{}{}", told.stdout, told.stderr);

    let silent = FAILING.replace("callouts:\n  remoteJWKS: {corp: {status: 503}}\n", "");
    let told = portcullis(folder_of_tokens(&silent).path(), &["test", "cases.yaml"]);
    assert_eq!(told.code, 2, "{}{}", told.stdout, told.stderr);
    assert!(
        told.stderr.contains("1 passed, 0 failed, 1 cannot be told"),
        "{}",
        told.stderr
    );

    let misspelt = FAILING.replace("{corp:", "{crop:");
    let told = portcullis(folder_of_tokens(&misspelt).path(), &["test", "cases.yaml"]);
    assert_eq!((told.code, told.stdout.as_str()), (2, ""));
    let expected =
        "cases.yaml:10: callouts.remoteJWKS: no policy has a provider \"crop\" with remoteJWKS; write \"corp\"";
    assert!(told.stderr.contains(expected), "{}", told.stderr);
}

#[test]
fn what_cannot_be_run_is_no_success() {
    let folder = folder(CASES);
    fs::write(folder.path().join("empty.yaml"), "").unwrap();
    fs::write(
        folder.path().join("none.yaml"),
        file(CASES).replace("manifests: [manifests]", ""),
    )
    .unwrap();
    fs::write(
        folder.path().join("away.yaml"),
        file(CASES).replace("[manifests]", "[nowhere]"),
    )
    .unwrap();
    fs::write(
        folder.path().join("other.yaml"),
        file(&format!("gateway: edge/other\n{CASES}")),
    )
    .unwrap();
    fs::write(
        folder.path().join("url.yaml"),
        file(&CASES.replace("GET http://a.example.com/,", "get a.example.com,")),
    )
    .unwrap();
    for (arguments, expected) in [
        (&["empty.yaml"][..], "empty.yaml: holds no PolicyTest"),
        (&["manifests"], "no PolicyTest in the named folders"),
        (&["nowhere.yaml"], "nowhere.yaml: no such file or folder"),
        (&["cases.yaml", "--run", "x"], "no case has a name that --run matches"),
        (&["cases.yaml", "--run", "("], "--run is not a regular expression"),
        (&["none.yaml"], "PolicyTest orders names no manifests"),
        (&["away.yaml"], "nowhere: no such file or folder"),
        (&["other.yaml"], "the answers of 2 cases cannot be told"),
        (&["url.yaml"], "the answers of 2 cases cannot be told"),
        (&[], "required arguments"),
    ] {
        let told = portcullis(folder.path(), &[&["test"], arguments].concat());
        assert_eq!(told.code, 2, "{arguments:?} {}", told.stdout);
        assert!(told.stderr.contains(expected), "{arguments:?}: {}", told.stderr);
    }
    // A manifest that no API server would take makes every answer a guess.
    edit(
        &folder.path().join("manifests/orders.yaml"),
        "defaultAction",
        "defaultAktion",
    );
    let told = portcullis(folder.path(), &["test", "cases.yaml"]);
    assert_eq!(told.code, 2);
    assert!(
        told.stderr.contains("orders.yaml cannot be taken whole"),
        "{}",
        told.stderr
    );
}

#[test]
fn statuses_are_a_table_with_the_worst_first() {
    let told = portcullis(Path::new(EXAMPLES), &["status", "-f", "most-specific"]);
    assert_eq!(told.code, 0, "{}", told.stdout);
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(lines[0].starts_with("KIND "), "{}", told.stdout);
    assert!(
        lines[1].contains("Overridden") && lines[1].starts_with("SecurityPolicy  shop/"),
        "{}",
        told.stdout
    );
    assert!(told.stdout.contains("HTTPRoute       shop/orders"), "{}", told.stdout);
    let told = portcullis(
        Path::new(EXAMPLES),
        &["status", "orders", "-n", "shop", "-o", "json", "-f", "most-specific"],
    );
    let items = told.json();
    let item = &items["items"][0];
    assert_eq!(item["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(item["status"]["parents"][0]["parentRef"]["name"], "public");
    assert_eq!(item["status"]["parents"][0]["conditions"][0]["type"], "Accepted");
    let told = portcullis(
        Path::new(EXAMPLES),
        &["status", "-f", "broken/gateway.yaml", "broken/invalid-cidr.yaml"],
    );
    assert_eq!(told.code, 1, "{}", told.stdout);
    let told = portcullis(Path::new(EXAMPLES), &["status", "nobody", "-f", "cors"]);
    assert_eq!(told.code, 2);
    assert!(
        told.stderr.contains("no object named nobody has a status"),
        "{}",
        told.stderr
    );
}

/// Two routes of a host, told apart by a header that both policies set, and each with a policy of its own.
fn spoofable() -> String {
    let head = manifests(8080, "10.0.0.0/8");
    let head = head
        .split("---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute")
        .next()
        .unwrap();
    let rest = head.to_owned()
        + "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: echo, namespace: edge}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: 9}}]
---
apiVersion: v1
kind: Secret
metadata: {name: clients, namespace: edge}
stringData: {alice: canary-key-of-alice}
";
    let route = |name: &str, matched: &str| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: edge}}
spec:
  parentRefs: [{{name: public}}]
  hostnames: [\"*.example.com\"]
  rules:
  - matches: [{{path: {{value: /}}{matched}}}]
    backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: echo}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{name: {name}, namespace: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  apiKeyAuth:
    credentialRefs: [{{name: clients}}]
    extractFrom: [{{headers: [x-api-key]}}]
    forwardClientIDHeader: x-client-id
"
        )
    };
    rest + &route("admin", ", headers: [{name: x-client-id, value: admin}]") + &route("rest", "")
}

#[test]
fn what_envoy_does_around_the_policy_is_answered_too() {
    let folder = folder(
        "cases:
- name: a header that the policy sets does not choose the route
  request: {line: GET http://a.example.com/, headers: {x-api-key: canary-key-of-alice, x-client-id: admin}}
  expect: {status: 403, reason: seal, allow: false, policy: edge/admin}
- name: without it the other route decides
  request: {line: GET http://a.example.com/, headers: {x-api-key: canary-key-of-alice}}
  expect: {allow: true, policy: edge/rest, upstream: {set: {x-client-id: alice}}}
- name: a trailing dot and a port do not matter
  request: {line: GET http://A.Example.com.:8080/, headers: {x-api-key: canary-key-of-alice}}
  expect: {allow: true, policy: edge/rest}
- name: a host that no route has
  request: GET http://example.com/
  expect: {status: 404, policy: none, allow: false}
- name: a host with other characters
  request: {line: GET http://a.example.com/, headers: {host: \"x,a.example.com\", x-api-key: canary-key-of-alice}}
  expect: {status: 400, policy: none}
- name: a gRPC caller gets its status in a header
  request: {line: POST http://a.example.com/x.Y/Z, headers: {content-type: application/grpc}}
  expect: {status: 200, reason: api_key_missing, headers: {grpc-status: 16, www-authenticate: ApiKey*}}
",
    );
    fs::write(folder.path().join("manifests/orders.yaml"), spoofable()).unwrap();
    let told = portcullis(folder.path(), &["test", "cases.yaml"]);
    assert_eq!(told.code, 0, "{}{}", told.stdout, told.stderr);
}
