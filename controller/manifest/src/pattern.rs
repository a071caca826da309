//! What the patterns and rules of the schemas mean to a reader, and how a value is mended.

use std::net::Ipv6Addr;

use base64::{Engine, engine::general_purpose::STANDARD};
use regex::Regex;

/// What a pattern stands for: the code, what a value should be, and the value that was probably meant.
pub(crate) fn explain(pattern: &str, text: &str, regex: &Regex) -> (&'static str, String, Option<String>) {
    let mended = |candidate: Option<String>| {
        candidate
            .filter(|candidate| regex.is_match(candidate))
            .map(|candidate| format!("write {candidate:?}"))
    };
    let (code, what, fix) = if pattern.contains(r"\/([0-9]+))|(((") {
        (
            "invalid-cidr",
            "a CIDR",
            mended(cidr(text)).or_else(|| Some("write an address range such as \"10.0.0.0/8\"".to_owned())),
        )
    } else if pattern.contains(r":\/\/(\*|(\*\.)?") {
        (
            "invalid-origin",
            "an origin",
            mended(origin(text)).or_else(|| Some("write an origin such as \"https://example.com\"".to_owned())),
        )
    } else if pattern.contains("(h|m|s|ms)") {
        (
            "invalid-duration",
            "a duration",
            mended(duration(text)).or_else(|| Some("write a duration such as \"1h30m\"".to_owned())),
        )
    } else if pattern.starts_with("^[0-9]{4}-") {
        (
            "invalid-time",
            "a moment",
            mended(moment(text)).or_else(|| Some("write a moment such as \"2027-01-31T00:00:00Z\"".to_owned())),
        )
    } else if pattern.contains("25[0-5]") {
        (
            "invalid-address",
            "an address of a form that is allowed here",
            mended(address(text)).or_else(|| Some("write an address such as \"10.0.0.1\"".to_owned())),
        )
    } else if pattern.starts_with(r"^(\*\.)?[a-z0-9]") {
        (
            "invalid-hostname",
            "a hostname",
            mended(hostname(text)).or_else(|| Some("write a hostname such as \"example.com\"".to_owned())),
        )
    } else if pattern.contains("[-a-z0-9]*[a-z0-9]") || pattern.contains("[-a-zA-Z0-9]*[a-zA-Z0-9]") {
        ("invalid-name", "a valid name", mended(name(text)))
    } else if pattern.contains(r"\x60|~") {
        (
            "invalid-header-name",
            "the name of a header",
            Some("write letters, digits and \"-\"".to_owned()),
        )
    } else {
        return ("invalid-value", format!("of the form {pattern}"), None);
    };
    (code, what.to_owned(), fix)
}

/// How the rules that users break most are satisfied.
pub(crate) fn mend_rule(message: &str) -> Option<&'static str> {
    Some(match message {
        "either targetRef or targetRefs must be used" => "add targetRefs",
        "exactly one of headers, params, or cookies must be specified" => {
            "write one entry of extractFrom for each of headers, params and cookies"
        }
        "at least one of principal or cel must be specified" => "add a principal, or remove the rule",
        "anyOf must name each method once" => "write anyOf: [apiKeyAuth, jwt]",
        "anyOf can only name methods that the policy has" => "add the method to the policy, or remove anyOf",
        "apiKeyExpiry can only be used with apiKeyAuth" => "add apiKeyAuth, or remove apiKeyExpiry",
        "tokenRequirements can only be used with jwt" => "add jwt, or remove tokenRequirements",
        "baseline can only be used with Gateway targets without sectionName" => "target a Gateway as a whole",
        "baseline cannot be used with cors" => "remove cors, or set it in a policy of the route",
        "baseline and shadow exclude each other" => "remove one of the two",
        "mergeType cannot be used with baseline or shadow" => "remove mergeType",
        "mergeType can only be used with xRoute targets" => "remove mergeType, or target a route",
        "Must have port for Service reference" => "add \"port\"",
        "one of fqdn, ip or unix must be specified" => "add \"fqdn\" or \"ip\"",
        "only one of fqdn, ip or unix can be specified" => "write one entry of endpoints for each",
        "RequestRedirect filter must not be used together with backendRefs" => "remove backendRefs, or the filter",
        "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']" => "write protocol \"HTTPS\", or remove tls",
        "if authorization.rules.principal.jwt is used, jwt must be defined" => "add jwt to the policy",
        "Combination of port, protocol and hostname must be unique for each listener" => {
            "give one of the listeners another port or hostname"
        }
        "Rule name must be unique within the route" => "give one of the rules another name",
        "only one of grpc or http can be specified" => "remove grpc or http",
        "only one of clientID or clientIDRef must be set" => "write either clientID or clientIDRef",
        _ if message.contains("targetRef.kind of") || message.contains("targetRefs[*].kind of") => {
            "write kind \"Gateway\" or \"HTTPRoute\""
        }
        _ if message.contains(".group of gateway.networking.k8s.io") => "write group \"gateway.networking.k8s.io\"",
        _ if message.contains("start with '/'") => "put \"/\" first",
        _ => return None,
    })
}

