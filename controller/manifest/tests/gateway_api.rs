//! What Gateway API's definitions refuse.

use portcullis_manifest::load;

fn check(kind: &str, spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n  {}\n",
        spec.replace('\n', "\n  ")
    );
    let loaded = load(&[("x.yaml".to_owned(), text)]);
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

fn listener(fields: &str) -> String {
    format!("gatewayClassName: c\nlisteners: [{{name: a, {fields}}}]")
}

#[test]
fn a_gateway_is_refused() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "port: 0, protocol: HTTP",
            "[out-of-range]",
            "write a number from 1 to 65535",
        ),
        (
            "port: 70000, protocol: HTTP",
            "[out-of-range]",
            "spec.listeners[0].port",
        ),
        ("port: '80', protocol: HTTP", "[wrong-type]", "write 80 without quotes"),
        (
            "port: 80, protocol: HTTP, hostname: 'https://Example.com:8443'",
            "[invalid-hostname]",
            "write \"example.com\"",
        ),
        (
            "port: 80, protocol: HTTP, hostname: 'a.*.com'",
            "[invalid-hostname]",
            "write a hostname",
        ),
        (
            "port: 80, protocol: HTTP, tls: {certificateRefs: [{name: a}]}",
            "[invalid-combination]",
            "tls must not be specified",
        ),
        (
            "port: 443, protocol: HTTPS, tls: {mode: Passthrough}",
            "[invalid-combination]",
            "tls mode must be Terminate",
        ),
        (
            "port: 443, protocol: HTTPS, tls: {}",
            "[invalid-combination]",
            "certificateRefs or options must be specified",
        ),
        (
            "port: 443, protocol: HTTPS, tls: {mode: terminate}",
            "[unknown-value]",
            "write \"Terminate\"",
        ),
        (
            "port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: all}}",
            "[unknown-value]",
            "write \"All\"",
        ),
        (
            "port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP",
            "[invalid-combination]",
            "must be unique for each listener",
        ),
        (
            "port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP",
            "[duplicate-entry]",
            "an entry before it has the same name",
        ),
        (
            "protocol: HTTP",
            "[missing-field]",
            "spec.listeners[0].port: is required",
        ),
        (
            "port: 80, protocol: HTTP, hostnames: [a]",
            "[unknown-field]",
            "write \"hostname\"",
        ),
    ];
    for &(fields, code, text) in cases {
        let lines = check("Gateway", &listener(fields));
        assert!(
            lines.iter().any(|line| line.contains(code) && line.contains(text)),
            "{lines:#?}"
        );
    }
}

#[test]
fn a_gateway_is_taken() {
    let cases: &[&str] = &[
        "port: 80, protocol: HTTP, hostname: '*.example.com', allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}, kinds: [{kind: HTTPRoute}]}",
        "port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP, hostname: a.example.com",
        "port: 443, protocol: HTTPS, tls: {mode: Terminate, certificateRefs: [{group: '', kind: Secret, name: a, namespace: b}]}",
    ];
    for &fields in cases {
        assert_eq!(check("Gateway", &listener(fields)), Vec::<String>::new());
    }
}

#[test]
fn a_rule_is_refused() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "matches: [{path: {value: orders}}]",
            "[invalid-combination]",
            "start with '/'",
        ),
        (
            "matches: [{path: {value: /a//b}}]",
            "[invalid-combination]",
            "must not contain '//'",
        ),
        (
            "matches: [{path: {value: /a/..}}]",
            "[invalid-combination]",
            "end with '/..'",
        ),
        (
            "matches: [{path: {type: Prefix, value: /a}}]",
            "[unknown-value]",
            "write \"PathPrefix\"",
        ),
        ("matches: [{method: get}]", "[unknown-value]", "write \"GET\""),
        (
            "matches: [{headers: [{name: 'a b', value: c}]}]",
            "[invalid-header-name]",
            "headers[0].name",
        ),
        (
            "matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]",
            "[duplicate-entry]",
            "headers[1]",
        ),
        ("match: [{path: {value: /a}}]", "[unknown-field]", "write \"matches\""),
        (
            "backendRefs: [{name: a}]",
            "[invalid-combination]",
            "Must have port for Service reference; add \"port\"",
        ),
        (
            "backendRefs: [{name: a, port: 80, weight: -1}]",
            "[out-of-range]",
            "weight",
        ),
        (
            "backendRefs: [{name: a, port: 80}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]",
            "[invalid-combination]",
            "must not be used together with backendRefs",
        ),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]",
            "[unknown-value]",
            "301",
        ),
        (
            "filters: [{type: URLRewrite, requestRedirect: {scheme: https}}]",
            "[invalid-combination]",
            "filter.urlRewrite",
        ),
        ("timeouts: {request: 5}", "[wrong-type]", "write \"5\""),
        ("timeouts: {request: '5'}", "[invalid-duration]", "write \"5s\""),
        (
            "name: a}, {name: a",
            "[invalid-combination]",
            "Rule name must be unique",
        ),
        (
            "timeouts: {request: 1s, backendRequest: 1001ms}",
            "[invalid-combination]",
            "backendRequest timeout cannot be longer",
        ),
        ("retry: {codes: [200]}", "[out-of-range]", "retry.codes[0]"),
        ("retry: {attempts: -1}", "[out-of-range]", "retry.attempts"),
        ("retry: {backoff: '1'}", "[invalid-duration]", "retry.backoff"),
        ("retry: {code: [503]}", "[unknown-field]", "write \"codes\""),
        (
            "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 101}}]",
            "[out-of-range]",
            "requestMirror.percent",
        ),
        (
            "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}}}]",
            "[invalid-combination]",
            "Only one of percent or fraction",
        ),
        (
            "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 101}}}]",
            "[invalid-combination]",
            "numerator must be less than or equal to denominator",
        ),
        (
            "filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a.example.com']}}]",
            "[invalid-combination]",
            "cannot stand alongside",
        ),
        (
            "filters: [{type: CORS, cors: {allowMethods: [get]}}]",
            "[unknown-value]",
            "write \"GET\"",
        ),
        (
            "filters: [{type: CORS, cors: {allowOrigins: [a.example.com]}}]",
            "allowOrigins[0]",
            "",
        ),
        ("filters: [{type: CORS, cors: {maxAge: 0}}]", "[out-of-range]", "maxAge"),
        ("filters: [{type: CORS}]", "[invalid-combination]", "filter.cors"),
    ];
    for &(rule, code, text) in cases {
        let lines = check("HTTPRoute", &format!("rules: [{{{rule}}}]"));
        assert!(
            lines.iter().any(|line| line.contains(code) && line.contains(text)),
            "{lines:#?}"
        );
    }
}

