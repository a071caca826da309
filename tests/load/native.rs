//! Envoy's own filters, configured as Envoy Gateway 1.9 does for the same policy: `typed_per_filter_config` of a route.

use serde_json::{Value, json};

use crate::tokens;

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// The header in which a backend learns the user's name.
pub(crate) const USER_HEADER: &str = "x-user";

/// The filters of the chain, in Envoy Gateway's order; all but the first and the last are off where no route wants them.
pub(crate) fn chain() -> Vec<Value> {
    let filter = |name: &str, kind: &str| json!({"name": format!("envoy.filters.http.{name}"), "typed_config": {"@type": format!("{FILTERS}.{kind}")}});
    let mut csrf = filter("csrf", "csrf.v3.CsrfPolicy");
    csrf["disabled"] = true.into();
    csrf["typed_config"]["filter_enabled"] = json!({"default_value": {"numerator": 0, "denominator": "HUNDRED"}});
    let mut api_key = filter("api_key_auth", "api_key_auth.v3.ApiKeyAuth");
    api_key["disabled"] = true.into();
    api_key["typed_config"]["key_sources"] = json!([{"header": "x-api-key"}]);
    let mut basic = filter("basic_auth", "basic_auth.v3.BasicAuth");
    basic["disabled"] = true.into();
    basic["typed_config"]["users"] = json!({"inline_string": "nobody:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"});
    // Only the filter itself has this field, its configuration of a route has not.
    basic["typed_config"]["forward_username_header"] = json!(USER_HEADER);
    let mut jwt = filter("jwt_authn", "jwt_authn.v3.JwtAuthentication");
    jwt["disabled"] = true.into();
    jwt["typed_config"]["providers"] = json!({"idp": tokens::provider()});
    jwt["typed_config"]["requirement_map"] = json!({"idp": {"provider_name": "idp"}});
    vec![
        filter("cors", "cors.v3.Cors"),
        csrf,
        api_key,
        basic,
        jwt,
        filter("rbac", "rbac.v3.RBAC"),
    ]
}

/// `jwt_authn` with the chain's provider.
pub(crate) fn jwt() -> (&'static str, Value) {
    let policy = json!({"@type": format!("{FILTERS}.jwt_authn.v3.PerRouteConfig"), "requirement_name": "idp"});
    ("jwt_authn", policy)
}

/// Puts filters' configurations on one route.
pub(crate) fn filters(all: &[(&str, Value)]) -> Value {
    let all = all
        .iter()
        .map(|(name, config)| (format!("envoy.filters.http.{name}"), config.clone()));
    Value::Object(all.collect())
}

/// `cors` for one origin.
pub(crate) fn cors(origin: &str) -> (&'static str, Value) {
    let policy = json!({
        "@type": format!("{FILTERS}.cors.v3.CorsPolicy"),
        "allow_origin_string_match": [{"exact": origin}],
        "allow_methods": "GET, POST",
        "allow_headers": "x-api-key",
        "max_age": "600",
        "forward_not_matching_preflights": false,
    });
    ("cors", policy)
}

/// `csrf` with these further hosts.
pub(crate) fn csrf(hosts: &[String]) -> (&'static str, Value) {
    let policy = json!({
        "@type": format!("{FILTERS}.csrf.v3.CsrfPolicy"),
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        "additional_origins": hosts.iter().map(|host| json!({"exact": host})).collect::<Vec<_>>(),
    });
    ("csrf", policy)
}

/// `api_key_auth` with these clients and keys.
pub(crate) fn api_keys(keys: &[(String, String)]) -> (&'static str, Value) {
    let policy = json!({
        "@type": format!("{FILTERS}.api_key_auth.v3.ApiKeyAuthPerRoute"),
        "credentials": keys.iter().map(|(client, key)| json!({"client": client, "key": key})).collect::<Vec<_>>(),
        "key_sources": [{"header": "x-api-key"}],
        "forwarding": {"header": "x-client-id", "hide_credentials": true},
    });
    ("api_key_auth", policy)
}

/// `basic_auth` with the users of an `.htpasswd` file.
pub(crate) fn basic(users: &str) -> (&'static str, Value) {
    let policy = json!({
        "@type": format!("{FILTERS}.basic_auth.v3.BasicAuthPerRoute"),
        "users": {"inline_string": users},
    });
    ("basic_auth", policy)
}

