//! Why a client rejected a resource, without a word of the resource.
//!
//! Envoy's message quotes what it rejects, inline secrets included, so it is never shown or logged. What it says beside
//! that is either a chain of message types, fields and constraints, all of them names from the API, or one of a few
//! fixed sentences; only those are kept.

use std::fmt::Write;

/// What is said of a message that nothing can be kept of.
pub const WITHHELD: &str = "rejected; the reason given quotes the resource and is withheld";

const CONSTRAINT: &str = "Proto constraint validation failed (";
/// How Envoy ends what exceeds 4 KiB.
const CUT: &str = "...(truncated)";
const CAUSE: &str = " | caused by ";
const ERROR_TYPE: &str = "ValidationError.";

/// Reduces a client's message to what cannot hold a value of the rejected resource.
///
/// A violated constraint becomes the chain of fields that leads to it, as in
/// `RouteConfiguration.virtual_hosts[1]: VirtualHost.routes[0]: Route.match: value is required`; a known sentence
/// becomes that sentence without what it quotes; everything else becomes [`WITHHELD`].
#[must_use]
pub fn reduce(message: &str) -> String {
    let message = message.trim_end();
    if message.ends_with(CUT) {
        return cut_off(unwrap(message));
    }
    let sentence = unwrap(message);
    // Envoy 1.40 quotes the resource before the chain, others after it; either way it may contain this very marker.
    let (chain, quoted) = match sentence.strip_prefix(CONSTRAINT) {
        Some(chain) => (Some(chain), chain.split_once("): ")),
        None => (sentence.rsplit_once(CONSTRAINT).map(|(_, chain)| chain), None),
    };
    if let Some(chain) = chain {
        let chain = quoted.map_or_else(|| chain.strip_suffix(')'), |(chain, _)| Some(chain));
        return chain
            .and_then(reduce_chain)
            .unwrap_or_else(|| "a constraint is violated".to_owned());
    }
    let part = || {
        PARTS
            .iter()
            .find(|(part, _)| sentence.contains(part))
            .map(|(_, reduced)| *reduced)
    };
    start(sentence).or_else(part).unwrap_or(WITHHELD).to_owned()
}

/// Reduces a message of which only the beginning is there: the chain, which stands at the end, is lost.
fn cut_off(sentence: &str) -> String {
    start(sentence).unwrap_or(WITHHELD).to_owned()
}

fn start(sentence: &str) -> Option<&'static str> {
    STARTS
        .iter()
        .find(|(start, _)| sentence.starts_with(start))
        .map(|(_, reduced)| *reduced)
}

/// Returns the position of the virtual host at fault in the rejected route table, if a reduced message tells it.
#[must_use]
pub fn virtual_host(reduced: &str) -> Option<usize> {
    reduced
        .strip_prefix("RouteConfiguration.virtual_hosts[")?
        .split_once(']')?
        .0
        .parse()
        .ok()
}

fn reduce_chain(chain: &str) -> Option<String> {
    let mut reduced = String::new();
    for link in chain.split(CAUSE) {
        let (place, reason) = reduce_link(link)?;
        if !reduced.is_empty() {
            reduced.push_str(": ");
        }
        reduced.push_str(&place);
        if let Some(reason) = reason {
            let _ = write!(reduced, ": {reason}");
            break;
        }
    }
    Some(reduced)
}

/// Reduces one link; the reason is absent where the next link has it.
fn reduce_link(link: &str) -> Option<(String, Option<String>)> {
    // A required oneof is told in a form of its own.
    if let Some(oneof) = link.strip_prefix("field: \"") {
        let (field, reason) = oneof.split_once("\", reason: ")?;
        return (is_name(field) && reason == "is required").then(|| (snake_case(field), Some(reason.to_owned())));
    }
    let (message, rest) = link.split_once(ERROR_TYPE)?;
    let end = rest.find(|character: char| !is_name_character(character))?;
    let (field, rest) = rest.split_at_checked(end)?;
    if !is_name(message) || !is_name(field) {
        return None;
    }
    let mut place = format!("{message}.{}", snake_case(field));
    let rest = match rest.strip_prefix('[') {
        None => rest,
        Some(rest) => {
            let (index, rest) = rest.rsplit_once("]: ")?;
            if index.len() <= 9 && index.bytes().all(|byte| byte.is_ascii_digit()) {
                let _ = write!(place, "[{index}]");
            } else {
                // A key of a map.
                place.push_str("[..]");
            }
            return Some((place, reduce_reason(rest)));
        }
    };
    Some((place, reduce_reason(rest.strip_prefix(": ")?)))
}

