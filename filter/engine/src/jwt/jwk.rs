//! Keys that verify tokens, as a JSON Web Key Set lists them (RFC 7517), each bound to the algorithms that it is for.

use std::{borrow::Cow, fmt};

use base64::Engine;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    algorithm::{Algorithm, Hash},
    der,
    json::{self, Object, Value},
    jws::BASE64URL,
    pss,
};
use crate::{
    credential::digest::Digest256,
    host::{Fault, Host, Signature, Signed},
};

/// The longest key set, in bytes.
pub const MAX_BYTES: usize = 128 * 1024;
/// The most keys of a set that can be used.
pub const MAX_KEYS: usize = 64;
/// The sizes of RSA keys, in bits: at least as RFC 7518 §3.3 asks, at most what does not hold a worker up.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Keys of one issuer.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    digest: Digest256,
}

/// Why no key of a set can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The text is no key set, told for a person.
    Malformed(&'static str),
    /// Every key is left out; the first few with the reason.
    NoKey(Vec<(usize, &'static str)>),
}

/// Where a key set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The policy itself: its symmetric keys are nobody else's.
    Local,
    /// A server that whoever reads it learns the keys from: symmetric ones are left out.
    Remote,
}

impl KeySet {
    /// Reads a key set. Keys that cannot be used are left out: of another type or use, or too weak.
    ///
    /// # Errors
    /// Why nothing is left.
    pub fn parse(text: &[u8], source: Source) -> Result<Self, Unusable> {
        if text.len() > MAX_BYTES {
            return Err(Unusable::Malformed("it is longer than 128 KiB"));
        }
        let set = json::parse_object(text).ok_or(Unusable::Malformed("it is no JSON object, or has a name twice"))?;
        let listed = match set.get("keys") {
            Some(Value::Array(listed)) => listed,
            Some(_) => return Err(Unusable::Malformed("its \"keys\" are no list")),
            None => return Err(Unusable::Malformed("it has no \"keys\"")),
        };
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for (index, key) in listed.iter().enumerate() {
            match Key::read(key, source) {
                Ok(key) if keys.len() < MAX_KEYS => keys.push(key),
                Ok(_) => return Err(Unusable::Malformed("it has more than 64 keys")),
                Err(reason) => left_out.push((index, reason)),
            }
        }
        if keys.is_empty() {
            left_out.truncate(4);
            return Err(Unusable::NoKey(left_out));
        }
        let digest = Sha256::digest(text).into();
        Ok(Self { keys, digest })
    }

    /// How many keys can be used.
    pub(crate) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// What tells this set from every other one.
    pub(crate) const fn digest(&self) -> &Digest256 {
        &self.digest
    }

    /// Iterates over the keys that a token by that algorithm and with that `kid` may be signed with.
    pub(crate) fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.fits(algorithm, kid))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => f.write_str(reason),
            Self::NoKey(left_out) => {
                f.write_str("it has no key that can be used")?;
                for (index, reason) in left_out {
                    write!(f, "; keys[{index}]: {reason}")?;
                }
                Ok(())
            }
        }
    }
}

/// A key with the algorithms that it is for.
pub(crate) struct Key {
    kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    material: Material,
}

enum Material {
    Rsa {
        spki: Box<[u8]>,
        /// Without zeros in front.
        modulus: Box<[u8]>,
        exponent: u32,
    },
    Ec {
        spki: Box<[u8]>,
        /// The length of one half of a signature, in bytes.
        half: usize,
    },
    Ed25519(Box<VerifyingKey>),
    Symmetric(Box<[u8]>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &names)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn read(key: &Value, source: Source) -> Result<Self, &'static str> {
        let Value::Object(key) = key else {
            return Err("it is no object");
        };
        let text = |name| match key.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(&**text)),
            Some(_) => Err("a member that must be a text is none"),
        };
        if text("use")?.is_some_and(|usage| usage != "sig") {
            return Err("its \"use\" is not \"sig\"");
        }
        match key.get("key_ops") {
            None => {}
            Some(Value::Array(operations))
                if operations.iter().any(|operation| operation.as_str() == Some("verify")) => {}
            Some(_) => return Err("its \"key_ops\" do not hold \"verify\""),
        }
        let (material, mut algorithms) = match text("kty")?.ok_or("it has no \"kty\"")? {
            "RSA" => rsa(key)?,
            "EC" => ec(key)?,
            "OKP" => okp(key)?,
            "oct" if source == Source::Local => symmetric(key)?,
            "oct" => return Err("a key that everybody can fetch is no secret"),
            _ => return Err("its \"kty\" is none of RSA, EC, OKP and oct"),
        };
        if let Some(name) = text("alg")? {
            algorithms.retain(|algorithm| algorithm.name() == name);
            if algorithms.is_empty() {
                return Err("its \"alg\" is not one that a key of its sort and size verifies by");
            }
        }
        Ok(Self {
            kid: text("kid")?.filter(|kid| !kid.is_empty()).map(Box::from),
            algorithms,
            material,
        })
    }

    fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let same_kid = match (&self.kid, kid) {
            (Some(own), Some(kid)) => **own == *kid,
            _ => true,
        };
        same_kid && self.algorithms.contains(&algorithm)
    }

    /// Tells whether a signature of a message is this key's, by an algorithm that it [fits](Self::fits).
    pub(crate) fn verify(
        &self,
        host: &impl Host,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault> {
        let (algorithm, key, signature) = match (&self.material, algorithm) {
            (Material::Rsa { spki, modulus, .. }, Algorithm::Host(algorithm)) if signature.len() == modulus.len() => {
                (algorithm, spki, Cow::Borrowed(signature))
            }
            (Material::Ec { spki, half }, Algorithm::Host(algorithm)) => match signature.split_at_checked(*half) {
                Some((r, s)) if s.len() == *half && !is_zero(r) && !is_zero(s) => {
                    (algorithm, spki, Cow::Owned(der::ecdsa_signature(r, s)))
                }
                _ => return Ok(false),
            },
            (Material::Rsa { modulus, exponent, .. }, Algorithm::Pss(hash)) => {
                return Ok(pss::verify(hash, modulus, *exponent, message, signature));
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                return Ok(signature
                    .try_into()
                    .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()));
            }
            (Material::Symmetric(key), Algorithm::Hmac(hash)) => return Ok(is_tag(hash, key, message, signature)),
            _ => return Ok(false),
        };
        host.verify_signature(&Signed {
            algorithm,
            key,
            message,
            signature: &signature,
        })
    }
}

