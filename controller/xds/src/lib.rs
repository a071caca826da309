//! Delta ADS: a pure session and the stream around it.
//!
//! A [`Server`] holds one [`Snapshot`] per `node.cluster` and serves it on a unix socket to every proxy that names that
//! cluster. What goes over each stream, and in which order, is decided by a [`session::Session`], which does no I/O.

pub mod constraint;
mod server;
mod service;
pub mod session;
pub mod snapshot;
pub mod socket;
mod subscription;
pub mod wire;

pub use server::{Acknowledgement, Event, Options, Proxy, Server};
pub use snapshot::{Duplicate, Resource, Snapshot};
pub use socket::Socket;
