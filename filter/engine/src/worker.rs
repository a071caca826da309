//! What one worker remembers between requests: verified passwords, and how long it has been hashing.

/// The memory of one worker; never shared between workers, bounded, and empty at start.
#[derive(Debug, Default)]
pub struct Worker {}