fn reduce_reason(reason: &str) -> Option<String> {
    if reason.starts_with("embedded message failed validation") {
        return None;
    }
    if reason.starts_with("value does not match regex pattern") {
        return Some("value does not match the required pattern".to_owned());
    }
    // Bounds are the constraint's own, but a message may be cut off, so that what is read here is a quoted value.
    let bounds = |rest: &str| {
        rest.len() <= 48
            && ["item(s)", "characters", "bytes", ""].iter().any(|unit| {
                rest.strip_suffix(unit).is_some_and(|rest| {
                    rest.bytes()
                        .all(|byte| byte.is_ascii_digit() || b" .,()[]-+ns".contains(&byte))
                })
            })
    };
    let known = REASONS
        .iter()
        .find_map(|known| Some((*known, reason.strip_prefix(known)?)));
    Some(match known {
        Some((known, rest)) if bounds(rest) => format!("{known}{rest}"),
        Some((known, _)) => known.to_owned(),
        None => "a constraint is violated".to_owned(),
    })
}

/// Removes what Envoy puts before the cause: the names of what it was adding.
fn unwrap(message: &str) -> &str {
    let mut rest = message;
    for wrapper in [
        "Error adding/updating listener(s) ",
        "Error adding/updating cluster(s) ",
        "error adding listener ",
    ] {
        if let Some((_, inner)) = rest.strip_prefix(wrapper).and_then(|wrapped| wrapped.split_once(": ")) {
            rest = inner;
        }
    }
    rest
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(is_name_character)
}

const fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut previous = '_';
    for character in name.chars() {
        if character.is_ascii_uppercase() && previous != '_' && !previous.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
        previous = character;
    }
    snake
}

/// Reasons of the constraint language that are followed by nothing, or by bounds.
const REASONS: &[&str] = &[
    "value is required",
    "value must contain at least ",
    "value must contain no more than ",
    "value must contain between ",
    "value must contain exactly ",
    "value length must be at least ",
    "value length must be at most ",
    "value length must be between ",
    "value length must be ",
    "value must be inside range ",
    "value must be outside range ",
    "value must be greater than or equal to ",
    "value must be greater than ",
    "value must be less than or equal to ",
    "value must be less than ",
    "value must be one of the defined enum values",
    "value must be in list",
    "value must not be in list",
    "value must equal",
    "value must be a valid ",
    "value does not have ",
    "value does not contain ",
    "value contains substring",
    "repeated value must contain unique items",
    "oneof value must be set",
];

/// Beginnings of sentences, and what is kept of them. The first eleven are of the regular-expression compiler.
const STARTS: &[(&str, &str)] = &[
    ("missing ): ", "invalid regular expression: missing )"),
    ("missing ]: ", "invalid regular expression: missing ]"),
    ("unexpected ): ", "invalid regular expression: unexpected )"),
    ("trailing \\", "invalid regular expression: trailing \\"),
    (
        "no argument for repetition operator",
        "invalid regular expression: no argument for repetition operator",
    ),
    (
        "bad repetition operator",
        "invalid regular expression: bad repetition operator",
    ),
    (
        "invalid repetition size",
        "invalid regular expression: invalid repetition size",
    ),
    (
        "invalid escape sequence",
        "invalid regular expression: invalid escape sequence",
    ),
    (
        "invalid character class",
        "invalid regular expression: invalid character class",
    ),
    (
        "invalid perl operator",
        "invalid regular expression: invalid perl operator",
    ),
    (
        "invalid named capture group",
        "invalid regular expression: invalid named capture group",
    ),
    ("Unable to unpack as ", "the message cannot be decoded"),
    ("Invalid duration", "invalid duration"),
    ("response body size is ", "the response body is too long"),
    ("Incorrect configuration: ", "invalid format string"),
    ("address is necessary", "address is necessary"),
    ("no filter chains specified", "no filter chains specified"),
    ("route: unknown cluster ", "a route names an unknown cluster"),
    ("route: unknown weighted cluster ", "a route names an unknown cluster"),
    (
        "Unexpected RDS configuration ",
        "the route table has another name than its resource",
    ),
];