/// Whether a text is base64 as an API server decodes it: standard alphabet, padded, line breaks ignored.
pub(crate) fn is_base64(text: &str) -> bool {
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(joined).is_ok()
}

/// `10.0.0/8` was meant as `10.0.0.0/8`, `10.0.0.1` as `10.0.0.1/32`.
fn cidr(text: &str) -> Option<String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.trim(), length.trim()),
        None if text.contains(':') => (text.trim(), "128"),
        None => (text.trim(), "32"),
    };
    let address = address.trim_end_matches('.');
    if address.contains(':') {
        return Some(format!("{address}/{length}"));
    }
    let mut octets: Vec<&str> = address.split('.').collect();
    while octets.len() < 4 {
        octets.push("0");
    }
    Some(format!("{}/{length}", octets.join(".")))
}

/// The pattern of Envoy Gateway does not know every short form: `::1` is `0:0:0:0:0:0:0:1`.
fn address(text: &str) -> Option<String> {
    let address: Ipv6Addr = text.trim().parse().ok()?;
    let segments = address.segments().map(|segment| format!("{segment:x}"));
    Some(segments.join(":"))
}

/// `example.com` was meant as `https://example.com`; a path or a trailing slash is no part of an origin.
fn origin(text: &str) -> Option<String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let authority = rest.split('/').next()?;
    Some(format!("{scheme}://{authority}"))
}

/// `30` was meant as `30s`, `1d` as `24h`, `5min` as `5m`.
fn duration(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit)?;
    let unit = match unit.trim() {
        "" | "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hour" | "hours" => "h",
        "d" | "day" | "days" => return Some(format!("{}h", number.parse::<u32>().ok()?.checked_mul(24)?)),
        other => return Some(format!("{number}{other}")),
    };
    Some(format!("{number}{unit}"))
}

/// `2027-01-31` was meant as `2027-01-31T00:00:00Z`, `2027-01-31 12:00:00` as a moment in UTC.
fn moment(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_uppercase();
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((&text, "00:00:00Z"));
    let zone = if time.contains(['Z', '+', '-']) { "" } else { "Z" };
    Some(format!("{date}T{time}{zone}"))
}

/// `https://Example.com:8080/x` was meant as `example.com`.
fn hostname(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next()?;
    Some(host.trim_end_matches('.').to_lowercase())
}

/// `My_Route` was meant as `my-route`.
fn name(text: &str) -> Option<String> {
    Some(text.trim().to_lowercase().replace(['_', ' '], "-"))
}

#[cfg(test)]
mod tests {
    use super::{address, cidr, duration, hostname, is_base64, moment, name, origin};

    #[test]
    fn values_are_mended_as_they_were_meant() {
        assert_eq!(cidr("10.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(cidr("10.0.0.1").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(cidr("fd00::1").as_deref(), Some("fd00::1/128"));
        assert_eq!(address("::1").as_deref(), Some("0:0:0:0:0:0:0:1"));
        assert_eq!(origin("example.com/").as_deref(), Some("https://example.com"));
        assert_eq!(origin("http://example.com/a").as_deref(), Some("http://example.com"));
        assert_eq!(moment("2027-01-31").as_deref(), Some("2027-01-31T00:00:00Z"));
        assert_eq!(moment("2027-01-31 12:00:00").as_deref(), Some("2027-01-31T12:00:00Z"));
        assert_eq!(duration("30").as_deref(), Some("30s"));
        assert_eq!(duration("1 day").as_deref(), Some("24h"));
        assert_eq!(hostname("https://Example.com:8443/x").as_deref(), Some("example.com"));
        assert_eq!(name("My_Route").as_deref(), Some("my-route"));
    }

    #[test]
    fn base64_is_judged_as_by_an_api_server() {
        assert!(is_base64("YQ=="));
        assert!(is_base64("YWJj\nZGVm\n"));
        assert!(!is_base64("YQ"));
        assert!(!is_base64("a-key_in-plain"));
    }
}
