//! Delta ADS: a pure session and the stream around it.
//!
//! A [`Server`] holds one [`Snapshot`] per `node.cluster` and serves it on a unix socket to every proxy that names that
//! cluster, and in mutual TLS to every proxy whose certificate does. What goes over each stream, and in which order, is decided by a [`session::Session`], which does no I/O.

pub mod authority;
mod connection;
pub mod constraint;
mod crowd;
pub mod identity;
mod server;
mod service;
pub mod session;
pub mod snapshot;
pub mod socket;
mod subscription;
mod tally;
mod tls;
pub mod wire;

pub use authority::{Authorities, Credentials};
pub use crowd::Crowd;
pub use identity::Identity;
pub use server::{Acknowledgement, Event, Options, Proxy, ServeError, Server};
pub use snapshot::{Duplicate, Resource, Snapshot};
pub use socket::Socket;
pub use tls::{ServerCredentials, ServerTls, TlsListener};
