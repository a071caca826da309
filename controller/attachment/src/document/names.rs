//! Names as Kubernetes and JWT have them.

/// Whether a text is a qualified name of Kubernetes: perhaps a DNS name and a slash, then up to 63 characters.
pub(super) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let is_label =
        |label: &str| is_bounded(label, |byte| byte == b'-') && !label.bytes().any(|byte| byte.is_ascii_uppercase());
    prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_label))
        && name.len() <= 63
        && is_bounded(name, |byte| matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a text is of letters, digits and what is admitted inside, and begins and ends with a letter or a digit.
fn is_bounded(text: &str, inside: fn(u8) -> bool) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || inside(byte))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
}

/// Whether a text can be an issuer: with a colon a URI (RFC 7519 §2 `StringOrURI`), else with an at sign an e-mail address.
pub(super) fn is_issuer(text: &str) -> bool {
    let printable = !text.chars().any(|char| char.is_whitespace() || char.is_control());
    if let Some((scheme, rest)) = text.split_once(':') {
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        return printable && is_scheme && !rest.is_empty();
    }
    match text.split_once('@') {
        Some((user, host)) => printable && !user.is_empty() && !host.is_empty() && !host.contains('@'),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_qualified_names() {
        for (name, expected) in [
            ("corp", true),
            ("Corp_1.a-b", true),
            ("example.com/corp", true),
            ("", false),
            ("-corp", false),
            ("corp.", false),
            ("a b", false),
            ("/corp", false),
            ("example.com/", false),
            ("Example.com/corp", false),
            ("example..com/corp", false),
            ("a/b/c", false),
        ] {
            assert_eq!(is_qualified_name(name), expected, "{name:?}");
        }
        assert!(is_qualified_name(&"a".repeat(63)));
        assert!(!is_qualified_name(&"a".repeat(64)));
    }

    #[test]
    fn knows_issuers() {
        for (issuer, expected) in [
            ("https://idp.example.com/realms/a", true),
            ("urn:example:idp", true),
            ("corp", true),
            ("robot@example.com", true),
            ("://idp", false),
            ("https:", false),
            ("1https://idp", false),
            ("https://idp example.com", false),
            ("@example.com", false),
            ("robot@", false),
            ("a@b@c", false),
        ] {
            assert_eq!(is_issuer(issuer), expected, "{issuer:?}");
        }
    }
}
