//! What the servers answer that policies have a proxy ask.

use serde_json::Value as Json;

use super::{Key, Reader};
use crate::{
    place::{Place, field},
    tree::{Node, Value},
};

/// A server of keys that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// Where it stands.
    pub place: Place,
    /// The provider of `jwt` that has its keys from there.
    pub provider: String,
}

impl Reader<'_> {
    pub(super) fn callouts(&mut self, file: &str, root: &Node, json: &Json, keys: &[Key]) -> Vec<Callout> {
        let servers = root.get("callouts").and_then(|callouts| callouts.get("remoteJWKS"));
        let entries = match servers.map(|node| &node.value) {
            Some(Value::Mapping(entries)) => entries.as_slice(),
            _ => &[],
        };
        let mut callouts = Vec::new();
        for entry in entries {
            let provider = &entry.key;
            let path = field("callouts.remoteJWKS", provider);
            let status = json
                .pointer("/callouts/remoteJWKS")
                .and_then(|all| all.get(provider)?.get("status"));
            let served = keys.iter().any(|key| key.serves_provider.as_ref() == Some(provider));
            let fix = format!("write keys with servesProvider: {provider} for a server that answers");
            if status.and_then(Json::as_u64) == Some(200) {
                let message = "does not say which keys the server answers with".to_owned();
                self.fault(entry.position, "invalid-combination", &path, message, fix);
            } else if served {
                let message = format!("fails, and keys serve the provider {provider:?} too");
                let fix = "remove one of the two".to_owned();
                self.fault(entry.position, "invalid-combination", &path, message, fix);
            }
            callouts.push(Callout {
                place: entry.position.in_file(file),
                provider: provider.clone(),
            });
        }
        callouts
    }
}
