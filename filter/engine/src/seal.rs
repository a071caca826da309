//! The hash that names a policy on its route, and that the seal compares.

use sha2::{Digest, Sha256};

/// The prefix of a policy's key in `typed_filter_metadata`, before the hash.
pub const SECRETS_KEY_PREFIX: &str = "portcullis/";

/// The namespace of route and virtual-host metadata that holds policies.
pub const METADATA_NAMESPACE: &str = "portcullis";

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
    digest
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
