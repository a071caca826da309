//! What Envoy verifies for the filter, where there is no Envoy: signatures of RSA and ECDSA in Rust.

use p256::ecdsa::signature::Verifier;

use super::{algorithm::Hash, modular};
use crate::host::{Signature, Signed};

/// Tells whether a signature of a message is right; for [`crate::host::Host::verify_signature`]. A key that cannot be read verifies
/// nothing.
#[must_use]
pub fn verify(signed: &Signed<'_>) -> bool {
    let Signed {
        algorithm,
        key,
        message,
        signature,
    } = *signed;
    match algorithm {
        Signature::Es256 => point(key, 65).is_some_and(|point| {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point);
            let signature = halves(signature, 32).and_then(|raw| p256::ecdsa::Signature::from_slice(&raw).ok());
            key.ok()
                .zip(signature)
                .is_some_and(|(key, signature)| key.verify(message, &signature).is_ok())
        }),
        Signature::Es384 => point(key, 97).is_some_and(|point| {
            let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point);
            let signature = halves(signature, 48).and_then(|raw| p384::ecdsa::Signature::from_slice(&raw).ok());
            key.ok()
                .zip(signature)
                .is_some_and(|(key, signature)| key.verify(message, &signature).is_ok())
        }),
        Signature::Es512 => point(key, 133).is_some_and(|point| {
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point);
            let signature = halves(signature, 66).and_then(|raw| p521::ecdsa::Signature::from_slice(&raw).ok());
            key.ok()
                .zip(signature)
                .is_some_and(|(key, signature)| key.verify(message, &signature).is_ok())
        }),
        Signature::Rs256 => pkcs1(Hash::Sha256, key, message, signature),
        Signature::Rs384 => pkcs1(Hash::Sha384, key, message, signature),
        Signature::Rs512 => pkcs1(Hash::Sha512, key, message, signature),
    }
}

/// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2.2): what was signed is written anew and compared as a whole.
fn pkcs1(hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let read = || {
        let (_, outer, _) = element(key)?;
        let (_, _, rest) = element(outer)?;
        let (_, bits, _) = element(rest)?;
        let (_, key, _) = element(bits.strip_prefix(&[0])?)?;
        let (_, modulus, rest) = element(key)?;
        let (_, exponent, _) = element(rest)?;
        let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        let exponent = exponent
            .iter()
            .fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        Some(modular::power(modulus, exponent, signature)? == encoded(hash, message, modulus.len())?)
    };
    read().unwrap_or_default()
}

/// EMSA-PKCS1-v1_5-ENCODE (RFC 8017 §9.2).
pub(crate) fn encoded(hash: Hash, message: &[u8], length: usize) -> Option<Vec<u8>> {
    let number = match hash {
        Hash::Sha256 => 1,
        Hash::Sha384 => 2,
        Hash::Sha512 => 3,
    };
    let size = u8::try_from(hash.size()).ok()?;
    let digest = [
        &[
            0x30,
            0x11 + size,
            0x30,
            0x0d,
            0x06,
            0x09,
            0x60,
            0x86,
            0x48,
            0x01,
            0x65,
            0x03,
            0x04,
            0x02,
            number,
        ],
        &[0x05, 0x00, 0x04, size][..],
        &hash.digest(&[message]),
    ]
    .concat();
    let padding = length.checked_sub(digest.len() + 3).filter(|padding| *padding >= 8)?;
    Some([&[0, 1], &vec![0xff; padding][..], &[0], &digest].concat())
}

/// The uncompressed point at the end of a SubjectPublicKeyInfo.
fn point(key: &[u8], length: usize) -> Option<&[u8]> {
    key.get(key.len().checked_sub(length)?..)
}

/// The two numbers of an ECDSA-Sig-Value, each of that length.
fn halves(signature: &[u8], length: usize) -> Option<Vec<u8>> {
    let (_, numbers, _) = element(signature)?;
    let (_, r, rest) = element(numbers)?;
    let (_, s, _) = element(rest)?;
    let mut raw = Vec::with_capacity(2 * length);
    for number in [r, s] {
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        raw.resize(raw.len() + length.checked_sub(number.len())?, 0);
        raw.extend_from_slice(number);
    }
    Some(raw)
}

/// The tag and the content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0x81 => rest
            .split_first_chunk()
            .map(|([one], rest)| (usize::from(*one), rest))?,
        0x82 => rest
            .split_first_chunk()
            .map(|(two, rest)| (usize::from(u16::from_be_bytes(*two)), rest))?,
        short if *short < 0x80 => (usize::from(*short), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}