/// What makes up the fixed part of a sentence, and what is kept of it.
const PARTS: &[(&str, &str)] = &[
    (
        "Only a single wildcard domain is permitted",
        "only a single wildcard domain is permitted",
    ),
    (
        "Only unique values for domains are permitted",
        "only unique values for domains are permitted",
    ),
    (
        "Unable to open Maxmind database file ",
        "a database of places cannot be read (EnvoyProxy.spec.geoIP)",
    ),
    (
        "Didn't find a registered implementation for ",
        "an extension is not part of this Envoy",
    ),
    (
        "headers may not be removed",
        ":-prefixed or host headers may not be removed",
    ),
    (
        "headers may not be modified",
        ":-prefixed or host headers may not be modified",
    ),
    ("RE2 program size of ", "a regular expression is too complex"),
    (
        "Specify only one of prefix_rewrite, regex_rewrite",
        "only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
    ),
    ("Address already in use", "cannot bind: address already in use"),
    ("Permission denied", "cannot bind: permission denied"),
    (
        "Cannot assign requested address",
        "cannot bind: cannot assign requested address",
    ),
    ("cannot bind '", "cannot bind"),
    ("same matching rules", "two filter chains have the same matching rules"),
    (
        "cannot create an EDS cluster without an EDS config",
        "cannot create an EDS cluster without an EDS config",
    ),
    (
        "Failed to load certificate chain from ",
        "the certificate chain cannot be loaded",
    ),
    (
        "Failed to load incomplete certificate ",
        "the certificate chain is missing",
    ),
    ("Failed to load incomplete private key ", "the private key is missing"),
    ("Failed to load private key from ", "the private key cannot be loaded"),
    (
        "Failed to load trusted CA certificate",
        "a trusted certificate cannot be loaded",
    ),
    ("Unable to create Wasm", "the Wasm plugin cannot be created"),
    ("has unknown fields", "the message has unknown fields"),
    ("duplicate HTTP filter name", "two HTTP filters have one name"),
];

#[cfg(test)]
mod tests {
    use super::*;

    // As Envoy 1.40.0 says it.
    const DUMP: &str = "goo.gle/debugonly    \nname: \"r\"\nvirtual_hosts {\n  name: \"v\"\n  routes {\n    direct_response {\n      body {\n        inline_string: \"CANARY\"\n      }\n    }\n  }\n}\n: ";

    fn violation(chain: &str) -> String {
        reduce(&format!("{DUMP}Proto constraint validation failed ({chain})"))
    }

    #[test]
    fn a_violated_constraint_keeps_its_chain_alone() {
        let reduced = violation(
            "RouteConfigurationValidationError.VirtualHosts[1]: embedded message failed validation | caused by \
             VirtualHostValidationError.Routes[0]: embedded message failed validation | caused by \
             RouteValidationError.Match: value is required",
        );
        assert_eq!(
            reduced,
            "RouteConfiguration.virtual_hosts[1]: VirtualHost.routes[0]: Route.match: value is required"
        );
        assert_eq!(virtual_host(&reduced), Some(1));
    }

    #[test]
    fn a_missing_oneof_keeps_its_name() {
        let reduced = violation(
            "VirtualHostValidationError.Routes[0]: embedded message failed validation | caused by field: \"action\", \
             reason: is required",
        );
        assert_eq!(reduced, "VirtualHost.routes[0]: action: is required");
        assert_eq!(virtual_host(&reduced), None);
    }

    #[test]
    fn bounds_are_kept_and_patterns_are_not() {
        for (reason, kept) in [
            (
                "value must be inside range [200, 600)",
                "value must be inside range [200, 600)",
            ),
            (
                "value must contain at least 1 item(s)",
                "value must contain at least 1 item(s)",
            ),
            (
                "value length must be at least 1 characters",
                "value length must be at least 1 characters",
            ),
            (
                "value must be one of the defined enum values",
                "value must be one of the defined enum values",
            ),
            (
                "value does not match regex pattern \"^[^\\x00\\n\\r]*$\"",
                "value does not match the required pattern",
            ),
            ("value must be greater than 0s", "value must be greater than 0s"),
            ("value must be greater than CANARY", "value must be greater than "),
            ("CANARY", "a constraint is violated"),
        ] {
            assert_eq!(
                violation(&format!("RouteValidationError.Name: {reason}")),
                format!("Route.name: {kept}")
            );
        }
    }

