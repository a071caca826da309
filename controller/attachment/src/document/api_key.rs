//! `spec.apiKeyAuth`.

use std::collections::{BTreeMap, HashMap};

use portcullis_api::security_policy::ApiKeyAuth;
use portcullis_engine::{
    document::{ApiClient, ApiKey, Document, KeySource, Secrets},
    policy::Policy,
};
use sha2::{Digest, Sha256};

use super::{Builder, hex, salted};
use crate::{
    fault::{Fault, Feature, Notice},
    object,
    reference::entries,
};

impl Builder<'_> {
    pub(super) fn api_key(&mut self, auth: &ApiKeyAuth) {
        let before = self.build.faults.len();
        let mut extract_from = Vec::new();
        let mut places = Vec::new();
        for (index, entry) in auth.extract_from.iter().enumerate() {
            let kinds = [&entry.headers, &entry.params, &entry.cookies];
            if kinds.iter().filter(|names| !names.is_empty()).count() != 1 {
                self.fault(Fault {
                    feature: Feature::Whole,
                    code: "invalid-key-source",
                    path: format!("spec.apiKeyAuth.extractFrom[{index}]"),
                    message: "exactly one of headers, params, or cookies must be specified".to_owned(),
                    fix: Some("write one entry for each kind".to_owned()),
                    condition: "Invalid SecurityPolicy: only one of headers, params or cookies must be specified"
                        .to_owned(),
                });
            }
            let headers = entry.headers.iter().cloned().map(KeySource::Header);
            let params = entry.params.iter().cloned().map(KeySource::Param);
            let cookies = entry.cookies.iter().cloned().map(KeySource::Cookie);
            extract_from.extend(headers.chain(params).chain(cookies));
            for (kind, names) in ["headers", "params", "cookies"].into_iter().zip(kinds) {
                let path = format!("spec.apiKeyAuth.extractFrom[{index}].{kind}");
                places.extend((0..names.len()).map(|at| format!("{path}[{at}]")));
            }
        }
        let clients = self.clients(auth);
        if self.build.faults.len() != before {
            return;
        }
        let part = ApiKey {
            extract_from,
            forward_client_id_header: auth.forward_client_id_header.clone(),
            sanitize: auth.sanitize.unwrap_or_default(),
        };
        let alone = Document {
            api_key: Some(part.clone()),
            ..Document::default()
        };
        let secrets = Secrets {
            api_keys: clients,
            ..salted()
        };
        // A document's sources are one list: find which of the policy's is at fault.
        let place = |path: String| {
            let faulty = part.extract_from.iter().position(|source| {
                let single = ApiKey {
                    extract_from: vec![source.clone()],
                    forward_client_id_header: None,
                    sanitize: false,
                };
                let single = Document {
                    api_key: Some(single),
                    ..alone.clone()
                };
                Policy::compile(&self.labelled(&single), &salted()).is_err()
            });
            let faulty = faulty.filter(|_| path == "spec.apiKeyAuth.extractFrom");
            faulty.and_then(|index| places.get(index)).cloned().unwrap_or(path)
        };
        if let Err(error) = Policy::compile(&self.labelled(&alone), &secrets) {
            let path = place(format!("spec.{}", error.path));
            self.refused(Feature::ApiKeyAuth, error, path);
        } else {
            self.build.document.api_key = Some(part);
            self.build.secrets.api_keys = secrets.api_keys;
        }
    }

    /// The clients of all credential Secrets by id; the first Secret that holds an id wins.
    fn clients(&mut self, auth: &ApiKeyAuth) -> Vec<ApiClient> {
        let mut clients: BTreeMap<String, String> = BTreeMap::new();
        let mut owners: HashMap<String, String> = HashMap::new();
        let owner = self.owners.api_key;
        for (index, reference) in auth.credential_refs.iter().enumerate() {
            let path = format!("spec.apiKeyAuth.credentialRefs[{index}]");
            let secret = match self.references.secret(owner.kind, owner.namespace, reference) {
                Ok(secret) => secret,
                Err(unresolved) => {
                    self.fault(Fault {
                        feature: Feature::ApiKeyAuth,
                        code: unresolved.code,
                        path,
                        condition: unresolved.message.clone(),
                        message: unresolved.message,
                        fix: Some(unresolved.fix),
                    });
                    continue;
                }
            };
            let at = format!(
                "{}/{}",
                object::namespace(&secret.metadata),
                object::name(&secret.metadata)
            );
            for (id, key) in entries(secret) {
                if clients.contains_key(id) {
                    continue;
                }
                if key.is_empty() {
                    self.fault(Fault {
                        feature: Feature::ApiKeyAuth,
                        code: "empty-api-key",
                        path: path.clone(),
                        message: format!("the key of client {id:?} in Secret {at} is empty"),
                        fix: Some("give it a value or remove the entry".to_owned()),
                        condition: format!("empty API key for client {id} in secret {at}"),
                    });
                    continue;
                }
                let digest = hex(&Sha256::digest(key));
                if let Some(other) = owners.get(&digest) {
                    let message = format!("clients {other:?} and {id:?} have the same key");
                    self.fault(Fault {
                        feature: Feature::ApiKeyAuth,
                        code: "duplicate-api-key",
                        path: path.clone(),
                        message,
                        fix: Some("give every client a key of its own".to_owned()),
                        condition: "duplicated API key".to_owned(),
                    });
                    continue;
                }
                owners.insert(digest.clone(), id.to_owned());
                clients.insert(id.to_owned(), digest);
            }
        }
        if clients.is_empty()
            && !self
                .build
                .faults
                .iter()
                .any(|fault| fault.feature == Feature::ApiKeyAuth)
        {
            self.build.notices.push(Notice {
                code: "no-api-key",
                path: "spec.apiKeyAuth.credentialRefs".to_owned(),
                message: "no Secret holds a key, so every request is refused".to_owned(),
                fix: "refer to a Secret whose entries are client ids with their keys".to_owned(),
                condition: None,
            });
        }
        clients
            .into_iter()
            .map(|(id, sha256)| ApiClient {
                id,
                sha256,
                not_after: None,
            })
            .collect()
    }
}
