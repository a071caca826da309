//! A document type that lets an unknown field pass would let a restriction pass: each refuses it, in each of its places.

use portcullis_engine::{
    document::{Document, Secrets},
    policy::Policy,
};
use serde_json::{Value, json};

/// Every field of every type.
fn document() -> Value {
    json!({
        "version": 1,
        "policy": "shop/orders",
        "refuse": "policyInvalid",
        "cors": {
            "allowOrigins": ["https://a.example"], "allowMethods": ["GET"], "allowHeaders": ["x-a"],
            "exposeHeaders": ["x-b"], "maxAge": 1, "allowCredentials": true,
        },
        "apiKey": {
            "extractFrom": [{"header": "x-k"}, {"param": "k"}, {"cookie": "k"}],
            "forwardClientIdHeader": "x-id", "sanitize": true,
        },
        "basicAuth": {"forwardUsernameHeader": "x-user"},
        "jwt": {
            "providers": [{
                "name": "corp", "issuer": "idp", "audiences": ["orders"], "keySet": "corp",
                "extractFrom": {"headers": [{"name": "x-t", "valuePrefix": "t="}], "cookies": ["t"], "params": ["t"]},
                "claimToHeaders": [{"header": "x-sub", "claim": "sub"}],
                "requireExpiration": true, "maxLifetime": 60, "clockSkew": 1, "algorithms": ["HS256"], "stripToken": true,
            }, {"name": "far", "keySet": "k"}],
            "remoteKeySets": [{
                "id": "k", "cluster": "c", "authority": "a", "path": "/", "interval": 300, "retryInterval": 1, "timeout": 2000,
            }],
        },
        "anyOf": ["apiKey", "basicAuth"],
        "csrf": {
            "additionalOrigins": ["https://a.example"], "shadowFraction": {"numerator": 1, "denominator": 2},
        },
        "authorization": {
            "defaultAction": "Deny",
            "rules": [{
                "name": "r", "action": "Allow", "clientCidrs": ["10.0.0.0/8"], "methods": ["GET"],
                "geoLocations": [{
                    "country": "DE", "region": "BE", "city": "Berlin", "asn": 64500, "isp": "Example",
                    "anonymous": {"isAnonymous": false, "isVpn": false, "isHosting": true, "isTor": false, "isProxy": false},
                }],
                "certificate": {
                    "uriSans": [{"type": "Exact", "value": "spiffe://a/b"}], "dnsSans": ["a.example"], "subjects": ["CN=a"],
                },
                "path": {"type": "Exact", "value": "/a", "invert": true},
                "headers": [{"name": "x-a", "values": ["a"]}],
                "cel": [
                    {"bool": true}, {"list": [0]}, {"name": "x"}, {"has": {"of": 2, "name": "a"}},
                    {"each": {"what": "exists", "list": 1, "item": "x", "test": 3}},
                ],
                "jwt": {
                    "provider": "corp", "claims": [{"name": "a", "valueType": "String", "values": ["a"]}], "scopes": ["a"],
                },
            }],
        },
        "baseline": {"version": 1, "policy": "edge/baseline", "csrf": {}},
        "shadow": {"version": 1, "policy": "edge/next", "cors": {"allowCredentials": false}},
    })
}

fn secrets() -> Value {
    json!({
        "salt": "00",
        "apiKeys": [{"id": "alice", "sha256": "00".repeat(32), "notAfter": 1}],
        "users": [{"name": "alice", "hash": "{SHA}LnNEJV8jKtmfFq9Xj5SGUhsNZSU="}],
        "keySets": [{"id": "corp", "jwks": format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{}\"}}]}}", "A".repeat(43))}],
        "baseline": {"salt": "01"},
        "shadow": {"salt": "02"},
    })
}

