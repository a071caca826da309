//! The proxy-wasm adapter of the decision engine: Envoy's callbacks to transactions, and their effects back.
//!
//! Every request is decided by the policy whose hash stands in its route's metadata. The policy itself is read from the
//! same route table, once per worker. Whatever is missing, unreadable or out of order refuses the request; and a request
//! that this filter never saw lacks the seal, so that the native filter behind it refuses it.

mod cache;
mod counters;
#[cfg(feature = "faults")]
mod faults;
mod host;
mod http;
mod keys;
mod pairs;
mod parked;
mod policies;
mod protobuf;
mod rerouted;
mod root;

use portcullis_engine::document::VERSION;
use proxy_wasm::types::LogLevel;

/// What this build can decode, for controllers that look into the .wasm file: the custom section `portcullis`.
const DESCRIPTION: &[u8] = concat!(r#"{"version":""#, env!("CARGO_PKG_VERSION"), r#"","documents":[1]}"#).as_bytes();
const _: () = assert!(VERSION == 1, "DESCRIPTION lists the wire forms that this build reads");

#[cfg_attr(
    target_arch = "wasm32",
    expect(
        unsafe_code,
        reason = "places a custom section, which clashes with no symbol and no section of the linker"
    ),
    unsafe(link_section = "portcullis")
)]
#[used]
static SECTION: [u8; DESCRIPTION.len()] = {
    let mut section = [0; DESCRIPTION.len()];
    section.copy_from_slice(DESCRIPTION);
    section
};

proxy_wasm::main! {{
    // Also installs the hook that logs where a panic happened.
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(root::Root::new()));
}}

#[cfg(test)]
mod tests {
    #[test]
    fn the_description_is_json() {
        let description: serde_json::Value = serde_json::from_slice(super::DESCRIPTION).unwrap();
        assert_eq!(description["documents"], serde_json::json!([1]));
        assert_eq!(description["version"], env!("CARGO_PKG_VERSION"));
    }
}
