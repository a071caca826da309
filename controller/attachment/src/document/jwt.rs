//! `spec.jwt`, and what an AccessPolicy asks of tokens beyond it.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_api::{
    access_policy::TokenRequirement,
    security_policy::{Jwt, JwtExtractor, JwtProvider},
};
use portcullis_engine::{
    document::{self, ClaimToHeader, Document, JwtHeader, JwtSources, KeySet, Secrets},
    policy::{Policy, PolicyError},
};

use super::{
    Builder,
    duration::seconds,
    names::{is_issuer, is_qualified_name},
    salted,
};
use crate::{
    fault::{Fault, Feature},
    finding,
    key_server::KeyServer,
};

/// The fields of a provider that are written under `tokenRequirements`.
const REQUIRED: [&str; 3] = ["algorithms", "clockSkew", "maxLifetime"];

/// A provider as the document has it, and where it is written.
struct Provider {
    /// Its place among `providers`.
    index: usize,
    /// Whether something is wrong with it already.
    faulty: bool,
    document: document::JwtProvider,
    keys: Keys,
}

/// Where a provider's keys come from.
enum Keys {
    /// The policy, by the field under `localJWKS` that is or names them.
    Local(&'static str, KeySet),
    /// A server.
    Remote(Arc<KeyServer>),
}

impl Builder<'_> {
    pub(super) fn jwt(&mut self, jwt: &Jwt, requirements: &[TokenRequirement]) {
        let before = self.build.faults.len();
        let mut providers = Vec::with_capacity(jwt.providers.len());
        for (index, provider) in jwt.providers.iter().enumerate() {
            providers.extend(self.provider(jwt, index, provider));
        }
        let asked = self.requirements(jwt, requirements, &mut providers);
        let (part, key_sets) = parts(jwt, providers.iter());
        let faultless = self.build.faults.len() == before;
        if faultless && self.refusal_of(part.clone(), key_sets.clone()).is_none() {
            self.build.document.jwt = Some(part);
            self.build.secrets.key_sets = key_sets;
            self.build.key_servers = providers.iter().filter_map(Provider::server).cloned().collect();
            return;
        }
        // One provider at a time, so that the author learns of every provider's fault at once.
        for provider in providers.iter().filter(|provider| !provider.faulty) {
            let (alone, key_sets) = parts(&Jwt::default(), std::iter::once(provider));
            if let Some(error) = self.refusal_of(alone, key_sets) {
                let requirement = asked.get(provider.document.name.as_str()).copied();
                let path = place(&error, provider, requirement);
                self.refused(Feature::Jwt, error, path);
            }
        }
        if self.build.faults.len() == before
            && let Some(error) = self.refusal_of(part, key_sets)
        {
            let path = format!("spec.{}", error.path);
            self.refused(Feature::Jwt, error, path);
        }
    }

    /// Reads a provider, as far as its key set is known.
    fn provider(&mut self, jwt: &Jwt, index: usize, provider: &JwtProvider) -> Option<Provider> {
        let before = self.build.faults.len();
        let path = format!("spec.jwt.providers[{index}]");
        self.names(&path, provider);
        let mut earlier = jwt.providers.iter().take(index);
        if earlier.any(|earlier| earlier.name == provider.name) {
            let message = format!("provider {:?} is listed twice", provider.name);
            let fix = "remove one of the two, or give it another name";
            self.token_fault(&format!("{path}.name"), "duplicate-provider", message, fix);
        }
        let keys = match (&provider.remote_jwks, &provider.local_jwks) {
            (Some(_), Some(_)) => {
                // The schema says so; only a merge brings both together.
                let message = "remoteJWKS and localJWKS cannot both be specified".to_owned();
                self.token_fault(&path, "invalid-combination", message, "keep one of the two");
                return None;
            }
            (Some(remote), None) => Keys::Remote(self.key_server(&path, remote)?),
            (None, _) => {
                let (keys_in, jwks) = self.key_set(&path, provider)?;
                let id = provider.name.clone();
                Keys::Local(keys_in, KeySet { id, jwks })
            }
        };
        let mut document = document_of(provider);
        if let Keys::Remote(server) = &keys {
            document.key_set.clone_from(&server.id);
        }
        Some(Provider {
            index,
            faulty: self.build.faults.len() != before,
            document,
            keys,
        })
    }