/// `rbac` with these matchers, the first that matches wins; none denies.
pub(crate) fn rbac(matchers: &[Value]) -> (&'static str, Value) {
    let policy = json!({
        "@type": format!("{FILTERS}.rbac.v3.RBACPerRoute"),
        "rbac": {"matcher": {"matcher_list": {"matchers": matchers}, "on_no_match": action("DENY")}},
    });
    ("rbac", policy)
}

/// One of [`rbac`]'s matchers.
pub(crate) fn matcher(predicate: &Value, effect: &str) -> Value {
    json!({"predicate": predicate, "on_match": action(effect)})
}

/// The client's address is in one of these ranges.
pub(crate) fn in_ranges(ranges: &[String]) -> Value {
    let ranges = ranges.iter().map(|range| {
        let (address, length) = range.split_once('/').expect("a range");
        json!({"address_prefix": address, "prefix_len": length.parse::<u32>().expect("a length")})
    });
    json!({"single_predicate": {
        "input": {"name": "client_ip", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.SourceIPInput"}},
        "custom_match": {"name": "ip_range", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.matching.input_matchers.ip.v3.Ip",
            "cidr_ranges": ranges.collect::<Vec<_>>(), "stat_prefix": "client_ip"}},
    }})
}

/// A header has that value.
pub(crate) fn header(name: &str, value: &str) -> Value {
    input(name, &json!({"exact": value}))
}

/// Method, path prefix and a header are these.
pub(crate) fn request(method: &str, prefix: &str, name: &str, value: &str) -> Value {
    // A prefix of whole segments, as Envoy Gateway writes it.
    let path = format!("^{prefix}(?:[/?].*)?$");
    json!({"and_matcher": {"predicate": [
        header(name, value),
        header(":method", method),
        input(":path", &json!({"safe_regex": {"google_re2": {}, "regex": path}})),
    ]}})
}

fn input(header: &str, value: &Value) -> Value {
    json!({"single_predicate": {
        "input": {"name": header, "typed_config": {
            "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": header}},
        "value_match": value,
    }})
}

fn action(effect: &str) -> Value {
    json!({"action": {"name": effect, "typed_config": {
        "@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": effect, "action": effect}}})
}

/// The claim of a provider's token is this.
pub(crate) fn claim(provider: &str, name: &str, value: &str) -> Value {
    json!({"single_predicate": {
        "input": {"name": "claim", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
            "filter": "envoy.filters.http.jwt_authn", "path": [{"key": provider}, {"key": name}]}},
        "custom_match": {"name": "claim", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.matching.input_matchers.metadata.v3.Metadata",
            "value": {"string_match": {"exact": value}}}},
    }})
}

/// `rbac` that admits what an expression is true for.
pub(crate) fn condition(expression: &Value) -> (&'static str, Value) {
    let policy = json!({"permissions": [{"any": true}], "principals": [{"any": true}], "condition": expression});
    let policy = json!({
        "@type": format!("{FILTERS}.rbac.v3.RBACPerRoute"),
        "rbac": {"rules": {"action": "ALLOW", "policies": {"allow": policy}}},
    });
    ("rbac", policy)
}

/// An expression: a name, then members of what stands before; `[` in front of a member for a key of a map.
pub(crate) fn path(names: &[&str]) -> Value {
    let (first, rest) = names.split_first().expect("a name");
    rest.iter()
        .fold(json!({"ident_expr": {"name": first}}), |operand, name| {
            match name.strip_prefix('[') {
                Some(key) => call("_[_]", &[operand, text(key)]),
                None => json!({"select_expr": {"operand": operand, "field": name}}),
            }
        })
}

/// An expression: two are true.
pub(crate) fn both(one: &Value, other: &Value) -> Value {
    call("_&&_", &[one.clone(), other.clone()])
}

/// An expression: one has that value.
pub(crate) fn equal(one: &Value, value: &str) -> Value {
    call("_==_", &[one.clone(), text(value)])
}

fn text(value: &str) -> Value {
    json!({"const_expr": {"string_value": value}})
}

fn call(function: &str, args: &[Value]) -> Value {
    json!({"call_expr": {"function": function, "args": args}})
}