#[test]
fn a_rule_is_taken() {
    let cases: &[&str] = &[
        "matches: [{path: {type: RegularExpression, value: 'a//b'}, method: GET, headers: [{name: a, value: b}], queryParams: [{type: RegularExpression, name: c, value: d}]}]",
        "name: a}, {}, {name: b",
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example.com, port: 443, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]",
        "filters: [{type: URLRewrite, urlRewrite: {hostname: a.example.com, path: {type: ReplaceFullPath, replaceFullPath: /b}}}, {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: a, value: b}], remove: [c]}}]",
        "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}], backendRefs: [{name: a, port: 80, weight: 0}]",
        "backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: a}], timeouts: {request: 10s, backendRequest: 500ms}",
        "timeouts: {request: 0s, backendRequest: 500ms}, retry: {codes: [500, 503], attempts: 3, backoff: 100ms}",
        "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 1, denominator: 1000}}}]",
        "filters: [{type: CORS, cors: {allowOrigins: ['https://*.example.com', 'http://a:8080'], allowMethods: ['*'], allowHeaders: [x-a], exposeHeaders: ['*'], allowCredentials: true, maxAge: 10}}]",
    ];
    for &rule in cases {
        assert_eq!(
            check("HTTPRoute", &format!("rules: [{{{rule}}}]")),
            Vec::<String>::new()
        );
    }
}

#[test]
fn a_grpc_rule_is_refused() {
    let cases: &[(&str, &str, &str)] = &[
        ("matches: [{method: {}}]", "[invalid-combination]", "One or both of"),
        (
            "matches: [{method: {service: a/b}}]",
            "[invalid-combination]",
            "service must only contain",
        ),
        (
            "matches: [{method: {service: a, method: '/b'}}]",
            "[invalid-combination]",
            "method must only contain",
        ),
        (
            "matches: [{method: {type: Prefix, service: a}}]",
            "[unknown-value]",
            "method.type",
        ),
        ("matches: [{path: {value: /a}}]", "[unknown-field]", "path"),
        (
            "matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]",
            "[duplicate-entry]",
            "headers[1]",
        ),
        (
            "backendRefs: [{name: a}]",
            "[invalid-combination]",
            "Must have port for Service reference",
        ),
        ("timeouts: {request: 1s}", "[unknown-field]", "timeouts"),
        (
            "filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]",
            "[unknown-value]",
            "filters[0].type",
        ),
        (
            "filters: [{type: RequestMirror}]",
            "[invalid-combination]",
            "filter.requestMirror",
        ),
        (
            "name: a}, {name: a",
            "[invalid-combination]",
            "Rule name must be unique",
        ),
    ];
    for &(rule, code, text) in cases {
        let lines = check("GRPCRoute", &format!("rules: [{{{rule}}}]"));
        assert!(
            lines.iter().any(|line| line.contains(code) && line.contains(text)),
            "{rule}: {lines:#?}"
        );
    }
}

#[test]
fn a_grpc_rule_is_taken() {
    let cases: &[&str] = &[
        "matches: [{method: {service: orders.v1.Orders, method: List}}, {method: {service: .Orders}}, {method: {method: List}}, {headers: [{name: a, value: b}]}]",
        "matches: [{method: {type: RegularExpression, service: 'orders[.].*', method: 'Get|List'}}]",
        "name: a, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}], backendRefs: [{name: a, port: 80, weight: 3}]",
    ];
    for &rule in cases {
        assert_eq!(
            check("GRPCRoute", &format!("rules: [{{{rule}}}]")),
            Vec::<String>::new()
        );
    }
}

#[test]
fn a_route_has_at_most_128_matches() {
    for kind in ["HTTPRoute", "GRPCRoute"] {
        let rules = |last: usize| {
            let rule = |count| {
                format!(
                    "{{matches: [{}]}}",
                    vec!["{headers: [{name: a, value: b}]}"; count].join(", ")
                )
            };
            format!("rules: [{}, {}, {}]", rule(64), rule(63), rule(last))
        };
        assert_eq!(check(kind, &rules(1)), Vec::<String>::new());
        let lines = check(kind, &rules(2));
        assert!(lines.iter().any(|line| line.contains("at most 128")), "{lines:#?}");
    }
}

#[test]
fn a_class_names_its_controller_as_a_path() {
    let lines = check("GatewayClass", "controllerName: portcullis");
    assert!(lines[0].contains("spec.controllerName"), "{lines:#?}");
    assert_eq!(
        check("GatewayClass", "controllerName: portcullis.dev/a"),
        Vec::<String>::new()
    );
}
