//! What Envoy Gateway's definitions refuse, with its messages, and what they take.

use portcullis_manifest::load;

const ROUTE: &str = "targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}";

fn check(spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: p}}\nspec:\n  {}\n",
        spec.replace('\n', "\n  ")
    );
    let loaded = load(&[("p.yaml".to_owned(), text)]);
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn refused() {
    let cases: &[(&str, &str)] = &[
        ("{}", "spec: either targetRef or targetRefs must be used"),
        (
            "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}\ntargetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]",
            "spec: either targetRef or targetRefs must be used",
        ),
        (
            "targetSelectors: []",
            "spec: either targetRef or targetRefs must be used",
        ),
        (
            "targetRef: {group: '', kind: HTTPRoute, name: r}",
            "this policy can only have a targetRef.group of gateway.networking.k8s.io",
        ),
        (
            "targetRefs: [{group: apps, kind: HTTPRoute, name: r}]",
            "this policy can only have a targetRefs[*].group of gateway.networking.k8s.io",
        ),
        (
            "targetRef: {group: gateway.networking.k8s.io, kind: TLSRoute, name: r}",
            "this policy can only have a targetRef.kind of Gateway/ListenerSet/HTTPRoute/GRPCRoute/TCPRoute",
        ),
        (
            "targetRefs: [{group: gateway.networking.k8s.io, kind: Service, name: r}]",
            "this policy can only have a targetRefs[*].kind of Gateway/ListenerSet/HTTPRoute/GRPCRoute/TCPRoute",
        ),
        (
            "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}\nmergeType: StrategicMerge",
            "mergeType can only be used with xRoute targets",
        ),
        (
            "targetSelectors: [{kind: ListenerSet}]\nmergeType: JSONMerge",
            "mergeType can only be used with xRoute targets",
        ),
        (
            "mergeType: Replace",
            "spec.mergeType: Replace is not a valid MergeType for SecurityPolicy",
        ),
        (
            "targetSelectors: [{kind: HTTPRoute, namespaces: {from: Selector}}]",
            "spec.targetSelectors[0].namespaces: selector must be specified when from is Selector",
        ),
        (
            "targetSelectors: [{group: apps, kind: HTTPRoute}]",
            "spec.targetSelectors[0]: group must be gateway.networking.k8s.io",
        ),
        (
            "authorization: {rules: [{action: Allow, principal: {jwt: {provider: p, scopes: [a]}}}]}",
            "if authorization.rules.principal.jwt is used, jwt must be defined",
        ),
        ("extAuth: {}", "spec.extAuth: one of grpc or http must be specified"),
        (
            "extAuth: {grpc: {backendRefs: [{name: a, port: 1}]}, http: {backendRefs: [{name: a, port: 1}]}}",
            "spec.extAuth: only one of grpc or http can be specified",
        ),
        (
            "extAuth: {grpc: {}}",
            "spec.extAuth.grpc: backendRef or backendRefs needs to be set",
        ),
        (
            "extAuth: {http: {backendRefs: [{name: a, kind: Pod}]}}",
            "BackendRefs only supports Service, ServiceImport, and Backend kind.",
        ),
        (
            "extAuth: {http: {backendRefs: [{name: a, group: apps, kind: Service}]}}",
            "BackendRefs only supports Core, multicluster.x-k8s.io, and gateway.envoyproxy.io groups.",
        ),
        (
            "extAuth: {http: {backendRefs: [{name: a}]}}",
            "spec.extAuth.http.backendRefs[0]: Must have port for Service reference",
        ),
        (
            "extAuth: {http: {backendRefs: [{name: a, port: 1}], path: /a, pathOverride: /b}}",
            "only one of path or pathOverride can be specified",
        ),
        (
            "extAuth: {http: {backendRefs: [{name: a, port: 1}]}, contextExtensions: [{name: a, type: Value}]}",
            "Exactly one of value or valueRef must be set with correct type.",
        ),
        (
            "jwt: {providers: [{name: a, remoteJWKS: {uri: 'https://a'}, localJWKS: {inline: '{}'}}]}",
            "spec.jwt.providers[0]: remoteJWKS and localJWKS cannot both be specified.",
        ),
        (
            "jwt: {providers: [{name: a}]}",
            "either remoteJWKS or localJWKS must be specified.",
        ),
        (
            "jwt: {providers: [{name: a, remoteJWKS: {uri: 'https://a'}, recomputeRoute: true}]}",
            "claimToHeaders must be specified if recomputeRoute is enabled",
        ),
        (
            "jwt: {optional: true, failOpen: true, providers: [{name: a, remoteJWKS: {uri: 'https://a'}}]}",
            "optional and failOpen cannot both be set; failOpen already tolerates a missing JWT",
        ),
        (
            "jwt: {providers: [{name: a, localJWKS: {type: ValueRef, inline: '{}'}}]}",
            "Exactly one of inline or valueRef must be set with correct type.",
        ),
        (
            "jwt: {providers: [{name: a, remoteJWKS: {uri: 'https://a', backendSettings: {retry: {perRetry: {timeout: 1s}}}}}]}",
            "Retry timeout is not supported",
        ),
        (
            "apiKeyAuth: {credentialRefs: [], extractFrom: [{headers: [a], cookies: [b]}]}",
            "exactly one of headers, params, or cookies must be specified",
        ),
        (
            "apiKeyAuth: {credentialRefs: [], extractFrom: [{}]}",
            "exactly one of headers, params, or cookies must be specified",
        ),
        ("apiKeyAuth: {credentialRefs: [], extractFrom: []}", "[too-short]"),
        (
            "apiKeyAuth: {credentialRefs: [], extractFrom: [{headers: ['']}]}",
            "[too-short]",
        ),
        ("apiKeyAuth: {credentialRefs: []}", "[missing-field]"),
        (
            "authorization: {rules: [{action: Allow}]}",
            "spec.authorization.rules[0]: at least one of principal or cel must be specified",
        ),
        (
            "authorization: {rules: [{action: Allow, principal: {}}]}",
            "at least one of clientCIDRs, jwt, headers, or clientIPGeoLocations must be specified",
        ),
        (
            "authorization: {rules: [{action: Allow, principal: {clientCIDRs: []}}]}",
            "[too-short]",
        ),
        (
            "authorization: {rules: [{action: Allow, principal: {jwt: {provider: p}}}]}\njwt: {providers: [{name: p, localJWKS: {inline: '{}'}}]}",
            "at least one of claims or scopes must be specified",
        ),
        (
            "authorization: {rules: [{action: Allow, operation: {}, cel: 'true'}]}",
            "at least one of methods or path must be specified",
        ),
        (
            "authorization: {rules: [{action: Allow, principal: {clientIPGeoLocations: [{country: DEU}]}}]}",
            "[too-long]",
        ),
        (
            "authorization: {rules: [{action: Allow, operation: {methods: [get]}, cel: 'true'}]}",
            "write \"GET\"",
        ),
        (
            "oidc: {provider: {issuer: 'https://a'}, clientSecret: {name: s}}",
            "spec.oidc: only one of clientID or clientIDRef must be set",
        ),
        (
            "oidc: {provider: {issuer: 'https://a', backendSettings: {retry: {retryOn: {httpStatusCodes: [500]}}}}, clientID: c, clientSecret: {name: s}}",
            "HTTPStatusCodes is not supported",
        ),
        (
            "oidc: {provider: {issuer: 'https://a'}, clientID: c, clientSecret: {name: s}, forwardIDToken: {header: Host}}",
            "header cannot be the Host header",
        ),
        (
            "oidc: {provider: {issuer: 'https://a'}, clientID: c, clientSecret: {name: s}, forwardAccessToken: true, forwardIDToken: {header: authorization}}",
            "forwardAccessToken cannot be true when forwardIDToken.header is Authorization",
        ),
        (
            "csrf: {shadowFraction: {numerator: 101}}",
            "numerator must be less than or equal to denominator",
        ),
        ("cors: {allowOrigins: ['https://a.*.c']}", "[invalid-origin]"),
        ("cors: {maxAge: 1d}", "write \"24h\""),
        ("cors: {allowOrigin: ['https://a.example.com']}", "[unknown-field]"),
        ("authorisation: {}", "write \"authorization\""),
        ("cors: {allowOrigins: null}", "spec.cors.allowOrigins: has no value"),
        (
            "extAuth: {grpc: {backendRefs: [{name: a, port: 1}], backendSettings: {http2: {connectionKeepalive: {interval: 1s, timeout: 1m}}}}}",
            "timeout must be less than interval",
        ),
    ];
    for &(spec, message) in cases {
        let has_target = ["target", "{}"].iter().any(|word| spec.starts_with(word));
        let spec = if has_target {
            spec.to_owned()
        } else {
            format!("{ROUTE}\n{spec}")
        };
        let lines = check(&spec);
        assert!(lines.iter().any(|line| line.contains(message)), "{message}: {lines:#?}");
    }
}

