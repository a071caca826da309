//! Decides requests: a pure state machine with no clock, no I/O and no log.
#![forbid(unsafe_code)]

pub mod denial;
pub mod document;
pub mod host;
pub mod seal;
pub mod step;
