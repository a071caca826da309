//! Which policy applies to which route: effective documents and statuses. Pure, and knows nothing of Envoy.

pub mod binding;
pub mod effective;
pub mod finding;
pub mod hostname;
pub mod listeners;
pub mod object;
mod selector;
pub mod snapshot;
pub mod status;
