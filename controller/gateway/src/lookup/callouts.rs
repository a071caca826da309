//! What the servers answer that policies have a proxy ask.

use std::collections::BTreeSet;

use portcullis_engine::document::Document;

/// What the servers answer that policies have the proxy ask; of the others nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callouts {
    /// The providers of `jwt` whose servers of keys fail, by name.
    pub failing_keys: BTreeSet<String>,
}

impl Callouts {
    /// Whether this server of keys of a policy fails.
    pub(crate) fn fails(&self, document: &Document, key_set: &str) -> bool {
        let documents = [Some(document), document.baseline.as_deref(), document.shadow.as_deref()];
        documents
            .into_iter()
            .flatten()
            .filter_map(|document| document.jwt.as_ref())
            .flat_map(|jwt| &jwt.providers)
            .any(|provider| provider.key_set == key_set && self.failing_keys.contains(&provider.name))
    }
}
