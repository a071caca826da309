//! Credentials as they are kept: digests and password hashes, never what a client sends.

mod apr1;
pub(crate) mod digest;
pub mod password;
pub(crate) mod second_chance;
pub(crate) mod source;
