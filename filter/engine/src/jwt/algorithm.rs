//! The algorithms of RFC 7518 and RFC 8037 that tokens are verified by.

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::host::Signature;

/// An algorithm by which a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `EdDSA` with Ed25519.
    EdDsa,
    /// `ES256`, `ES384`, `ES512`, `RS256`, `RS384` and `RS512`, which the proxy verifies.
    Host(Signature),
    /// `HS256`, `HS384` and `HS512`.
    Hmac(Hash),
    /// `PS256`, `PS384` and `PS512`.
    Pss(Hash),
}

/// A hash function of SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: &'static [Self] = &[
        Self::EdDsa,
        Self::Host(Signature::Es256),
        Self::Host(Signature::Es384),
        Self::Host(Signature::Es512),
        Self::Hmac(Hash::Sha256),
        Self::Hmac(Hash::Sha384),
        Self::Hmac(Hash::Sha512),
        Self::Pss(Hash::Sha256),
        Self::Pss(Hash::Sha384),
        Self::Pss(Hash::Sha512),
        Self::Host(Signature::Rs256),
        Self::Host(Signature::Rs384),
        Self::Host(Signature::Rs512),
    ];

    /// Reads a name; its case counts (RFC 7515 §4.1.1).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// Returns the name that stands in a token's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Host(Signature::Es256) => "ES256",
            Self::Host(Signature::Es384) => "ES384",
            Self::Host(Signature::Es512) => "ES512",
            Self::Hmac(Hash::Sha256) => "HS256",
            Self::Hmac(Hash::Sha384) => "HS384",
            Self::Hmac(Hash::Sha512) => "HS512",
            Self::Pss(Hash::Sha256) => "PS256",
            Self::Pss(Hash::Sha384) => "PS384",
            Self::Pss(Hash::Sha512) => "PS512",
            Self::Host(Signature::Rs256) => "RS256",
            Self::Host(Signature::Rs384) => "RS384",
            Self::Host(Signature::Rs512) => "RS512",
        }
    }

    /// What verifying one signature costs in the filter, in about twenty microseconds: measured.
    pub(crate) const fn cost(self) -> u32 {
        match self {
            Self::Hmac(_) | Self::Host(Signature::Rs256 | Signature::Rs384 | Signature::Rs512) => 1,
            Self::Host(_) | Self::EdDsa => 4,
            Self::Pss(_) => 32,
        }
    }
}

impl Hash {
    /// The length of a digest, in bytes.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The length of the blocks that it works in, in bytes.
    pub(crate) const fn block(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }

    /// Computes the digest of the parts, one after the other.
    pub(crate) fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn of<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            for part in parts {
                digest.update(part);
            }
            digest.finalize().to_vec()
        }
        match self {
            Self::Sha256 => of::<Sha256>(parts),
            Self::Sha384 => of::<Sha384>(parts),
            Self::Sha512 => of::<Sha512>(parts),
        }
    }
}
