//! RSASSA-PSS (RFC 8017 §8.1.2) with a salt as long as the hash and MGF1 over the same hash, as RFC 7518 §3.5 has it.
//!
//! Only for verifying: everything here is public, and nothing depends on how long it takes.

use super::{algorithm::Hash, modular};

/// Tells whether a signature is one of the message's under the key.
pub(crate) fn verify(hash: Hash, modulus: &[u8], exponent: u32, message: &[u8], signature: &[u8]) -> bool {
    modular::power(modulus, exponent, signature).is_some_and(|encoded| is_encoded(hash, modulus, message, &encoded))
}

/// EMSA-PSS-VERIFY (RFC 8017 §9.1.2).
fn is_encoded(hash: Hash, modulus: &[u8], message: &[u8], encoded: &[u8]) -> bool {
    let Some((encoded, unused)) = fitted(modulus, encoded) else {
        return false;
    };
    let Some((rest, [0xbc])) = encoded.split_last_chunk() else {
        return false;
    };
    let Some((masked, own)) = rest
        .len()
        .checked_sub(hash.size())
        .and_then(|end| rest.split_at_checked(end))
    else {
        return false;
    };
    if masked.first().is_none_or(|first| first & !(0xff >> unused) != 0) {
        return false;
    }
    let mut block: Vec<u8> = masked
        .iter()
        .zip(mask(hash, own, masked.len()))
        .map(|(a, b)| a ^ b)
        .collect();
    if let Some(first) = block.first_mut() {
        *first &= 0xff >> unused;
    }
    let Some((padding, salt)) = block
        .len()
        .checked_sub(hash.size())
        .and_then(|end| block.split_at_checked(end))
    else {
        return false;
    };
    let Some((zeros, [1])) = padding.split_last_chunk() else {
        return false;
    };
    let digest = hash.digest(&[message]);
    zeros.iter().all(|byte| *byte == 0) && hash.digest(&[&[0; 8], &digest, salt]) == own
}

/// EMSA-PSS-ENCODE (RFC 8017 §9.1.1), as long as the modulus; `None` for a salt that is too long.
#[cfg(feature = "test-keys")]
pub(crate) fn encoded(hash: Hash, modulus: &[u8], message: &[u8], salt: &[u8]) -> Option<Vec<u8>> {
    let zeros = vec![0; modulus.len()];
    let (fitted, unused) = fitted(modulus, &zeros)?;
    let length = fitted.len().checked_sub(hash.size() + 1)?;
    let padding = length.checked_sub(salt.len() + 1)?;
    let own = hash.digest(&[&[0; 8], &hash.digest(&[message]), salt]);
    let block = [&vec![0; padding][..], &[1], salt].concat();
    let mut masked: Vec<u8> = block.iter().zip(mask(hash, &own, length)).map(|(a, b)| a ^ b).collect();
    if let Some(first) = masked.first_mut() {
        *first &= 0xff >> unused;
    }
    let front = vec![0; modulus.len() - fitted.len()];
    Some([&front[..], &masked, &own, &[0xbc]].concat())
}

/// Cuts an encoded message to one bit less than the modulus has; also how many bits of its first byte are not used.
fn fitted<'e>(modulus: &[u8], encoded: &'e [u8]) -> Option<(&'e [u8], u32)> {
    match modulus.first()?.leading_zeros() {
        7 => encoded.strip_prefix(&[0]).map(|encoded| (encoded, 0)),
        zeros => Some((encoded, zeros + 1)),
    }
}

/// MGF1 (RFC 8017 §B.2.1).
pub(crate) fn mask(hash: Hash, seed: &[u8], length: usize) -> impl Iterator<Item = u8> {
    (0..u32::MAX)
        .flat_map(move |counter| hash.digest(&[seed, &counter.to_be_bytes()]))
        .take(length)
}
