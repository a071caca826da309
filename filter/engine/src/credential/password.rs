//! Password hashes as `htpasswd` and `mkpasswd` write them.

use base64::{
    Engine, alphabet,
    engine::{
        GeneralPurpose,
        general_purpose::{NO_PAD, STANDARD},
    },
};
use sha_crypt::{Params, sha256_crypt, sha512_crypt};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::apr1::{self, apr1};

/// The highest accepted cost of bcrypt: about a tenth of a second in a worker.
pub const MAX_BCRYPT_COST: u32 = 10;
/// The most rounds of SHA-256-crypt and SHA-512-crypt: about a tenth of a second in a worker.
pub const MAX_SHA_CRYPT_ROUNDS: u32 = 50_000;

/// The longest password that a slow hash is compared with, in bytes. bcrypt reads no more, and what follows must not be
/// ignored; the others take longer for a longer one, and whoever guesses must not choose how long.
const MAX_PASSWORD: usize = 72;

const DEFAULT_SHA_CRYPT_ROUNDS: u32 = 5_000;
const MIN_SHA_CRYPT_ROUNDS: u32 = 1_000;
const MIN_BCRYPT_COST: u32 = 4;

/// A parsed password hash.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `{SHA}`: one unsalted SHA-1.
    Sha1([u8; 20]),
    /// `$apr1$`
    Apr1 {
        /// One to eight bytes.
        salt: Box<[u8]>,
        /// The digest.
        digest: [u8; 16],
    },
    /// `$2a$`, `$2b$` and `$2y$`, which differ for passwords only that never match.
    Bcrypt {
        /// The logarithm of the rounds.
        cost: u32,
        /// The salt.
        salt: [u8; 16],
        /// The digest.
        digest: [u8; 23],
    },
    /// `$5$`
    Sha256 {
        /// The rounds.
        rounds: u32,
        /// One to sixteen bytes.
        salt: Box<[u8]>,
        /// The digest.
        digest: [u8; 32],
    },
    /// `$6$`
    Sha512 {
        /// The rounds.
        rounds: u32,
        /// One to sixteen bytes.
        salt: Box<[u8]>,
        /// The digest.
        digest: [u8; 64],
    },
}

/// Why a text is no usable password hash. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It would hold a worker up: its cost or rounds exceed the cap.
    TooCostly,
    /// Its scheme is supported, and no password can match it.
    Malformed,
    /// A scheme that is not supported, or a password in clear.
    Unsupported,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

impl PasswordHash {
    /// Parses a hash.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            return exactly(&STANDARD, encoded).map(Self::Sha1).ok_or(Unusable::Malformed);
        }
        let Some((scheme, rest)) = text.strip_prefix('$').and_then(|text| text.split_once('$')) else {
            return Err(Unusable::Unsupported);
        };
        match scheme {
            "2a" | "2b" | "2y" => parse_bcrypt(rest),
            "apr1" => {
                let (salt, digest) = salt_and_digest(rest, 8, APR1_ORDER)?;
                Ok(Self::Apr1 { salt, digest })
            }
            "5" => {
                let (rounds, rest) = parse_rounds(rest)?;
                let (salt, digest) = salt_and_digest(rest, 16, SHA256_ORDER)?;
                Ok(Self::Sha256 { rounds, salt, digest })
            }
            "6" => {
                let (rounds, rest) = parse_rounds(rest)?;
                let (salt, digest) = salt_and_digest(rest, 16, SHA512_ORDER)?;
                Ok(Self::Sha512 { rounds, salt, digest })
            }
            _ => Err(Unusable::Unsupported),
        }
    }

    /// Tells whether a password is the one that was hashed, in a time that depends on the lengths alone.
    ///
    /// A password that the scheme would not read whole (too long, or with a NUL, where other implementations end) never
    /// matches a slow hash, and takes as long as another.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha1(digest) => {
                let computed: [u8; 20] = Sha1::digest(password).into();
                computed.ct_eq(digest).into()
            }
            Self::Apr1 { salt, digest } => {
                let (password, readable) = readable(password);
                readable & bool::from(apr1(password, salt).ct_eq(digest))
            }
            Self::Bcrypt { cost, salt, digest } => {
                let (password, readable) = readable(password);
                let ended: Vec<u8> = password.iter().copied().chain([0]).take(MAX_PASSWORD).collect();
                let computed = bcrypt::bcrypt(*cost, *salt, &ended);
                let computed = computed.first_chunk::<23>();
                readable & computed.is_some_and(|computed| computed.ct_eq(digest).into())
            }
            Self::Sha256 { rounds, salt, digest } => {
                let (password, readable) = readable(password);
                let Ok(params) = Params::new(*rounds) else {
                    return false;
                };
                readable & bool::from(sha256_crypt(password, salt, params).ct_eq(digest))
            }
            Self::Sha512 { rounds, salt, digest } => {
                let (password, readable) = readable(password);
                let Ok(params) = Params::new(*rounds) else {
                    return false;
                };
                readable & bool::from(sha512_crypt(password, salt, params).ct_eq(digest))
            }
        }
    }

    /// Tells whether comparing with another hash takes as long: both have one scheme and one cost.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.cost() == other.cost()
    }

    /// About how long a comparison takes, in microseconds; 0 for a hash that needs no bound.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        match self {
            Self::Sha1(_) => 0,
            Self::Apr1 { .. } => apr1::ROUNDS,
            Self::Bcrypt { cost, .. } => 100 << *cost,
            Self::Sha256 { rounds, .. } | Self::Sha512 { rounds, .. } => 2 * *rounds,
        }
    }
}

