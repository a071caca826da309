//! The session by its rules and against a model of a client; the server by a client of its own and by Envoy.

// `cfg(test)` is always set here; it tells Clippy that helpers may panic like the tests themselves.
#[cfg(test)]
mod client;
#[cfg(test)]
mod envoy;
#[cfg(test)]
mod server;
#[cfg(test)]
mod session_model;
#[cfg(test)]
mod session_order;
#[cfg(test)]
mod session_rules;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod world;
