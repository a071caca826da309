//! Rules of HTTPRoutes and GRPCRoutes, apart from where they are served.

pub(crate) mod filters;
mod grpc;
pub(crate) mod matches;
pub(crate) mod mirror;
pub(crate) mod pattern;
pub(crate) mod rule;
pub(crate) mod source;
mod timing;
