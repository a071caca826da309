//! Rust types of the custom resources, with their schemas and CEL rules.

pub mod backend;
pub mod security_policy;
