//! Which policy applies to which route: effective documents and statuses. Pure, and knows nothing of Envoy.

pub mod binding;
mod claims;
pub mod connection;
pub mod cors_filter;
mod document;
pub mod effective;
mod fault;
pub mod finding;
pub mod geography;
pub mod hostname;
pub mod key_server;
pub mod listener_set;
pub mod listeners;
pub mod memo;
pub mod memory;
pub mod object;
mod overriding;
mod policy_status;
mod recipe;
mod reference;
mod route;
pub mod selecting;
pub mod selector;
pub mod snapshot;
pub mod status;
mod target;
