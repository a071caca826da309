//! Where a provider's key set is written (`spec.jwt.providers[].localJWKS`).

use portcullis_api::security_policy::{JwtProvider, LocalJwksType};

use super::Builder;
use crate::reference::Unresolved;

/// The entry of a ConfigMap that is the key set, as in Envoy Gateway.
const KEY: &str = "jwks";
/// The fields under `localJWKS` for a key set that stands there, and for one that stands elsewhere.
const INLINE: &str = "inline";
const VALUE_REF: &str = "valueRef";

impl Builder<'_> {
    /// The key set of a provider as JSON, with the field under `localJWKS` that leads to it.
    pub(super) fn key_set(&mut self, path: &str, provider: &JwtProvider) -> Option<(&'static str, String)> {
        let Some(local) = &provider.local_jwks else {
            let message = "either remoteJWKS or localJWKS must be specified".to_owned();
            let fix = "write remoteJWKS with the address of the issuer's key set";
            self.token_fault(path, "no-key-set", message, fix);
            return None;
        };
        let path = format!("{path}.localJWKS");
        match (local.r#type, &local.inline, &local.value_ref) {
            (LocalJwksType::Inline, Some(inline), None) => Some((INLINE, inline.clone())),
            (LocalJwksType::ValueRef, None, Some(reference)) => {
                let path = format!("{path}.{VALUE_REF}");
                if !reference.group.is_empty() || reference.kind != "ConfigMap" {
                    let message = format!("unsupported reference to {} {:?}", reference.kind, reference.group);
                    let fix = "refer to a ConfigMap of the core group";
                    self.token_fault(&path, "unsupported-reference", message, fix);
                    return None;
                }
                let jwks = self.key_set_of_config_map(&path, &reference.name)?;
                Some((VALUE_REF, jwks))
            }
            _ => {
                // The schema says so; only a merge brings both together.
                let message = "exactly one of inline or valueRef must be set with correct type".to_owned();
                let fix = "write type: Inline with inline, or type: ValueRef with valueRef";
                self.token_fault(&path, "invalid-combination", message, fix);
                None
            }
        }
    }

    /// The entry `jwks`, or the only one there is: which of several Envoy Gateway takes is left to chance.
    fn key_set_of_config_map(&mut self, path: &str, name: &str) -> Option<String> {
        let namespace = self.owners.jwt.namespace;
        let map = match self.references.config_map(namespace, name) {
            Ok(map) => map,
            Err(Unresolved { code, message, fix }) => {
                self.token_fault(path, code, message, &fix);
                return None;
            }
        };
        let data = map.data.iter().flatten();
        let named = data.clone().find(|(key, _)| *key == KEY);
        let entry = match (named, data.clone().count()) {
            (Some(entry), _) => Some(entry),
            (None, 1) => data.clone().next(),
            (None, _) => None,
        };
        let Some((_, jwks)) = entry else {
            let message = match data.count() {
                0 => format!("ConfigMap {namespace}/{name} has no data"),
                entries => format!("ConfigMap {namespace}/{name} has {entries} entries, and none of them is {KEY:?}"),
            };
            let fix = format!("name the entry with the key set {KEY:?}");
            self.token_fault(path, "no-key-set", message, &fix);
            return None;
        };
        Some(jwks.clone())
    }
}
