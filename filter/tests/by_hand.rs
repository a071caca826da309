//! `envoy-config/by-hand.yaml` holds policies that the filter will accept: their hashes are real and every route has one.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_engine::{policy, seal};
use serde_json::Value;

fn virtual_hosts() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy-config/by-hand.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let bootstrap: Value = serde_saphyr::from_str(&text).unwrap();
    let chain = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    chain["route_config"]["virtual_hosts"].as_array().unwrap().clone()
}

#[test]
fn every_policy_has_its_real_hash_and_decodes() {
    let mut seen = 0;
    for host in virtual_hosts() {
        for (hash, document) in host["metadata"]["filter_metadata"]["portcullis"].as_object().unwrap() {
            let document = document.as_str().unwrap().as_bytes();
            let secrets = &host["metadata"]["typed_filter_metadata"][format!("{}{hash}", seal::SECRETS_KEY_PREFIX)];
            let secrets = STANDARD
                .decode(secrets["secret"]["inline_bytes"].as_str().unwrap())
                .unwrap();
            assert_eq!(*hash, seal::hash(document, &secrets), "{}", host["name"]);
            policy::decode(hash, document, &secrets).unwrap();
            seen += 1;
        }
    }
    assert!(seen >= 2, "the file has lost its policies");
}

#[test]
fn every_route_names_a_policy_of_its_virtual_host() {
    for host in virtual_hosts() {
        for route in host["routes"].as_array().unwrap() {
            let hash = route["metadata"]["filter_metadata"]["portcullis"]["h"]
                .as_str()
                .unwrap();
            assert!(
                host["metadata"]["filter_metadata"]["portcullis"][hash].is_string(),
                "{route}"
            );
        }
    }
}
