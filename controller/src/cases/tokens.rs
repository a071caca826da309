//! Keys and tokens of a test: whom the keys serve, and requests that hold the tokens.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_api::security_policy::{Jwt, LocalJwks, LocalJwksType};
use portcullis_attachment::snapshot::Snapshot;
use portcullis_engine::jwt::{algorithm::Algorithm, signing::TestKey};
use portcullis_manifest::{
    nearest,
    policy_test::{Callout, Key, PolicyTest, put},
};
use serde_json::{Value, json};

use crate::failure::Failure;

const NANOSECONDS: u64 = 1_000_000_000;

/// The name, the algorithm and the provider of a key.
pub(super) type Serves = (String, String, Option<String>);

/// The keys of a test.
pub(super) struct Keys(Vec<(Key, TestKey)>);

/// The tokens of a test, by name.
pub(super) struct Tokens(BTreeMap<String, String>);

impl Keys {
    /// Makes the keys that a test asks for.
    pub(super) fn new(test: &PolicyTest) -> Result<Self, Failure> {
        let wanted = test
            .keys
            .iter()
            .filter_map(|key| Some((key.name.as_str(), Algorithm::parse(&key.alg)?)));
        let made = TestKey::of_each(wanted).map_err(|error| {
            Failure::new(
                format!("{}: keys: {error}", test.file),
                "take ES256, or divide the cases into two files",
            )
        })?;
        Ok(Self(test.keys.iter().cloned().zip(made).collect()))
    }

    /// Whom they serve: tests for which this is the same, and the manifests, get the same answers.
    pub(super) fn serve(&self) -> Vec<Serves> {
        let keys = self.0.iter();
        keys.map(|(key, _)| (key.name.clone(), key.alg.clone(), key.serves_provider.clone()))
            .collect()
    }

    /// Puts their public halves in the place of the key sets of their providers, wherever these stand.
    ///
    /// # Errors
    ///
    /// A key serves a provider that no policy has.
    pub(super) fn put_into(&self, snapshot: &mut Snapshot) -> Result<(), Failure> {
        let mut sets: BTreeMap<&str, (Vec<Value>, bool)> = BTreeMap::new();
        for (key, made) in &self.0 {
            if let Some(provider) = &key.serves_provider {
                sets.entry(provider).or_default().0.push(made.public());
            }
        }
        if sets.is_empty() {
            return Ok(());
        }
        let mut names: Vec<String> = Vec::new();
        let mut replace = |jwt: &mut Jwt| {
            for provider in &mut jwt.providers {
                names.push(provider.name.clone());
                if let Some((keys, found)) = sets.get_mut(provider.name.as_str()) {
                    *found = true;
                    provider.remote_jwks = None;
                    provider.local_jwks = Some(LocalJwks {
                        r#type: LocalJwksType::Inline,
                        inline: Some(json!({ "keys": keys }).to_string()),
                        value_ref: None,
                    });
                }
            }
        };
        for policy in &mut snapshot.security_policies {
            if policy.spec.jwt.is_some() {
                Arc::make_mut(policy).spec.jwt.as_mut().map(&mut replace);
            }
        }
        for policy in &mut snapshot.access_policies {
            if policy.spec.policy.jwt.is_some() {
                Arc::make_mut(policy).spec.policy.jwt.as_mut().map(&mut replace);
            }
        }
        let lost = |key: &&Key| {
            let provider = key.serves_provider.as_deref();
            provider.is_some_and(|provider| sets.get(provider).is_some_and(|(_, found)| !found))
        };
        let Some(key) = self.0.iter().map(|(key, _)| key).find(lost) else {
            return Ok(());
        };
        let provider = key.serves_provider.as_deref().unwrap_or_default();
        let fix = nearest(provider, names.iter().map(String::as_str)).map_or_else(
            || "name a provider of the manifests' jwt".to_owned(),
            |meant| format!("write {meant:?}"),
        );
        let (file, line) = (&key.place.file, key.place.line);
        Err(Failure::new(
            format!(
                "{file}:{line}: keys.{}.servesProvider: no policy has a provider {provider:?}",
                key.name
            ),
            fix,
        ))
    }

    /// Signs the tokens of the test, `now` in nanoseconds since 1970.
    pub(super) fn tokens(&self, test: &PolicyTest, now: u64) -> Result<Tokens, Failure> {
        let mut tokens = BTreeMap::new();
        for token in &test.tokens {
            let Some((_, key)) = self.0.iter().find(|(key, _)| key.name == token.key) else {
                continue;
            };
            let signed = key.token(&token.claims, now / NANOSECONDS).map_err(|error| {
                let (file, line) = (&token.place.file, token.place.line);
                Failure::new(
                    format!("{file}:{line}: tokens.{}.claims.{error}", token.name),
                    "times are seconds since 1970, or from now",
                )
            })?;
            tokens.insert(token.name.clone(), signed);
        }
        Ok(Tokens(tokens))
    }
}

/// Finds out whether the proxy asks each of these servers.
///
/// # Errors
///
/// No policy has a provider of that name with keys from a server.
pub(super) fn are_asked(callouts: &[Callout], snapshot: &Snapshot) -> Result<(), Failure> {
    let security = snapshot.security_policies.iter().map(|policy| &policy.spec.jwt);
    let access = snapshot.access_policies.iter().map(|policy| &policy.spec.policy.jwt);
    let providers = security.chain(access).flatten().flat_map(|jwt| &jwt.providers);
    let remote = providers.filter(|provider| provider.remote_jwks.is_some());
    let names: Vec<&str> = remote.map(|provider| provider.name.as_str()).collect();
    let Some(lost) = callouts
        .iter()
        .find(|callout| !names.contains(&callout.provider.as_str()))
    else {
        return Ok(());
    };
    let fix = nearest(&lost.provider, names.iter().copied()).map_or_else(
        || "name a provider of the manifests with remoteJWKS".to_owned(),
        |meant| format!("write {meant:?}"),
    );
    let (file, line) = (&lost.place.file, lost.place.line);
    Err(Failure::new(
        format!(
            "{file}:{line}: callouts.remoteJWKS: no policy has a provider {:?} with remoteJWKS",
            lost.provider
        ),
        fix,
    ))
}

impl Tokens {
    /// Writes them in the place of their names.
    pub(super) fn put(&self, text: &str) -> Result<String, String> {
        put(text, |name| self.0.get(name).cloned())
    }
}
