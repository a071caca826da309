//! The few structures of DER (X.690) that a verifier of signatures asks for.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// rsaEncryption with its NULL (RFC 3279 §2.3.1).
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// id-ecPublicKey (RFC 5480 §2.1.1).
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Writes an RSA key as a SubjectPublicKeyInfo (RFC 5280 §4.1).
pub(crate) fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = sequence(&[&unsigned(modulus), &unsigned(exponent)]);
    sequence(&[RSA, &element(BIT_STRING, &[&[0], &key])])
}

/// Writes a point of the curve of that object identifier as a SubjectPublicKeyInfo.
pub(crate) fn ec_key(curve: &[u8], x: &[u8], y: &[u8]) -> Vec<u8> {
    sequence(&[&sequence(&[EC, curve]), &element(BIT_STRING, &[&[0, 4], x, y])])
}

/// Writes the two halves of an ECDSA signature as an ECDSA-Sig-Value (RFC 3279 §2.2.3).
pub(crate) fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    sequence(&[&unsigned(r), &unsigned(s)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

fn unsigned(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0);
    let number = number.get(first.unwrap_or(number.len())..).unwrap_or_default();
    // A first bit would be a sign.
    if number.first().is_none_or(|byte| *byte >= 0x80) {
        element(INTEGER, &[&[0], number])
    } else {
        element(INTEGER, &[number])
    }
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut written = vec![tag];
    let bytes = length.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let bytes = bytes.get(first..).unwrap_or_default();
    match (u8::try_from(length), u8::try_from(bytes.len())) {
        (Ok(length), _) if length < 0x80 => written.push(length),
        (_, Ok(count)) => {
            written.push(0x80 | count);
            written.extend_from_slice(bytes);
        }
        _ => {}
    }
    for part in parts {
        written.extend_from_slice(part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_sign_and_without_zeros_in_front() {
        assert_eq!(ecdsa_signature(&[0, 0, 1], &[0x80]), [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]);
        assert_eq!(ecdsa_signature(&[0], &[]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        for (length, head) in [
            (0, &[0x30, 0][..]),
            (0x7f, &[0x30, 0x7f]),
            (0x80, &[0x30, 0x81, 0x80]),
            (0xff, &[0x30, 0x81, 0xff]),
            (0x100, &[0x30, 0x82, 1, 0]),
        ] {
            assert_eq!(
                element(SEQUENCE, &[&vec![7; length]]),
                [head, &vec![7; length]].concat()
            );
        }
    }
}
