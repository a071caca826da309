//! Whether a certificate chain and a private key belong together: what Envoy would find out, before it has to.
//!
//! Only as much of DER (X.690) is read as it takes to compare public keys; signatures and dates are not looked at.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Checks PEM text (RFC 7468) of a chain, leaf first, and of its key.
///
/// # Errors
///
/// Says what is wrong, without repeating any of it.
pub(super) fn check(chain: &[u8], key: &[u8]) -> Result<(), &'static str> {
    let chain = blocks(chain).ok_or("tls.crt is not PEM")?;
    let mut certificates = chain.iter().filter(|(label, _)| label == "CERTIFICATE");
    let (_, leaf) = certificates.next().ok_or("tls.crt holds no certificate")?;
    let in_chain = public_key(leaf).ok_or("the certificate in tls.crt cannot be read")?;
    match in_chain {
        Public::Rsa { modulus } if significant(modulus) < MIN_MODULUS => {
            return Err("the certificate in tls.crt has an RSA key of less than 2048 bits, which Envoy refuses");
        }
        Public::Unknown => {
            return Err(
                "the certificate in tls.crt has a key of a kind that Envoy refuses; use RSA, P-256, P-384, P-521 or Ed25519",
            );
        }
        _ => {}
    }
    if certificates.any(|(_, der)| public_key(der).is_none()) {
        return Err("a certificate of the chain in tls.crt cannot be read");
    }
    let keys = blocks(key).ok_or("tls.key is not PEM")?;
    let key = keys
        .iter()
        .find(|(label, _)| label.ends_with("PRIVATE KEY"))
        .ok_or("tls.key holds no private key")?;
    let of_key = match (key.0.as_str(), key.1.as_slice()) {
        ("PRIVATE KEY", der) => pkcs8(der),
        ("RSA PRIVATE KEY", der) => rsa(der),
        ("EC PRIVATE KEY", der) => sec1(der),
        _ => return Err("the private key in tls.key is encrypted or of an unknown form"),
    }
    .ok_or("the private key in tls.key cannot be read")?;
    match of_key {
        Public::Unknown => Ok(()),
        known if known == in_chain => Ok(()),
        _ => Err("the private key in tls.key is not that of the certificate in tls.crt"),
    }
}

/// As much of a public key as identifies it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Public<'a> {
    Rsa {
        modulus: &'a [u8],
    },
    /// An elliptic curve's point, or whatever else stands in a bit string.
    Bits(&'a [u8]),
    /// A public key of a kind that Envoy does not serve, or a private key that does not say its public one.
    Unknown,
}

/// The shortest RSA modulus that Envoy serves, in bytes.
const MIN_MODULUS: usize = 256;

fn significant(integer: &[u8]) -> usize {
    integer.iter().skip_while(|byte| **byte == 0).count()
}

/// Labels and contents of all blocks; `None` if one is cut off or not base64.
pub(super) fn blocks(pem: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut rest = std::str::from_utf8(pem).ok()?;
    let mut blocks = Vec::new();
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body) = after.split_once("-----")?;
        let (body, after) = body.split_once(&format!("-----END {label}-----"))?;
        let body: String = body
            .chars()
            .filter(|character| !character.is_ascii_whitespace())
            .collect();
        blocks.push((label.to_owned(), STANDARD.decode(body).ok()?));
        rest = after;
    }
    Some(blocks)
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const TAGGED_0: u8 = 0xa0;
const TAGGED_1: u8 = 0xa1;

/// `rsaEncryption`, 1.2.840.113549.1.1.1.
const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// `id-ecPublicKey`, 1.2.840.10045.2.1.
const ELLIPTIC: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// `secp256r1`, `secp384r1`, `secp521r1`: the curves that Envoy serves.
const CURVES: [&[u8]; 3] = [
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x2b, 0x81, 0x04, 0x00, 0x22],
    &[0x2b, 0x81, 0x04, 0x00, 0x23],
];

/// `id-Ed25519`, 1.3.101.112.
const ED25519: [u8; 3] = [0x2b, 0x65, 0x70];

/// Reads one element: its tag, which has one byte, its content, and what follows. Lengths have their shortest form.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first().filter(|(tag, _)| **tag & 0x1f != 0x1f)?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            length
                .first()
                .filter(|first| **first >= if length.len() == 1 { 0x80 } else { 1 })?;
            let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Reads an element that must have a tag.
pub(super) fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(der)
        .filter(|(found, _, _)| *found == tag)
        .map(|(_, content, rest)| (content, rest))
}

/// Reads an element that must be all there is.
pub(super) fn whole(der: &[u8], tag: u8) -> Option<&[u8]> {
    expect(der, tag)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(content, _)| content)
}

/// The public key of a certificate (RFC 5280, `Certificate`).
pub(super) fn public_key(der: &[u8]) -> Option<Public<'_>> {
    let (mut fields, _) = expect(whole(der, SEQUENCE)?, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, TAGGED_0) {
        fields = rest;
    }
    let (_, mut fields) = expect(fields, INTEGER)?;
    // Signature, issuer, validity, subject.
    for _ in 0..4 {
        fields = expect(fields, SEQUENCE)?.1;
    }
    let (info, _) = expect(fields, SEQUENCE)?;
    let (algorithm, bits) = expect(info, SEQUENCE)?;
    let bits = whole(bits, BIT_STRING)?
        .split_first()
        .filter(|(unused, _)| **unused == 0)?
        .1;
    let (kind, parameters) = expect(algorithm, OBJECT_IDENTIFIER)?;
    if kind == RSA {
        let (modulus, _) = expect(whole(bits, SEQUENCE)?, INTEGER)?;
        return Some(Public::Rsa { modulus });
    }
    let curve = expect(parameters, OBJECT_IDENTIFIER).map(|(curve, _)| curve);
    let served = kind == ED25519 || kind == ELLIPTIC && curve.is_some_and(|curve| CURVES.contains(&curve));
    Some(if served { Public::Bits(bits) } else { Public::Unknown })
}

