//! The rules once more, written to be read: slow, on owned text, and with nothing shared with the engine.

use portcullis_engine::denial::Reason;

/// Reads the name and the password of `Authorization`, bit by bit.
pub(crate) fn basic(lines: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), Reason> {
    let lines: Vec<&[u8]> = lines.iter().copied().filter(|line| !line.is_empty()).collect();
    let joined = lines.join(&b',');
    let text = trimmed(&joined);
    let scheme = text
        .split(|byte| [b' ', b'\t'].contains(byte))
        .next()
        .unwrap()
        .to_ascii_lowercase();
    if scheme != b"basic" {
        return Err(Reason::BasicMissing);
    }
    let mut encoded = &text[5..];
    while encoded.starts_with(b" ") {
        encoded = &encoded[1..];
    }
    let mut digits = encoded.to_vec();
    for _ in 0..2 {
        if digits.last() == Some(&b'=') {
            digits.pop();
        }
    }
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = Vec::new();
    for digit in &digits {
        let value = alphabet.find(char::from(*digit)).ok_or(Reason::BasicMalformed)?;
        bits.extend((0..6).rev().map(|place| value >> place & 1 == 1));
    }
    let rest = bits.split_off(bits.len() / 8 * 8);
    if encoded.len() > 2048 || rest.len() > 4 || rest.contains(&true) {
        return Err(Reason::BasicMalformed);
    }
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte: u8, bit| byte << 1 | u8::from(*bit));
    let decoded: Vec<u8> = bits.chunks(8).map(byte).collect();
    let colon = decoded
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Reason::BasicMalformed)?;
    Ok((decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

/// Tells whether an entry of `allowOrigins` lets a well-formed origin in.
pub(crate) fn origin_is_allowed(entry: &str, origin: &str) -> bool {
    if entry == "*" {
        return true;
    }
    let (entry, origin) = (entry.to_ascii_lowercase(), origin.to_ascii_lowercase());
    let (entry_scheme, entry_host, entry_port) = parts(&entry);
    let (scheme, host, port) = parts(&origin);
    if entry_scheme != scheme {
        return false;
    }
    if entry_host == "*" {
        return entry_port.is_none() || with_default(entry_scheme, entry_port) == with_default(scheme, port);
    }
    let host_matches = match entry_host.strip_prefix("*.") {
        None => entry_host == host,
        Some(parent) => {
            let labels: Vec<&str> = host.split('.').collect();
            let parents: Vec<&str> = parent.split('.').collect();
            labels.len() > parents.len() && labels.ends_with(&parents) && !host.starts_with('[')
        }
    };
    host_matches && with_default(entry_scheme, entry_port) == with_default(scheme, port)
}

fn parts(origin: &str) -> (&str, &str, Option<u32>) {
    let (scheme, rest) = origin.split_once("://").unwrap();
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (scheme, host, Some(port.parse().unwrap())),
        _ => (scheme, rest, None),
    }
}

fn with_default(scheme: &str, port: Option<u32>) -> Option<u32> {
    port.or(match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

/// Percent-decodes; `+` stays.
pub(crate) fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text
            .get(at + 1..at + 3)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match digits {
            Some(digits) if text[at] == b'%' => {
                decoded.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
                at += 3;
            }
            _ => {
                decoded.push(text[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// Tells whether someone who decodes the path up to twice, and cuts parameters, blanks and what follows `?`, `#` or NUL off,
/// finds a dot segment, or finds a segment empty that another one follows.
pub(crate) fn has_hidden_step(target: &[u8]) -> bool {
    let mut path = target.split(|byte| *byte == b'?').next().unwrap().to_vec();
    let merged = path.iter().filter(|byte| **byte == b'/').count();
    (merged > 1 && merged == path.len())
        || (0..3).any(|_| {
            let text: String = path.iter().map(|byte| char::from(*byte)).collect();
            path = decoded(&path);
            let text = text.replace('\\', "/");
            let last = text.split('/').count() - 1;
            text.split('/').enumerate().any(|(at, segment)| {
                let blank = |char: char| char <= ' ' || char == '\x7f';
                let begun = segment.trim_matches(blank);
                let shown = begun.split([';', '?', '#', '\0']).next().unwrap().trim_matches(blank);
                [".", ".."].contains(&shown) || (shown.is_empty() && !segment.is_empty() && at < last)
            })
        })
}

/// The parameters of a target: raw, decoded name, decoded value.
pub(crate) fn parameters(target: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let Some(mark) = target.iter().position(|byte| *byte == b'?') else {
        return Vec::new();
    };
    target[mark + 1..]
        .split(|byte| *byte == b'&')
        .map(|raw| {
            let equals = raw.iter().position(|byte| *byte == b'=');
            let (name, value) = equals.map_or((raw, &b""[..]), |at| (&raw[..at], &raw[at + 1..]));
            (raw.to_vec(), decoded(name), decoded(value))
        })
        .collect()
}

/// Rebuilds a target without the parameters of a name.
pub(crate) fn target_without(target: &[u8], name: &[u8]) -> Vec<u8> {
    let path: Vec<u8> = target.iter().copied().take_while(|byte| *byte != b'?').collect();
    let kept: Vec<Vec<u8>> = parameters(target)
        .into_iter()
        .filter(|(_, sent, _)| sent != name)
        .map(|(raw, _, _)| raw)
        .collect();
    if kept.is_empty() {
        path
    } else {
        [path, kept.join(&b'&')].join(&b'?')
    }
}

pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    let start = text
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t'))
        .map_or(start, |last| last + 1);
    &text[start..end]
}

pub(crate) fn is_cookie(piece: &[u8], name: &[u8]) -> bool {
    piece
        .iter()
        .position(|byte| *byte == b'=')
        .is_some_and(|at| trimmed(&piece[..at]) == name)
}

/// The values of a cookie over all lines, unquoted.
pub(crate) fn cookies(lines: &[Vec<u8>], name: &[u8]) -> Vec<Vec<u8>> {
    let joined = lines.join(&b';');
    let pieces = joined
        .split(|byte| *byte == b';')
        .filter(|piece| is_cookie(piece, name));
    pieces
        .map(|piece| {
            let at = piece.iter().position(|byte| *byte == b'=').unwrap();
            let value = trimmed(&piece[at + 1..]);
            let quoted = value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"");
            if quoted {
                value[1..value.len() - 1].to_vec()
            } else {
                value.to_vec()
            }
        })
        .collect()
}
