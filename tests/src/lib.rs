//! The harness of the end-to-end tests: starts the built artefacts, speaks HTTP to them byte by byte, and records what
//! the backend saw.
//!
//! Everything blocks: a test is a script, and threads are enough for fifty connections. Nothing here is retried in
//! silence; whatever goes wrong panics with the place of the logs.

pub mod access_log;
pub mod admission;
pub mod api;
pub mod artefacts;
pub mod backend;
pub mod certificate;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod controller;
pub mod curl;
pub mod denials;
pub mod envoy;
pub mod guide;
pub mod http;
pub mod island;
pub mod key_server;
pub mod latency;
pub mod live;
pub mod manifests;
pub mod mmdb;
pub mod replica;
pub mod run;
pub mod scratch;
pub mod signed;
pub mod spawned;
pub mod stats;
pub mod tables;
pub mod violation;
pub mod wait;
pub mod wire;