/// RFC 5208, `PrivateKeyInfo`.
fn pkcs8(der: &[u8]) -> Option<Public<'_>> {
    let (_, fields) = expect(whole(der, SEQUENCE)?, INTEGER)?;
    let (algorithm, fields) = expect(fields, SEQUENCE)?;
    let (key, _) = expect(fields, OCTET_STRING)?;
    if expect(algorithm, OBJECT_IDENTIFIER)?.0 == RSA {
        return rsa(key);
    }
    // Other keys than those of elliptic curves are octet strings (RFC 8410).
    Some(sec1(key).unwrap_or(Public::Unknown))
}

/// RFC 8017, `RSAPrivateKey`.
fn rsa(der: &[u8]) -> Option<Public<'_>> {
    let (_, fields) = expect(whole(der, SEQUENCE)?, INTEGER)?;
    let (modulus, _) = expect(fields, INTEGER)?;
    Some(Public::Rsa { modulus })
}

/// RFC 5915, `ECPrivateKey`.
fn sec1(der: &[u8]) -> Option<Public<'_>> {
    let (_, fields) = expect(whole(der, SEQUENCE)?, INTEGER)?;
    let (_, mut fields) = expect(fields, OCTET_STRING)?;
    if let Some((_, rest)) = expect(fields, TAGGED_0) {
        fields = rest;
    }
    let Some((bits, _)) = expect(fields, TAGGED_1) else {
        return Some(Public::Unknown);
    };
    let (unused, bits) = whole(bits, BIT_STRING)?.split_first()?;
    (*unused == 0).then_some(Public::Bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: (&str, &str) = (
        include_str!("../../testdata/certificates/ec.crt"),
        include_str!("../../testdata/certificates/ec.key"),
    );
    const RSA: (&str, &str) = (
        include_str!("../../testdata/certificates/rsa.crt"),
        include_str!("../../testdata/certificates/rsa.key"),
    );
    const ED25519: (&str, &str) = (
        include_str!("../../testdata/certificates/ed25519.crt"),
        include_str!("../../testdata/certificates/ed25519.key"),
    );
    const SHORT: (&str, &str) = (
        include_str!("../../testdata/certificates/rsa-1024.crt"),
        include_str!("../../testdata/certificates/rsa-1024.key"),
    );
    const CURVE: (&str, &str) = (
        include_str!("../../testdata/certificates/secp256k1.crt"),
        include_str!("../../testdata/certificates/secp256k1.key"),
    );
    const SEC1: &str = include_str!("../../testdata/certificates/ec-sec1.key");
    const PKCS1: &str = include_str!("../../testdata/certificates/rsa-pkcs1.key");
    const ENCRYPTED: &str = include_str!("../../testdata/certificates/ec-encrypted.key");

    #[test]
    fn takes_what_belongs_together() {
        let cases: [(&str, &str); 5] = [
            (EC.0, EC.1),           // ec
            (RSA.0, RSA.1),         // rsa
            (ED25519.0, ED25519.1), // ed25519
            (EC.0, SEC1),           // sec1
            (RSA.0, PKCS1),         // pkcs1
        ];
        for (chain, key) in cases {
            assert_eq!(check(chain.as_bytes(), key.as_bytes()), Ok(()), "{key}");
            let longer = format!("leaf first\n{chain}{}", EC.0);
            assert_eq!(check(longer.as_bytes(), key.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn refuses_what_does_not() {
        let cases: [(&str, &str); 11] = [
            (EC.0, RSA.1),                // rsa key
            (RSA.0, EC.1),                // ec key
            (ED25519.0, SEC1),            // sec1 key
            (EC.0, PKCS1),                // pkcs1 key
            (SHORT.0, SHORT.1),           // short
            (CURVE.0, CURVE.1),           // curve
            (EC.0, ENCRYPTED),            // encrypted
            (EC.1, EC.1),                 // no certificate
            (EC.0, EC.0),                 // no key
            ("", ""),                     // empty
            (EC.0.split_at(200).0, EC.1), // cut
        ];
        for (chain, key) in cases {
            assert!(check(chain.as_bytes(), key.as_bytes()).is_err(), "{chain}{key}");
        }
    }

    /// Every truncation and every changed byte is read without a panic.
    #[test]
    fn reads_any_bytes() {
        let whole = STANDARD
            .decode(EC.0.lines().filter(|line| !line.starts_with('-')).collect::<String>())
            .unwrap();
        assert!(public_key(&whole).is_some());
        for length in 0..whole.len() {
            assert!(public_key(&whole[..length]).is_none());
            let mut changed = whole.clone();
            changed[length] = !changed[length];
            let _ = (public_key(&changed), pkcs8(&changed), rsa(&changed), sec1(&changed));
        }
    }
}
