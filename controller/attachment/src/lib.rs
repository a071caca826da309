//! Which policy applies to which route: effective documents and statuses. Pure, and knows nothing of Envoy.

pub mod binding;
pub mod effective;
pub mod finding;
pub mod object;
pub mod snapshot;
pub mod status;