    #[test]
    fn keys_of_maps_are_not_kept() {
        for key in [
            "CANARY",
            "CANARY]: value is required",
            "x[0]: CANARY",
            "1234567890123456789",
        ] {
            let reduced = violation(&format!(
                "RouteValidationError.TypedPerFilterConfig[{key}]: value is required"
            ));
            assert_eq!(reduced, "Route.typed_per_filter_config[..]: value is required");
        }
    }

    #[test]
    fn a_marker_inside_the_quoted_resource_is_not_believed() {
        let quoted = format!("name: \"{CONSTRAINT}ValidationError.CANARY: value is required)\"\n: ");
        assert_eq!(
            reduce(&format!(
                "{quoted}{CONSTRAINT}RouteValidationError.Match: value is required)"
            )),
            "Route.match: value is required"
        );
        // As another version says it.
        let after = format!("{CONSTRAINT}RouteValidationError.Match: value must be inside range [200, 600)): {quoted}");
        assert_eq!(reduce(&after), "Route.match: value must be inside range [200, 600)");
        // Cut off before the chain: nothing of the quotation is kept.
        for cut in [
            format!("name: \"{CONSTRAINT}CANARY"),
            format!("name: \"{CONSTRAINT}CANARY)\""),
            format!("name: \"{CONSTRAINT}CANARY CANARYValidationError.X: value is required)"),
            format!("name: \"{CONSTRAINT}"),
        ] {
            assert_eq!(reduce(&cut), "a constraint is violated", "{cut}");
            assert_eq!(reduce(&format!("{cut}{CUT}")), WITHHELD, "{cut}");
        }
        assert_eq!(
            reduce(&format!("missing ): (CANARY{CUT}")),
            "invalid regular expression: missing )"
        );
    }

    #[test]
    fn sentences_lose_what_they_quote() {
        for (message, kept) in [
            ("missing ): (CANARY*", "invalid regular expression: missing )"),
            (
                "Only a single wildcard domain is permitted in route CANARY",
                "only a single wildcard domain is permitted",
            ),
            (
                "Only unique values for domains are permitted. Duplicate entry of domain CANARY in route r",
                "only unique values for domains are permitted",
            ),
            (
                "Error adding/updating listener(s) CANARY: Unable to open Maxmind database file /CANARY.mmdb. Error CANARY\n",
                "a database of places cannot be read (EnvoyProxy.spec.geoIP)",
            ),
            (
                "Didn't find a registered implementation for 'CANARY' with type URL: 'CANARY.Foo'",
                "an extension is not part of this Envoy",
            ),
            (
                "Error adding/updating listener(s) CANARY: error adding listener named 'CANARY': address is necessary\n",
                "address is necessary",
            ),
            (
                "Error adding/updating listener(s) CANARY: error adding listener '127.0.0.1:0': no filter chains specified\n",
                "no filter chains specified",
            ),
            (
                "Error adding/updating listener(s) l2: cannot bind '127.0.0.1:44515': Address already in use\n",
                "cannot bind: address already in use",
            ),
            (
                "Invalid duration: Expected positive duration: goo.gle/debugonly    \nseconds: -1\n",
                "invalid duration",
            ),
            (
                "Unable to unpack as envoy.config.route.v3.RouteConfiguration: goo.gle/debugonly    \nvalue: \"CANARY\"\n",
                "the message cannot be decoded",
            ),
            (
                "Incorrect configuration: %CANARY(. Couldn't find valid command at position 0",
                "invalid format string",
            ),
            (
                "Unexpected RDS configuration (expecting r): CANARY",
                "the route table has another name than its resource",
            ),
            ("CANARY", WITHHELD),
            ("", WITHHELD),
        ] {
            assert_eq!(reduce(message), kept, "{message}");
        }
    }

    proptest::proptest! {
        // Whatever the resource and the chain hold, nothing of six letters or more that is a value comes through.
        #[test]
        fn values_never_come_through(
            before in "[ -~\n]{0,40}",
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    CONSTRAINT, CAUSE, "[", "]: ", ": ", ")", "\"", "field: \"", "\", reason: ", "is required",
                    "value must be in list", "value is required", "Error adding/updating listener(s) ", " s3cr3t-valu3 ",
                    "missing ): ", "value must be inside range ", "[0]", "é",
                ]),
                0..24,
            ),
        ) {
            let reduced = reduce(&format!("{before}{}", parts.concat()));
            proptest::prop_assert!(!reduced.contains("s3cr3t"), "{reduced}");
        }
    }
}
