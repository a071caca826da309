//! The hash that names a policy on its route, and that the seal compares.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use crate::document::{Document, Secrets};

/// The prefix of a policy's key in `typed_filter_metadata`, before the hash.
pub const SECRETS_KEY_PREFIX: &str = "portcullis/";

/// The namespace of route and virtual-host metadata that holds policies.
pub const METADATA_NAMESPACE: &str = "portcullis";

/// The namespace of virtual-host metadata that holds the key sets that the controller fetched: under a source's id the time of
/// the fetch in seconds since 1970, a line break, and the JSON Web Key Set.
pub const KEYS_NAMESPACE: &str = "portcullis.keys";

/// Computes the name of a policy: 128 bits of SHA-256 over its serialized secrets and document, in lower-case hex.
///
/// The secrets hold a salt that only the controller can compute, so the result beside a readable document is no oracle
/// for guessing secrets. Lengths are hashed too, so that no byte can move between the parts.
#[must_use]
pub fn hash(document: &[u8], secrets: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update((secrets.len() as u64).to_be_bytes());
    digest.update(secrets);
    digest.update(document);
    hex(digest)
}

/// Computes what tells a policy from every other one, whatever it stands in; the same in one build only.
pub(crate) fn identity(document: &Document, secrets: &Secrets) -> String {
    let mut parts = Parts(Sha256::new());
    (secrets, document).hash(&mut parts);
    hex(parts.0)
}

/// Hashes values part by part; each part's end can be told, as [`Hash`] asks of every type.
struct Parts(Sha256);

impl Hasher for Parts {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Nobody asks for less than the whole digest.
    fn finish(&self) -> u64 {
        0
    }
}

/// The first 128 bits.
fn hex(digest: Sha256) -> String {
    let digits = b"0123456789abcdef";
    let digest = digest.finalize();
    let halves = digest.iter().take(16).flat_map(|byte| [byte >> 4, byte & 15]);
    halves
        .filter_map(|half| digits.get(usize::from(half)))
        .map(|digit| char::from(*digit))
        .collect()
}
