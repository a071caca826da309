//! The little of Protocol Buffers that Envoy's foreign functions speak.

/// The wire type of bytes and texts.
const BYTES: u8 = 2;

/// Writes a message whose fields are bytes; `None` for a field's number beyond 15 or a field that is too long.
pub(crate) fn message(fields: &[(u8, &[u8])]) -> Option<Vec<u8>> {
    let length: usize = fields.iter().map(|(_, value)| value.len() + 6).sum();
    let mut written = Vec::with_capacity(length);
    for (number, value) in fields {
        written.push(number << 3 | BYTES);
        let mut length = u32::try_from(value.len()).ok().filter(|_| *number < 16)?;
        while length >= 0x80 {
            written.push(u8::try_from(length & 0x7f).ok()? | 0x80);
            length >>= 7;
        }
        written.push(u8::try_from(length).ok()?);
        written.extend_from_slice(value);
    }
    Some(written)
}

/// Reads envoy.source.extensions.common.wasm.VerifySignatureResult: result = 1, error = 2.
///
/// Only `result` alone is a yes. A no may say why, or be empty. Anything else is no answer.
pub(crate) fn verdict(result: &[u8]) -> Option<bool> {
    match result {
        [0x08, 1] => Some(true),
        [] | [0x08, 0] | [0x12, ..] => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_groups_of_seven_bits() {
        assert_eq!(message(&[(1, b"sha256"), (4, b"")]).unwrap(), b"\x0a\x06sha256\x22\x00");
        let long = vec![7; 300];
        let written = message(&[(2, &long)]).unwrap();
        assert_eq!(written.split_at(3), (&[0x12, 0xac, 0x02][..], &long[..]));
        assert_eq!(message(&[(16, b"")]), None);
    }

    #[test]
    fn only_a_plain_yes_is_one() {
        assert_eq!(verdict(b"\x08\x01"), Some(true));
        for no in [&b""[..], b"\x08\x00", b"\x12\x07invalid"] {
            assert_eq!(verdict(no), Some(false), "{no:?}");
        }
        for none in [
            &b"\x08"[..],
            b"\x08\x02",
            b"\x08\x01\x12\x01x",
            b"\x08\x81\x00",
            b"yes",
            b"\x01",
        ] {
            assert_eq!(verdict(none), None, "{none:?}");
        }
    }
}
