//! Whole translations: manifests in, xDS resources and statuses out, and Envoy takes all of it.

mod envoy;
mod goldens;
mod properties;
mod traffic;
mod world;