fn is_zero(number: &[u8]) -> bool {
    number.iter().all(|byte| *byte == 0)
}

/// Compares the HMAC (RFC 2104) of a message in a time that does not depend on where the two differ.
fn is_tag(hash: Hash, key: &[u8], message: &[u8], tag: &[u8]) -> bool {
    let block = hash.block();
    let hashed = if key.len() > block {
        Some(hash.digest(&[key]))
    } else {
        None
    };
    let mut padded = hashed.unwrap_or_else(|| key.to_vec());
    padded.resize(block, 0);
    let masked = |mask: u8| -> Vec<u8> { padded.iter().map(|byte| byte ^ mask).collect() };
    let inner = hash.digest(&[&masked(0x36), message]);
    hash.digest(&[&masked(0x5c), &inner]).ct_eq(tag).into()
}

/// A member's bytes.
fn bytes(key: &Object, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = key.get(name).and_then(Value::as_str);
    let bytes = text.and_then(|text| BASE64URL.decode(text).ok());
    bytes
        .filter(|bytes| !bytes.is_empty())
        .ok_or("a member that must be base64url is absent or is none")
}

type Read = Result<(Material, Vec<Algorithm>), &'static str>;

fn rsa(key: &Object) -> Read {
    // Some libraries write a zero in front.
    let unsigned = |name| {
        let bytes = bytes(key, name)?;
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        Ok::<_, &'static str>(bytes.get(first..).unwrap_or_default().to_vec())
    };
    let (modulus, exponent) = (unsigned("n")?, unsigned("e")?);
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(zeros as usize);
    if bits < *RSA_BITS.start() {
        return Err("an RSA key of less than 2048 bits is too weak");
    }
    if bits > *RSA_BITS.end() {
        return Err("an RSA key of more than 8192 bits is too slow");
    }
    let number = exponent.iter().try_fold(0_u32, |number, byte| {
        number.checked_mul(256)?.checked_add(u32::from(*byte))
    });
    let number = number.filter(|number| *number >= 3 && number % 2 == 1);
    let (Some(number), true) = (number, modulus.last().is_some_and(|last| last % 2 == 1)) else {
        return Err("no RSA key has this modulus and exponent");
    };
    if is_of_roca(&modulus) {
        return Err("an RSA key of this generator can be factored (CVE-2017-15361)");
    }
    let algorithms = Algorithm::ALL.iter().copied().filter(|algorithm| {
        matches!(
            algorithm,
            Algorithm::Pss(_) | Algorithm::Host(Signature::Rs256 | Signature::Rs384 | Signature::Rs512)
        )
    });
    let material = Material::Rsa {
        spki: der::rsa_key(&modulus, &exponent).into(),
        modulus: modulus.into(),
        exponent: number,
    };
    Ok((material, algorithms.collect()))
}

/// Tells whether a modulus has the form of those that one generator of primes made: modulo each small prime it is a power of 65537.
/// Of others, one in 2^28 has it.
fn is_of_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65537 % prime));
        powers.take(*prime as usize).any(|power| power == rest)
    })
}

fn ec(key: &Object) -> Read {
    let (algorithm, oid, half): (_, &[u8], _) = match key.get("crv").and_then(Value::as_str) {
        Some("P-256") => (
            Signature::Es256,
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            32,
        ),
        Some("P-384") => (Signature::Es384, &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], 48),
        Some("P-521") => (Signature::Es512, &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], 66),
        _ => return Err("its \"crv\" is none of P-256, P-384 and P-521"),
    };
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != half || y.len() != half {
        return Err("a coordinate has not the length of its curve's");
    }
    let spki = der::ec_key(oid, &x, &y).into();
    Ok((Material::Ec { spki, half }, vec![Algorithm::Host(algorithm)]))
}

fn okp(key: &Object) -> Read {
    if key.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err("its \"crv\" is not Ed25519");
    }
    let point = bytes(key, "x")?.try_into().ok();
    let point = point.and_then(|point: [u8; 32]| VerifyingKey::from_bytes(&point).ok());
    match point.filter(|point| !point.is_weak()) {
        Some(point) => Ok((Material::Ed25519(Box::new(point)), vec![Algorithm::EdDsa])),
        None => Err("no Ed25519 key has this \"x\""),
    }
}

fn symmetric(key: &Object) -> Read {
    let key = bytes(key, "k")?;
    let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
    // RFC 7518 §3.2.
    let strong = hashes.into_iter().filter(|hash| key.len() >= hash.size());
    let algorithms: Vec<_> = strong.map(Algorithm::Hmac).collect();
    if algorithms.is_empty() {
        return Err("a symmetric key of less than 32 bytes is too weak");
    }
    Ok((Material::Symmetric(key.into()), algorithms))
}
