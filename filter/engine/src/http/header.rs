//! Header names and values: what may stand in them, and how names compare.

/// Tells whether the bytes are a token, the form of a method and of a field name (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Tells whether the bytes are a comma-separated list of tokens, spaces and tabs around them allowed.
#[must_use]
pub fn is_token_list(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b',').all(|item| is_token(trim(item)))
}

/// Tells whether text may be sent as a field value: no control character, so that it can neither end its line nor hide
/// in a log (RFC 9110 §5.5).
#[must_use]
pub fn is_field_value(bytes: &[u8]) -> bool {
    !bytes.iter().any(u8::is_ascii_control)
}

/// Cuts spaces and tabs off both ends (OWS of RFC 9110 §5.6.3).
#[must_use]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Compares two field names as a backend may that turns `-` into `_` (CGI, WSGI): case and that difference ignored.
#[must_use]
pub fn same_to_backend(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| fold(*a) == fold(*b))
}

const fn fold(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

/// Tells whether a header frames the message, names its host or belongs to one connection: no policy may set or remove it.
#[must_use]
pub fn is_framing(name: &[u8]) -> bool {
    const FRAMING: &[&str] = &[
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    FRAMING.iter().any(|framing| same_to_backend(framing.as_bytes(), name))
}

/// The prefix of the headers by which Envoy talks to itself.
pub const ENVOY_PREFIX: &[u8] = b"x-envoy-";

/// Tells whether a header is one of those that Envoy acts on or believes: a client must not send it.
#[must_use]
pub fn is_envoy(name: &[u8]) -> bool {
    name.get(..ENVOY_PREFIX.len())
        .is_some_and(|start| same_to_backend(start, ENVOY_PREFIX))
}

/// Tells whether a header says where the request came from and where it was going, in words that the proxy chose:
/// `Host`, `Forwarded`, `X-Forwarded-*` and `X-Envoy-*`.
#[must_use]
pub fn is_told_by_proxy(name: &[u8]) -> bool {
    const FORWARDED: &[u8] = b"x-forwarded-";
    same_to_backend(name, b"host")
        || same_to_backend(name, b"forwarded")
        || name
            .get(..FORWARDED.len())
            .is_some_and(|start| same_to_backend(start, FORWARDED))
        || is_envoy(name)
}

/// Tells whether Envoy itself writes this header over whatever a client sent: the client's address, on every listener
/// that takes it from the connection (`use_remote_address`). Backends know it from there.
#[must_use]
pub fn is_written_by_envoy(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"x-envoy-external-address")
}
