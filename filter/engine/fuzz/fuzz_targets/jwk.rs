#![no_main]

#[allow(dead_code, reason = "one check of several")]
#[path = "../../tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::jwk(data));
