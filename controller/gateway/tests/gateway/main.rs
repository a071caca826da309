//! Whole translations: manifests in, xDS resources and statuses out, and Envoy takes all of it.

// `cfg(test)` is always set here; it tells Clippy that helpers may panic like the tests themselves.
#[cfg(test)]
mod authorities;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod envoy;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod incremental;
#[cfg(test)]
mod listener_fields;
#[cfg(test)]
mod many_listeners;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod traffic_clients;
#[cfg(test)]
mod traffic_tls;
#[cfg(test)]
mod world;