/// The password as a slow scheme reads it, and whether that is the whole of it.
fn readable(password: &[u8]) -> (&[u8], bool) {
    let whole = password.len() <= MAX_PASSWORD && !password.contains(&0);
    (if whole { password } else { b"" }, whole)
}

fn parse_bcrypt(text: &str) -> Result<PasswordHash, Unusable> {
    const RADIX: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);
    let (cost, encoded) = text.split_once('$').ok_or(Unusable::Malformed)?;
    let cost = Some(cost)
        .filter(|cost| cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|cost| cost.parse::<u32>().ok())
        .filter(|cost| (MIN_BCRYPT_COST..=31).contains(cost))
        .ok_or(Unusable::Malformed)?;
    let (salt, digest) = encoded.split_at_checked(22).ok_or(Unusable::Malformed)?;
    let (Some(salt), Some(digest)) = (exactly(&RADIX, salt), exactly(&RADIX, digest)) else {
        return Err(Unusable::Malformed);
    };
    if cost > MAX_BCRYPT_COST {
        return Err(Unusable::TooCostly);
    }
    Ok(PasswordHash::Bcrypt { cost, salt, digest })
}

/// Splits `rounds=N$` off; without it the rounds are the default.
fn parse_rounds(text: &str) -> Result<(u32, &str), Unusable> {
    let Some(text) = text.strip_prefix("rounds=") else {
        return Ok((DEFAULT_SHA_CRYPT_ROUNDS, text));
    };
    let (digits, rest) = text.split_once('$').ok_or(Unusable::Malformed)?;
    let canonical = (4..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u32>() {
        Ok(rounds) if canonical && rounds > MAX_SHA_CRYPT_ROUNDS => Err(Unusable::TooCostly),
        Ok(rounds) if canonical && rounds >= MIN_SHA_CRYPT_ROUNDS && !digits.starts_with('0') => Ok((rounds, rest)),
        _ => Err(Unusable::Malformed),
    }
}

/// Parses `salt$digest`. Without a salt equal passwords would have equal hashes: none is malformed.
fn salt_and_digest<const N: usize>(
    text: &str,
    longest: usize,
    order: [u8; N],
) -> Result<(Box<[u8]>, [u8; N]), Unusable> {
    let (salt, digest) = text.split_once('$').ok_or(Unusable::Malformed)?;
    let valid = (1..=longest).contains(&salt.len()) && salt.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let digest = decode_crypt(digest, order).ok_or(Unusable::Malformed)?;
    valid
        .then(|| (salt.as_bytes().into(), digest))
        .ok_or(Unusable::Malformed)
}

fn exactly<const N: usize>(engine: &impl Engine, text: &str) -> Option<[u8; N]> {
    engine.decode(text).ok()?.try_into().ok()
}

/// Decodes the base 64 of `crypt`: least significant bits first, the digest's bytes in an order of their own.
fn decode_crypt<const N: usize>(text: &str, order: [u8; N]) -> Option<[u8; N]> {
    let mut digest = [0; N];
    let mut places = order.iter();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in text.bytes() {
        let value = match digit {
            b'.' => 0,
            b'/' => 1,
            b'0'..=b'9' => digit - b'0' + 2,
            b'A'..=b'Z' => digit - b'A' + 12,
            b'a'..=b'z' => digit - b'a' + 38,
            _ => return None,
        };
        bits |= u32::from(value) << held;
        held += 6;
        if held >= 8 {
            let place = places.next()?;
            *digest.get_mut(usize::from(*place))? = bits.to_le_bytes()[0];
            bits >>= 8;
            held -= 8;
        }
    }
    let whole = places.next().is_none() && held < 6 && bits == 0;
    whole.then_some(digest)
}

const APR1_ORDER: [u8; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];
const SHA256_ORDER: [u8; 32] = [
    20, 10, 0, 11, 1, 21, 2, 22, 12, 23, 13, 3, 14, 4, 24, 5, 25, 15, 26, 16, 6, 17, 7, 27, 8, 28, 18, 29, 19, 9, 30,
    31,
];
const SHA512_ORDER: [u8; 64] = [
    42, 21, 0, 1, 43, 22, 23, 2, 44, 45, 24, 3, 4, 46, 25, 26, 5, 47, 48, 27, 6, 7, 49, 28, 29, 8, 50, 51, 30, 9, 10,
    52, 31, 32, 11, 53, 54, 33, 12, 13, 55, 34, 35, 14, 56, 57, 36, 15, 16, 58, 37, 38, 17, 59, 60, 39, 18, 19, 61, 40,
    41, 20, 62, 63,
];
