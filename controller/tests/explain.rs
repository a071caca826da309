//! `explain` of the built program: a request, a route and a reason, without an Envoy.

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

#[test]
fn a_request_is_explained_stage_by_stage() {
    let explain = |arguments: &[&str]| {
        let arguments = [&["explain", "request"], arguments, &["-f", "quickstart"]].concat();
        portcullis(Path::new(EXAMPLES), &arguments)
    };
    let told = explain(&[
        "GET",
        "http://127.0.0.1:10080/orders",
        "--from",
        "127.0.0.1",
        "-H",
        "x-api-key: guess",
    ]);
    assert_eq!(
        told.stdout,
        "gateway   edge/public\n\
         listener  port 10080, http-10080\n\
         host      *\n\
         route     HTTPRoute shop/orders rule 0 match 0\n\
         client    127.0.0.1\n\
         policy    shop/orders\n  \
         strip-identity       passed      path and identity headers\n  \
         preflight            passed      no preflight\n  \
         early-authorization  passed      1 rule\n  \
         csrf                 -\n  \
         authentication       denied      api_key_unknown\n  \
         authorization        not reached 1 rule\n\
         header    content-length: 29\n\
         header    content-type: text/plain\n\
         header    vary: Origin\n\
         header    www-authenticate: ApiKey realm=\"api\"\n\
         answer    401 api_key_unknown: shop/orders refuses it in authentication: api_key_unknown\n"
    );
    assert_eq!(told.code, 1, "{}", told.stderr);
    let told = explain(&[
        "GET",
        "http://127.0.0.1:10080/orders?a=b",
        "--from",
        "127.0.0.1",
        "-H",
        "x-api-key: quickstart-key-of-alice",
        "-o",
        "json",
    ]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let told = told.json();
    assert_eq!(told["upstream"]["set"]["x-client-id"], "alice");
    assert_eq!(told["upstream"]["path"], "/orders?a=b");
    assert_eq!(told["route"]["namespace"], "shop");
    assert_eq!(told["stages"][4]["state"], "passed");
    let told = explain(&["GET", "http://127.0.0.1:10080/nowhere"]);
    assert_eq!(told.code, 1);
    assert!(
        told.stdout
            .ends_with("answer    404: no policy covers it; no route takes the request\n"),
        "{}",
        told.stdout
    );
    for (arguments, expected) in [
        (&["GET", "127.0.0.1/orders"][..], "is no URL; write http://HOST/PATH"),
        (&["get", "http://127.0.0.1/"], "write GET"),
        (
            &["GET", "https://127.0.0.1/"],
            "has no listener for https on port 443; its ports for https: none",
        ),
        (
            &["GET", "http://127.0.0.1:9/"],
            "has no listener for http on port 9; its ports for http: 10080",
        ),
        (
            &["GET", "http://127.0.0.1/", "--gateway", "a/b"],
            "no Gateway a/b of this controller is served",
        ),
        (&["GET", "http://127.0.0.1/", "-H", "nonsense"], "NAME: VALUE"),
    ] {
        let told = explain(arguments);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(told.stderr.contains(expected), "{arguments:?}: {}", told.stderr);
    }
}

#[test]
fn a_route_is_explained_place_by_place() {
    let explain = |arguments: &[&str]| {
        let arguments = [&["explain", "route"], arguments, &["-f", "most-specific"]].concat();
        portcullis(Path::new(EXAMPLES), &arguments)
    };
    let told = explain(&["shop/orders"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let expected = "HTTPRoute rule 0 \"read\"\n  \
         shop/public/http  decided by SecurityPolicy shop/route\n                      \
         authorization (1 rule, else Deny)  from shop/route\n\
         HTTPRoute rule 1 \"write\"\n  \
         shop/public/http  decided by SecurityPolicy shop/rule\n                      \
         authorization (1 rule, else Deny)  from shop/rule\n\
         other policies here\n";
    assert!(told.stdout.starts_with(expected), "{}", told.stdout);
    for overridden in ["shop/gateway  Overridden", "shop/listener  Overridden"] {
        assert!(told.stdout.contains(overridden), "{}", told.stdout);
    }
    let access_policy = [
        "decided by AccessPolicy shop/orders\n",
        "baseline AccessPolicy shop/everywhere\n",
        "shadow AccessPolicy shop/orders-next\n",
        "apiKeyAuth (one of anyOf)  from shop/orders\n",
        "authorization (1 rule, else Allow)  from shop/everywhere (baseline)\n",
    ];
    let merging = [
        "merged with SecurityPolicy shop/gateway\n",
        "apiKeyAuth  from shop/gateway\n",
        "authorization (1 rule, else Deny)  from shop/orders\n",
    ];
    let routing = ["HTTPRoute rule 1 \"write\"\n", "GRPCRoute rule 0 \"place\"\n"];
    for (example, lines) in [
        ("access-policy", &access_policy[..]),
        (
            "claims",
            &[
                "jwt  from shop/orders\n",
                "authorization (3 rules, else Deny)  from shop/orders\n",
            ],
        ),
        ("merging", &merging),
        ("routing", &routing),
    ] {
        let told = portcullis(Path::new(EXAMPLES), &["explain", "route", "shop/orders", "-f", example]);
        for line in lines {
            assert!(told.stdout.contains(line), "{line}{}", told.stdout);
        }
    }
    let told = explain(&["shop/orders/write", "-o", "json"]);
    assert_eq!(told.json()["places"].as_array().unwrap().len(), 1, "{}", told.stdout);
    for (route, expected) in [
        ("orders", "names no route; write NAMESPACE/NAME"),
        ("shop/other", "no served Gateway has a rule shop/other"),
        (
            "shop/orders/none",
            "shop/orders has no rule \"none\"; write its index, or one of its names: read, write",
        ),
    ] {
        let told = explain(&[route]);
        assert_eq!(told.code, 2);
        assert!(told.stderr.contains(expected), "{}", told.stderr);
    }
}

#[test]
fn a_reason_is_explained_or_a_near_one_named() {
    let explain = |code: &[&str]| portcullis(Path::new("/"), &[&["explain", "reason"], code].concat());
    let told = explain(&["portcullis_api_key_missing"]);
    assert_eq!(
        told.stdout,
        "api_key_missing\n  \
         cause   No place that apiKeyAuth.extractFrom names holds a key.\n  \
         client  401 and a WWW-Authenticate challenge with the body \"Client authentication failed.\".\n  \
         to do   Send the key in one of these places; `portcullis explain route` shows them.\n"
    );
    assert!(
        explain(&["rbac_access_denied_matched_policy[none]"])
            .stdout
            .starts_with("seal\n")
    );
    let told = explain(&["api_key_mising"]);
    assert_eq!((told.code, told.stdout.as_str()), (2, ""));
    assert!(told.stderr.contains("did you mean api_key_missing?"), "{}", told.stderr);
    assert!(explain(&[]).stdout.lines().count() > 20);
    assert_eq!(explain(&["seal", "-o", "json"]).json()["reason"], "seal");
}

#[test]
fn what_envoy_says_by_itself_is_a_code_too() {
    let explain = |code: &str| portcullis(Path::new("/"), &["explain", "reason", code, "-o", "json"]);
    for code in [
        "direct_response",
        "path_normalization_failed",
        "http1.codec_error",
        "http1.headers_too_large",
        "wasm_fail_stream",
        "upstream_reset_before_response_started{connection_termination}",
    ] {
        let told = explain(code);
        assert_eq!((told.code, told.json()["of"].as_str()), (0, Some("envoy")), "{code}");
    }
    assert_eq!(explain("api_key_missing").json()["of"], "policy");
    assert_eq!(explain("http1.codek_error").code, 2);
}

#[test]
fn a_policy_that_refuses_everything_is_a_stage_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.yaml");
    fs::write(&path, manifests(8080, "10.0.0.0/8")).unwrap();
    edit(&path, "x-api-key", "x api key");
    let request = [
        "explain",
        "request",
        "GET",
        "http://a/",
        "-f",
        ".",
        "--from",
        "10.0.0.1",
    ];
    let told = portcullis(folder.path(), &request);
    assert_eq!(told.code, 1, "{}{}", told.stdout, told.stderr);
    assert!(
        told.stdout
            .contains("  policy               denied      policy_invalid\n"),
        "{}",
        told.stdout
    );
    let told = portcullis(folder.path(), &[&request[..], &["-o", "json"]].concat()).json();
    assert_eq!(told["stage"], "policy");
    assert_eq!(told["why"], "edge/orders refuses it: policy_invalid");
}

#[test]
fn a_password_may_find_the_worker_busy() {
    let explain = |user: &str, more: &[&str]| {
        let arguments = [
            "explain",
            "request",
            "GET",
            "http://127.0.0.1:10080/orders",
            "-f",
            "basic-auth",
        ];
        let header = ["-H", user];
        portcullis(Path::new(EXAMPLES), &[&arguments[..], &header, more].concat())
    };
    // dave:guess
    let told = explain("authorization: Basic ZGF2ZTpndWVzcw==", &["-o", "json"]).json();
    assert_eq!(told["reason"], "basic_wrong");
    let busy = serde_json::json!({"status": 503, "reason": "basic_busy", "stage": "authentication"});
    assert_eq!(told["busy"], busy);
    let told = explain("authorization: Basic ZGF2ZTpndWVzcw==", &[]).stdout;
    let line = "perhaps   503 basic_busy in authentication, while too many other passwords are checked\n";
    assert!(told.contains(line), "{told}");
    for other in ["authorization: Bearer x", "x: y"] {
        assert!(explain(other, &["-o", "json"]).json()["busy"].is_null(), "{other}");
    }
}

#[test]
fn what_the_controller_keeps_counts_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("orders.yaml"), manifests(8080, "10.0.0.0/8")).unwrap();
    let request = [
        "explain",
        "request",
        "GET",
        "http://a/",
        "-f",
        "orders.yaml",
        "--from",
        "10.0.0.1",
    ];
    let with = |state: &str| portcullis(folder.path(), &[&request[..], &["--state-dir", state]].concat());
    let told = with("state");
    assert_eq!((told.code, told.stdout.as_str()), (2, ""));
    assert!(
        told.stderr
            .contains("state: no controller keeps its files there; name the --state-dir of `portcullis run`"),
        "{}",
        told.stderr
    );
    assert!(!folder.path().join("state").exists(), "nothing is made there");
    // The key of a controller, as `run` and `render` make it.
    let wasm = folder.path().join("portcullis.wasm");
    fs::write(&wasm, b"").unwrap();
    portcullis(
        folder.path(),
        &[
            "render",
            "-f",
            "orders.yaml",
            "--state-dir",
            "state",
            "--wasm",
            "portcullis.wasm",
        ],
    );
    assert!(folder.path().join("state/salt.key").exists());
    let told = with("state");
    assert_eq!(told.code, 1, "{}", told.stderr);
    assert!(told.stdout.contains("401 api_key_missing"), "{}", told.stdout);
    // What it remembers is of other content: nothing is closed.
    let memory = r#"{"edge/public":{"http-8080":{"*":{"content":"0","reason":"bad"}}}}"#;
    fs::write(folder.path().join("state/quarantine.json"), memory).unwrap();
    assert!(with("state").stdout.contains("401 api_key_missing"));
}