#[test]
fn taken() {
    let cases: &[&str] = &[
        "cors: {}",
        "csrf: {}",
        "authorization: {}",
        "cors: {allowOrigins: ['*', 'https://*', 'https://*:8443', 'http://localhost', 'moz-extension://id', 'https://*.b.c'], maxAge: 1h30m}",
        "csrf: {shadowFraction: {numerator: 100}, additionalOrigins: ['https://a.example.com']}",
        "apiKeyAuth: {credentialRefs: [], extractFrom: [{headers: [a]}, {params: [b]}, {cookies: [c]}], forwardClientIDHeader: x, sanitize: true}",
        "basicAuth: {users: {name: s}, forwardUsernameHeader: x}",
        "mergeType: StrategicMerge",
        "authorization: {defaultAction: Allow, rules: [{name: a, action: Deny, operation: {methods: [GET], path: {value: /a}}, cel: 'true'}, {action: Allow, principal: {clientCIDRs: [10.0.0.0/8, 'fd00::/8'], headers: [{name: a, values: [b]}], clientIPGeoLocations: [{country: NO}, {asn: 1}, {anonymous: {isVPN: false}}]}}]}",
        "jwt: {providers: [{name: a, issuer: b, audiences: [c], remoteJWKS: {uri: 'https://a', cacheDuration: 5m, failedRefetchDuration: 1s, backendRefs: [{name: b, port: 443}], backendSettings: {retry: {numRetries: 3, retryOn: {triggers: [5xx, retriable-4xx]}}}}, claimToHeaders: [{claim: a, header: b}], recomputeRoute: true, extractFrom: {headers: [{name: a, valuePrefix: 'b '}], cookies: [c], params: [d]}}]}",
        "oidc: {provider: {issuer: 'https://a'}, clientIDRef: {name: c}, clientSecret: {name: s}, scopes: [a], resources: [b], redirectURL: 'https://a/b', logoutPath: /l, cookieDomain: example.com, cookieConfig: {sameSite: Lax}, cookieNames: {accessToken: a, idToken: b}, denyRedirect: {headers: [{name: a, value: b}]}, forwardIDToken: {header: Authorization}, csrfTokenTTL: 10m, passThroughAuthHeader: true}",
        "extAuth: {http: {backendRef: {name: a, port: 1}, path: /a, headersToBackend: [x]}, headersToExtAuth: [y], bodyToExtAuth: {maxRequestBytes: 1}, timeout: 1s, failOpen: true, recomputeRoute: true, includeRouteMetadata: true, statusOnError: 503, contextExtensions: [{name: a, value: b}, {name: c, type: ValueRef, valueRef: {group: '', kind: Secret, name: s, key: k}}]}",
        "extAuth: {grpc: {backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: a, fallback: true}], backendSettings: {loadBalancer: {type: ConsistentHash, consistentHash: {type: Cookie, cookie: {name: a, ttl: 1h}}}, circuitBreaker: {maxConnections: 1}, connection: {bufferLimit: 32Ki}, timeout: {tcp: {connectTimeout: 1s}, http: {requestTimeout: 2s}}, healthCheck: {active: {type: HTTP, http: {path: /}}, passive: {}}, dns: {lookupFamily: IPv4}, tcpKeepalive: {probes: 1}, proxyProtocol: {version: V2}, http2: {maxConcurrentStreams: 1}}}}",
    ];
    for &spec in cases {
        assert_eq!(check(&format!("{ROUTE}\n{spec}")), Vec::<String>::new());
    }
}

