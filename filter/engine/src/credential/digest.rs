//! SHA-256 digests as keys of a map.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A SHA-256.
pub(crate) type Digest256 = [u8; 32];

/// A map from digests that nobody can choose.
pub(crate) type DigestMap<V> = HashMap<Digest256, V, BuildHasherDefault<DigestHasher>>;

/// The first bytes of a digest are as good a hash as any.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}
