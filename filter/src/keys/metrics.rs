//! What becomes of the fetches of one server of keys: `portcullis_key_fetches` by server, source and result, and
//! `portcullis_keys_fetched`, when the keys in use were fetched, in seconds since 1970.
//!
//! A metric that the proxy refuses changes nothing else.

use crate::host;
use portcullis_engine::jwt::remote::KeySource;

/// The metrics of one server; each is defined once, when it first has a value.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// `server` and `source`, as they stand in the names.
    labels: Box<str>,
    good: Option<u32>,
    failed: Option<u32>,
    fetched: Option<u32>,
}

impl Metrics {
    pub(crate) fn new(source: &KeySource) -> Self {
        // The separator of the labels must not come from an authority.
        let server = source.authority().replace(';', "_");
        Self {
            labels: format!("server={server};source={}", source.id()).into(),
            good: None,
            failed: None,
            fetched: None,
        }
    }

    /// Counts a fetch that ended.
    pub(crate) fn count(&mut self, good: bool) {
        let (id, result) = if good {
            (&mut self.good, "good")
        } else {
            (&mut self.failed, "failed")
        };
        let name = || format!("portcullis_key_fetches;{};result={result}", self.labels);
        if let Some(id) = defined(id, || host::define_counter(&name())) {
            let _ = host::increment(id);
        }
    }

    /// Notes when the keys in use were fetched, in seconds since 1970.
    pub(crate) fn note(&mut self, fetched: u64) {
        let name = || format!("portcullis_keys_fetched;{}", self.labels);
        if let Some(id) = defined(&mut self.fetched, || host::define_gauge(&name())) {
            let _ = host::record(id, fetched);
        }
    }
}

fn defined(id: &mut Option<u32>, define: impl FnOnce() -> Result<u32, host::HostError>) -> Option<u32> {
    if id.is_none() {
        *id = define().ok();
    }
    *id
}