fn backend(spec: &str) -> Vec<String> {
    let text =
        format!("apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: b}}\nspec: {{{spec}}}\n");
    let loaded = load(&[("b.yaml".to_owned(), text)]);
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn a_backend_is_refused() {
    let cases: &[(&str, &str)] = &[
        ("endpoints: [{}]", "one of fqdn, ip or unix must be specified"),
        (
            "endpoints: [{fqdn: {hostname: a, port: 1}, ip: {address: 10.0.0.1, port: 1}}]",
            "only one of fqdn, ip or unix can be specified",
        ),
        (
            "endpoints: [{fqdn: {hostname: a, port: 1}}, {ip: {address: 10.0.0.1, port: 1}}]",
            "fqdn addresses cannot be mixed with other address types",
        ),
        (
            "endpoints: [{fqdn: {hostname: 'https://a', port: 1}}]",
            "[invalid-name]",
        ),
        (
            "endpoints: [{ip: {address: a.example.com, port: 1}}]",
            "[invalid-address]",
        ),
        (
            "endpoints: [{ip: {address: '::1', port: 1}}]",
            "write \"0:0:0:0:0:0:0:1\"",
        ),
        ("endpoints: [{ip: {address: 10.0.0.1, port: 65536}}]", "[out-of-range]"),
        ("endpoints: []", "[too-short]"),
        (
            "type: DynamicResolver, endpoints: [{ip: {address: 10.0.0.1, port: 1}}]",
            "DynamicResolver type cannot have endpoints specified",
        ),
        (
            "endpoints: [{unix: {path: /x}}], appProtocols: [h2c]",
            "write \"gateway.envoyproxy.io/h2c\"",
        ),
        (
            "tls: {insecureSkipVerify: true, wellKnownCACertificates: System}",
            "when InsecureSkipVerify is enabled",
        ),
        (
            "tls: {minVersion: '1.3', maxVersion: '1.2'}",
            "minVersion must be smaller or equal to maxVersion",
        ),
        (
            "tls: {maxVersion: '1.1'}",
            "minVersion must be smaller or equal to maxVersion",
        ),
        ("tls: {minVersion: 1.2}", "put it in quotes"),
        (
            "tls: {minVersion: '1.3', ciphers: [a]}",
            "setting ciphers has no effect",
        ),
        (
            "tls: {sni: a, autoSNIFromEndpointHostname: true}",
            "sni and autoSNIFromEndpointHostname are mutually exclusive",
        ),
    ];
    for &(spec, message) in cases {
        let lines = backend(spec);
        assert!(lines.iter().any(|line| line.contains(message)), "{message}: {lines:#?}");
    }
}

#[test]
fn a_backend_is_taken() {
    let cases: &[&str] = &[
        "type: DynamicResolver",
        "endpoints: [{ip: {address: 'fd00::1', port: 1}, zone: a, hostname: b}, {unix: {path: /x}}], fallback: true, appProtocols: [gateway.envoyproxy.io/ws]",
        "endpoints: [{fqdn: {hostname: a.example.com, port: 443}}], tls: {wellKnownCACertificates: System, sni: a.example.com, minVersion: '1.2', alpnProtocols: [h2], clientCertificateRef: {name: c}}",
    ];
    for &spec in cases {
        assert_eq!(backend(spec), Vec::<String>::new());
    }
}