/// The paths of every object within a value.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(path.to_owned());
            for (name, field) in fields {
                objects(field, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn every_object_refuses_an_unknown_field(whole: &Value, reads: impl Fn(&Value) -> bool, expected: &[&str]) {
    assert!(reads(whole));
    let mut found = Vec::new();
    objects(whole, "", &mut found);
    assert_eq!(found, expected, "an object was added or is gone");
    for path in found {
        for unknown in ["unknown", "x", "Policy", "client_cidrs", "allow_origins"] {
            let mut changed = whole.clone();
            if let Some(Value::Object(fields)) = changed.pointer_mut(&path) {
                fields.insert(unknown.to_owned(), Value::Null);
            }
            assert_ne!(&changed, whole);
            assert!(!reads(&changed), "{path} lets {unknown:?} pass");
        }
    }
}

#[test]
fn every_type_of_the_document() {
    let reads = |value: &Value| serde_json::from_value::<Document>(value.clone()).is_ok();
    let expected = [
        "",
        "/apiKey",
        "/apiKey/extractFrom/0",
        "/apiKey/extractFrom/1",
        "/apiKey/extractFrom/2",
        "/authorization",
        "/authorization/rules/0",
        "/authorization/rules/0/cel/0",
        "/authorization/rules/0/cel/1",
        "/authorization/rules/0/cel/2",
        "/authorization/rules/0/cel/3",
        "/authorization/rules/0/cel/3/has",
        "/authorization/rules/0/cel/4",
        "/authorization/rules/0/cel/4/each",
        "/authorization/rules/0/certificate",
        "/authorization/rules/0/certificate/uriSans/0",
        "/authorization/rules/0/geoLocations/0",
        "/authorization/rules/0/geoLocations/0/anonymous",
        "/authorization/rules/0/headers/0",
        "/authorization/rules/0/jwt",
        "/authorization/rules/0/jwt/claims/0",
        "/authorization/rules/0/path",
        "/baseline",
        "/baseline/csrf",
        "/basicAuth",
        "/cors",
        "/csrf",
        "/csrf/shadowFraction",
        "/jwt",
        "/jwt/providers/0",
        "/jwt/providers/0/claimToHeaders/0",
        "/jwt/providers/0/extractFrom",
        "/jwt/providers/0/extractFrom/headers/0",
        "/jwt/providers/1",
        "/jwt/remoteKeySets/0",
        "/shadow",
        "/shadow/cors",
    ];
    every_object_refuses_an_unknown_field(&document(), reads, &expected);
}

#[test]
fn every_type_of_the_secrets() {
    let reads = |value: &Value| serde_json::from_value::<Secrets>(value.clone()).is_ok();
    every_object_refuses_an_unknown_field(
        &secrets(),
        reads,
        &["", "/apiKeys/0", "/baseline", "/keySets/0", "/shadow", "/users/0"],
    );
}

#[test]
fn every_enumeration_of_the_document() {
    for (path, unknown) in [
        ("/refuse", json!("later")),
        ("/apiKey/extractFrom/0", json!({"trailer": "k"})),
        ("/apiKey/extractFrom/0", json!("header")),
        ("/anyOf/0", json!("oidc")),
        ("/authorization/rules/0/jwt/claims/0/valueType", json!("Number")),
        ("/authorization/rules/0/jwt/claims/0/valueType", json!("string")),
        ("/anyOf/1", json!("basic_auth")),
        ("/authorization/defaultAction", json!("Audit")),
        ("/authorization/defaultAction", json!("deny")),
        ("/authorization/rules/0/action", json!("Log")),
        ("/authorization/rules/0/path/type", json!("Glob")),
        ("/authorization/rules/0/path/type", json!("exact")),
        ("/baseline/csrf", json!({"mode": "strict"})),
    ] {
        let mut changed = document();
        *changed.pointer_mut(path).unwrap() = unknown;
        assert!(serde_json::from_value::<Document>(changed).is_err(), "{path}");
    }
}

#[test]
fn every_field_is_written_out_above() {
    let document: Document = serde_json::from_value(document()).unwrap();
    let secrets: Secrets = serde_json::from_value(self::secrets()).unwrap();
    assert!(Policy::compile(&document, &secrets).is_ok());
    assert_eq!(serde_json::to_value(&document).unwrap(), self::document());
    assert_eq!(serde_json::to_value(&secrets).unwrap(), self::secrets());
    // Takes the values apart by name: a new field does not compile until it stands here, and then it stands above too.
    let Document {
        version: _,
        policy: _,
        refuse: _,
        cors: Some(cors),
        api_key: Some(api_key),
        csrf: Some(csrf),
        basic_auth: Some(basic_auth),
        jwt: Some(jwt),
        any_of: _,
        authorization: Some(rules),
        baseline: Some(_),
        shadow: Some(_),
    } = document
    else {
        panic!("a part is missing");
    };
    let portcullis_engine::document::Cors {
        allow_origins: _,
        allow_methods: _,
        allow_headers: _,
        expose_headers: _,
        max_age: _,
        allow_credentials: _,
    } = cors;
    let portcullis_engine::document::ApiKey {
        extract_from: _,
        forward_client_id_header: _,
        sanitize: _,
    } = api_key;
    let portcullis_engine::document::Csrf {
        additional_origins: _,
        shadow_fraction:
            Some(portcullis_engine::document::Fraction {
                numerator: _,
                denominator: _,
            }),
    } = csrf
    else {
        panic!("a part is missing");
    };
    let portcullis_engine::document::BasicAuth {
        forward_username_header: _,
    } = basic_auth;
    let portcullis_engine::document::Jwt {
        providers,
        optional: _,
        fail_open: _,
        remote_key_sets,
    } = jwt;
    for portcullis_engine::document::RemoteKeySet {
        id: _,
        cluster: _,
        authority: _,
        path: _,
        interval: _,
        retry_interval: _,
        timeout: _,
    } in remote_key_sets
    {}
    for portcullis_engine::document::JwtProvider {
        name: _,
        issuer: _,
        audiences: _,
        key_set: _,
        extract_from,
        claim_to_headers,
        recompute_route: _,
        require_expiration: _,
        max_lifetime: _,
        clock_skew: _,
        algorithms: _,
        strip_token: _,
    } in providers
    {
        let sources = extract_from.iter().flat_map(
            |portcullis_engine::document::JwtSources {
                 headers,
                 cookies: _,
                 params: _,
             }| headers,
        );
        for portcullis_engine::document::JwtHeader {
            name: _,
            value_prefix: _,
        } in sources
        {}
        for portcullis_engine::document::ClaimToHeader { header: _, claim: _ } in claim_to_headers {}
    }
    let portcullis_engine::document::Authorization {
        default_action: _,
        rules,
    } = rules;
    for portcullis_engine::document::Rule {
        name: _,
        action: _,
        client_cidrs: _,
        geo_locations,
        certificate,
        methods: _,
        path,
        headers,
        cel: _,
        jwt,
    } in rules
    {
        for portcullis_engine::document::GeoLocation {
            country: _,
            region: _,
            city: _,
            asn: _,
            isp: _,
            anonymous,
        } in geo_locations
        {
            if let Some(portcullis_engine::document::Anonymous {
                is_anonymous: _,
                is_vpn: _,
                is_hosting: _,
                is_tor: _,
                is_proxy: _,
            }) = anonymous
            {}
        }
        let Some(portcullis_engine::document::PathMatch {
            r#type: _,
            value: _,
            invert: _,
        }) = path
        else {
            panic!("a part is missing");
        };
        for portcullis_engine::document::HeaderMatch { name: _, values: _ } in headers {}
        let Some(portcullis_engine::document::CertificatePrincipal {
            uri_sans,
            dns_sans: _,
            subjects: _,
        }) = certificate
        else {
            panic!("a part is missing");
        };
        for portcullis_engine::document::UriMatch { r#type: _, value: _ } in uri_sans {}
        let Some(portcullis_engine::document::JwtPrincipal {
            provider: _,
            claims,
            scopes: _,
        }) = jwt
        else {
            panic!("a part is missing");
        };
        for portcullis_engine::document::ClaimMatch {
            name: _,
            value_type: _,
            values: _,
        } in claims
        {}
    }
    let Secrets {
        salt: _,
        api_keys,
        users,
        key_sets,
        baseline: Some(_),
        shadow: Some(_),
    } = secrets
    else {
        panic!("a part is missing");
    };
    assert!(!api_keys.is_empty() && !users.is_empty() && !key_sets.is_empty());
    for portcullis_engine::document::ApiClient {
        id: _,
        sha256: _,
        not_after,
    } in api_keys
    {
        assert!(not_after.is_some());
    }
    for portcullis_engine::document::User { name: _, hash: _ } in users {}
    for portcullis_engine::document::KeySet { id: _, jwks: _ } in key_sets {}
}

/// What an older filter does with each field that it does not know: it has none of that name, so it denies.
#[test]
fn every_field_is_one_that_a_filter_without_it_denies() {
    let mut names = Vec::new();
    for (whole, is_document) in [(document(), true), (secrets(), false)] {
        let mut found = Vec::new();
        objects(&whole, "", &mut found);
        for path in found {
            let Some(fields) = whole.pointer(&path).and_then(Value::as_object).cloned() else {
                panic!("{path} is no object");
            };
            for (name, value) in fields {
                let mut changed = whole.clone();
                if let Some(Value::Object(fields)) = changed.pointer_mut(&path) {
                    fields.remove(&name);
                    fields.insert(format!("{name}OfLater"), value);
                }
                let read = if is_document {
                    serde_json::from_value::<Document>(changed).is_ok()
                } else {
                    serde_json::from_value::<Secrets>(changed).is_ok()
                };
                assert!(!read, "{path}/{name} is read under another name");
                names.push(name);
            }
        }
    }
    assert!(names.len() >= 60, "only {} fields", names.len());
}
