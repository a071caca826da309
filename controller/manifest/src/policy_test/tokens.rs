//! Keys and tokens of test files, and where requests hold tokens.

use serde_json::{Map, Value as Json};

use super::{Reader, text};
use crate::{
    near,
    place::{Place, Position, field},
    tree::{Entry, Node, Value},
};

/// A key that signs tokens of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it stands.
    pub place: Place,
    /// Its name, one of its file.
    pub name: String,
    /// The algorithm that it signs by, of those that the reader was told.
    pub alg: String,
    /// The provider whose key set its public half replaces; none for a key that nobody trusts.
    pub serves_provider: Option<String>,
}

/// A token of a test.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Where it stands.
    pub place: Place,
    /// The name by which requests hold it, `${NAME}`.
    pub name: String,
    /// The key that signs it, one of its file.
    pub key: String,
    /// The claims, as they are written.
    pub claims: Map<String, Json>,
}

/// Writes tokens in the place of their names, `${alice}`; `$${` stands for `${`.
///
/// # Errors
///
/// What is not the name of a token.
pub fn put(text: &str, token: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut parts = text.split("${");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if written.ends_with('$') {
            written.push('{');
            written.push_str(part);
            continue;
        }
        let (name, rest) = part.split_once('}').ok_or("a ${ has no }")?;
        written.push_str(&token(name).ok_or_else(|| format!("no token is called {name:?}"))?);
        written.push_str(rest);
    }
    Ok(written)
}

impl Reader<'_> {
    pub(super) fn keys(&mut self, file: &str, root: &Node, json: &Json) -> Vec<Key> {
        let mut keys = Vec::new();
        for (entry, name, value) in each(root, json, "keys") {
            let path = field("keys", name);
            let alg = text(value, "alg").unwrap_or_default();
            if !self.vocabulary.algorithms.contains(&alg.as_str()) {
                let position = position_of(entry, "alg");
                let fix = near::nearest(&alg, self.vocabulary.algorithms.iter().copied()).map_or_else(
                    || "write one such as \"ES256\", \"RS256\" or \"EdDSA\"".to_owned(),
                    |meant| format!("write {meant:?}"),
                );
                let message = format!("{alg:?} is not an algorithm that tokens are signed by");
                self.fault(position, "unknown-value", &field(&path, "alg"), message, fix);
            }
            keys.push(Key {
                place: entry.position.in_file(file),
                name: name.to_owned(),
                alg,
                serves_provider: text(value, "servesProvider"),
            });
        }
        keys
    }

    pub(super) fn tokens(&mut self, file: &str, root: &Node, json: &Json, keys: &[Key]) -> Vec<Token> {
        let mut tokens = Vec::new();
        for (entry, name, value) in each(root, json, "tokens") {
            let path = field("tokens", name);
            let key = text(value, "key").unwrap_or_default();
            if !keys.iter().any(|known| known.name == key) {
                let names = keys.iter().map(|key| key.name.as_str());
                let fix = near::nearest(&key, names)
                    .map_or_else(|| "name one of keys".to_owned(), |meant| format!("write {meant:?}"));
                let position = position_of(entry, "key");
                let message = format!("no key is called {key:?}");
                self.fault(position, "unknown-value", &field(&path, "key"), message, fix);
            }
            if name.contains(['{', '}']) {
                let message = "the name of a token has no braces".to_owned();
                let fix = "give it another name".to_owned();
                self.fault(entry.position, "invalid-name", &path, message, fix);
            }
            tokens.push(Token {
                place: entry.position.in_file(file),
                name: name.to_owned(),
                key,
                claims: value
                    .get("claims")
                    .and_then(Json::as_object)
                    .cloned()
                    .unwrap_or_default(),
            });
        }
        self.tokens = tokens.iter().map(|token| token.name.clone()).collect();
        tokens
    }

    /// Notes what a part of a request names and no token is called.
    pub(super) fn mentions(&mut self, position: Position, path: &str, text: &str) {
        let known = |name: &str| self.tokens.iter().any(|token| token == name).then(String::new);
        if let Err(message) = put(text, known) {
            let fix = "name one of tokens, or write $${ for these characters themselves".to_owned();
            self.fault(position, "unknown-value", path, message, fix);
        }
    }
}

/// The entries of a map that is a field of the file, as they stand and as they are read.
fn each<'a>(root: &'a Node, json: &'a Json, name: &str) -> impl Iterator<Item = (&'a Entry, &'a str, &'a Json)> {
    let entries = match root.get(name).map(|node| &node.value) {
        Some(Value::Mapping(entries)) => entries.as_slice(),
        _ => &[],
    };
    let values = json.get(name).and_then(Json::as_object);
    entries
        .iter()
        .filter_map(move |entry| Some((entry, entry.key.as_str(), values?.get(&entry.key)?)))
}

/// Where a field of an entry stands, or the entry.
fn position_of(entry: &Entry, name: &str) -> Position {
    let inner = entry.node.entry(name);
    inner.map_or(entry.position, |inner| inner.node.position_under(inner.position))
}

#[cfg(test)]
mod tests {
    use super::put;

    #[test]
    fn tokens_stand_for_their_names() {
        let token = |name: &str| (name == "alice").then(|| "TOKEN".to_owned());
        for (text, expected) in [
            ("Bearer ${alice}", Ok("Bearer TOKEN")),
            ("/?a=${alice}&b=${alice}", Ok("/?a=TOKEN&b=TOKEN")),
            ("$${jndi:x}", Ok("${jndi:x}")),
            ("$alice {alice}", Ok("$alice {alice}")),
            ("", Ok("")),
            ("${bob}", Err("no token is called \"bob\"")),
            ("${alice", Err("a ${ has no }")),
        ] {
            let put = put(text, token);
            assert_eq!(put.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
