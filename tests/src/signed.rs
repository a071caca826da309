//! Tokens of PolicyTests, for an Envoy whose clock is the real one.

use std::collections::BTreeMap;

use portcullis_engine::jwt::{algorithm::Algorithm, signing::TestKey};
use serde_json::{Value, json};

use crate::clock;

/// A key for each name and algorithm, no two alike.
///
/// # Panics
/// If an algorithm is unknown, or there are too many of RSA.
#[must_use]
pub fn made<const N: usize>(wanted: [(&str, &str); N]) -> [TestKey; N] {
    let wanted = wanted.map(|(name, alg)| (name, Algorithm::parse(alg).expect("an algorithm")));
    let made = TestKey::of_each(wanted).expect("keys");
    made.try_into().unwrap_or_else(|_| panic!("{N} keys"))
}

/// The keys of a PolicyTest by name, each with the provider that it serves.
fn keys(test: &Value) -> BTreeMap<&str, (TestKey, Option<&str>)> {
    let entries: Vec<(&String, &Value)> = test["keys"].as_object().into_iter().flatten().collect();
    let wanted = entries.iter().map(|(name, key)| {
        let alg = key["alg"].as_str().expect("an algorithm");
        (name.as_str(), Algorithm::parse(alg).expect("an algorithm's name"))
    });
    let made = TestKey::of_each(wanted).expect("keys");
    let entries = entries.into_iter().zip(made);
    let named = entries.map(|((name, key), made)| (name.as_str(), (made, key["servesProvider"].as_str())));
    named.collect()
}

/// The tokens of a PolicyTest by name, as they would be signed now.
///
/// # Panics
/// If the file is none.
#[must_use]
pub fn tokens(test: &Value) -> BTreeMap<String, String> {
    let keys = keys(test);
    let now = clock::seconds();
    let tokens = test["tokens"].as_object().into_iter().flatten();
    let signed = tokens.map(|(name, token)| {
        let (key, _) = &keys[token["key"].as_str().expect("a key's name")];
        let claims = token["claims"].as_object().cloned().unwrap_or_default();
        (name.clone(), key.token(&claims, now).expect("claims"))
    });
    signed.collect()
}

/// Writes tokens in the place of their names.
#[must_use]
pub fn put(text: &str, tokens: &BTreeMap<String, String>) -> String {
    let put = |text: String, (name, token): (&String, &String)| text.replace(&format!("${{{name}}}"), token);
    tokens.iter().fold(text.to_owned(), put)
}

/// A file of manifests in which the keys of these tests serve their providers, as in `portcullis test`.
#[must_use]
pub fn served(manifests: &str, tests: &[Value]) -> String {
    let mut sets: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (key, provider) in tests.iter().flat_map(|test| keys(test).into_values()) {
        if let Some(provider) = provider {
            sets.entry(provider).or_default().push(key.public());
        }
    }
    let objects = manifests.split("\n---\n").map(|text| {
        let mut object: Value = serde_saphyr::from_str(text).unwrap_or_default();
        let providers = object.pointer_mut("/spec/jwt/providers").and_then(Value::as_array_mut);
        let mut replaced = false;
        for provider in providers.into_iter().flatten() {
            if let Some(set) = provider["name"].as_str().and_then(|name| sets.get(name)) {
                replaced = true;
                provider["localJWKS"] = json!({"type": "Inline", "inline": json!({"keys": set}).to_string()});
                provider.as_object_mut().map(|provider| provider.remove("remoteJWKS"));
            }
        }
        if replaced { object.to_string() } else { text.to_owned() }
    });
    objects.collect::<Vec<_>>().join("\n---\n")
}