    /// Adds what an AccessPolicy asks of tokens to their providers; returns where that stands by the provider's name.
    fn requirements<'r>(
        &mut self,
        jwt: &Jwt,
        requirements: &'r [TokenRequirement],
        providers: &mut [Provider],
    ) -> BTreeMap<&'r str, usize> {
        let mut asked = BTreeMap::new();
        for (index, requirement) in requirements.iter().enumerate() {
            let path = format!("spec.tokenRequirements[{index}]");
            let name = requirement.provider.as_str();
            if asked.insert(name, index).is_some() {
                let message = format!("provider {name:?} is named twice");
                let fix = "remove one of the two";
                self.token_fault(&format!("{path}.provider"), "duplicate-entry", message, fix);
            }
            let known: Vec<&str> = jwt.providers.iter().map(|provider| provider.name.as_str()).collect();
            // A parent's requirement may be of a provider that the child replaced.
            let stale = self.owners.tokens != self.author && self.owners.jwt == self.author;
            if !stale && !known.contains(&name) {
                let message = format!("there is no provider {name:?}");
                // Whom a parent trusts is not told.
                let fix = (self.owners.jwt == self.author)
                    .then(|| finding::one_of(&known))
                    .flatten();
                let fix = fix.as_deref().unwrap_or("name a provider, or remove the entry");
                self.token_fault(&format!("{path}.provider"), "unknown-provider", message, fix);
            }
            let max_lifetime = self.duration(&format!("{path}.maxLifetime"), requirement.max_lifetime.as_deref());
            let clock_skew = self.duration(&format!("{path}.clockSkew"), requirement.clock_skew.as_deref());
            if let Some(provider) = providers.iter_mut().find(|provider| provider.document.name == name) {
                let document = &mut provider.document;
                document.require_expiration = requirement.require_expiration.unwrap_or_default();
                document.max_lifetime = max_lifetime;
                document.clock_skew = clock_skew;
                document.algorithms.clone_from(&requirement.algorithms);
                document.strip_token = requirement.strip_token.unwrap_or_default();
            }
        }
        asked
    }

    fn duration(&mut self, path: &str, written: Option<&str>) -> Option<u64> {
        let written = written?;
        let read = seconds(written);
        if read.is_none() {
            let message = format!("{written:?} is not a duration");
            self.token_fault(path, "invalid-duration", message, "write \"5m\" or \"1h30m\"");
        }
        read
    }

    /// Why the proxy would refuse these providers, if it would.
    fn refusal_of(&self, jwt: document::Jwt, key_sets: Vec<KeySet>) -> Option<PolicyError> {
        let alone = Document {
            jwt: Some(jwt),
            ..Document::default()
        };
        let secrets = Secrets { key_sets, ..salted() };
        Policy::compile(&self.labelled(&alone), &secrets).err()
    }

    /// What Envoy Gateway asks of a provider's names beyond its schema.
    fn names(&mut self, path: &str, provider: &JwtProvider) {
        let JwtProvider { name, issuer, .. } = provider;
        if !is_qualified_name(name) {
            let message = format!("{name:?} is not a qualified name");
            let fix = "write letters, digits, -, _ and ., as in \"corp\" or \"example.com/corp\"";
            self.token_fault(&format!("{path}.name"), "invalid-provider-name", message, fix);
        }
        if !(issuer.is_empty() || is_issuer(issuer)) {
            let message = format!("{issuer:?} is not an issuer");
            let fix = "write what tokens have as iss: a URI, an e-mail address, or a name without \":\" and \"@\"";
            self.token_fault(&format!("{path}.issuer"), "invalid-issuer", message, fix);
        }
    }

    pub(super) fn token_fault(&mut self, path: &str, code: &'static str, message: String, fix: &str) {
        self.fault(Fault {
            feature: Feature::Jwt,
            code,
            path: path.to_owned(),
            condition: format!("{message} ({path})"),
            message,
            fix: Some(fix.to_owned()),
        });
    }
}

impl Provider {
    fn server(&self) -> Option<&Arc<KeyServer>> {
        match &self.keys {
            Keys::Local(..) => None,
            Keys::Remote(server) => Some(server),
        }
    }
}

/// The providers with their key sets.
fn parts<'p>(jwt: &Jwt, providers: impl Iterator<Item = &'p Provider> + Clone) -> (document::Jwt, Vec<KeySet>) {
    let servers: BTreeMap<&str, &Arc<KeyServer>> = providers
        .clone()
        .filter_map(Provider::server)
        .map(|server| (server.id.as_str(), server))
        .collect();
    let part = document::Jwt {
        optional: jwt.optional.unwrap_or_default(),
        fail_open: jwt.fail_open.unwrap_or_default(),
        providers: providers.clone().map(|provider| provider.document.clone()).collect(),
        remote_key_sets: servers.into_values().map(|server| server.key_set()).collect(),
    };
    let key_sets = providers.filter_map(|provider| match &provider.keys {
        Keys::Local(_, key_set) => Some(key_set.clone()),
        Keys::Remote(_) => None,
    });
    (part, key_sets.collect())
}

/// Where the author wrote what an error of the only provider of a document is about.
fn place(error: &PolicyError, provider: &Provider, requirement: Option<usize>) -> String {
    let Some(field) = error.path.strip_prefix("jwt.providers[0].") else {
        return format!("spec.{}", error.path);
    };
    let required = REQUIRED.iter().any(|required| field.starts_with(required));
    let Provider { index, keys, .. } = provider;
    match (requirement, keys) {
        (Some(requirement), _) if required => format!("spec.tokenRequirements[{requirement}].{field}"),
        (_, Keys::Local(keys_in, _)) if field == "localJWKS" => {
            format!("spec.jwt.providers[{index}].localJWKS.{keys_in}")
        }
        _ => format!("spec.jwt.providers[{index}].{field}"),
    }
}

fn document_of(provider: &JwtProvider) -> document::JwtProvider {
    document::JwtProvider {
        name: provider.name.clone(),
        issuer: Some(provider.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        audiences: provider.audiences.clone(),
        key_set: provider.name.clone(),
        extract_from: provider.extract_from.as_ref().map(sources),
        claim_to_headers: provider
            .claim_to_headers
            .iter()
            .map(|entry| ClaimToHeader {
                header: entry.header.clone(),
                claim: entry.claim.clone(),
            })
            .collect(),
        recompute_route: provider.recompute_route.unwrap_or_default(),
        ..document::JwtProvider::default()
    }
}

fn sources(written: &JwtExtractor) -> JwtSources {
    JwtSources {
        headers: written
            .headers
            .iter()
            .map(|header| JwtHeader {
                name: header.name.clone(),
                value_prefix: header.value_prefix.clone(),
            })
            .collect(),
        cookies: written.cookies.clone(),
        params: written.params.clone(),
    }
}
