//! Decides requests: a pure state machine with no clock, no I/O and no log.
#![forbid(unsafe_code)]

pub mod address;
mod api_key;
mod authentication;
mod authorization;
mod basic_auth;
pub mod cel;
mod checks;
mod cors;
pub mod credential;
mod csrf;
pub mod denial;
pub mod document;
pub mod geography;
pub mod host;
pub mod http;
pub mod identity;
pub mod jwt;
pub mod policy;
pub mod refusal;
mod request;
pub mod rerouted;
pub mod seal;
pub mod step;
pub mod texts;
pub mod transaction;
pub mod worker;
