//! Servers of keys (`SecurityPolicy.spec.jwt.providers[].remoteJWKS`), by everything that decides whose keys they are.

use sha2::{Digest, Sha256};

use crate::object::ObjectRef;

/// A server of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyServer {
    /// What tells it from every other one, `RemoteKeySet.id`: a hash of the URI and of the backend, namespace included. An issuer's
    /// name is no part of it: whoever names an issuer need not be who another tenant means by it.
    pub id: String,
    /// A policy that names it.
    pub policy: ObjectRef,
    /// Where in that policy.
    pub field: String,
    /// Whether the URI's scheme is `https`.
    pub encrypted: bool,
    /// The host of the URI, without brackets.
    pub host: String,
    /// The port of the URI, or its scheme's.
    pub port: u16,
    /// Host and port as the URI has them.
    pub authority: String,
    /// Path and query of the URI.
    pub path: String,
    /// Where it is reached, if not at the host of the URI (`remoteJWKS.backendRefs`).
    pub backend: Option<Backend>,
    /// After how long keys are fetched anew, in seconds.
    pub interval: u64,
    /// After how long a failed fetch is repeated, in seconds.
    pub retry_interval: u64,
    /// How long a fetch may take, in milliseconds.
    pub timeout: u64,
}

/// A reference to a backend, its namespace told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The port, for a Service.
    pub port: Option<i32>,
}

/// The parts of an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) encrypted: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Address {
    /// Reads an absolute `http` or `https` URI (RFC 9110 §4.2); what it says of why it is none is for a person.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: http::Uri = text.parse().map_err(|_| "is not a URI")?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("is not an http or https URI"),
        };
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user's name");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("has no host");
        }
        // `Authority::port` is none for a port that is too large, which must not become the scheme's own.
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port: u16 = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| "has no port between 1 and 65535")?,
            None if encrypted => 443,
            None => 80,
        };
        if port == 0 {
            return Err("has no port between 1 and 65535");
        }
        Ok(Self {
            encrypted,
            host: host.to_ascii_lowercase(),
            port,
            authority: authority.as_str().to_ascii_lowercase(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

impl KeyServer {
    /// The name of its cluster in the proxy.
    #[must_use]
    pub fn cluster(&self) -> String {
        format!("keys/{}", self.id)
    }

    /// The identity of the server at that URI and backend.
    pub(crate) fn identity(uri: &str, backend: Option<&Backend>) -> String {
        let mut digest = Sha256::new();
        let port = backend.and_then(|backend| backend.port).map(|port| port.to_string());
        let backend = backend.map(|backend| [&backend.group, &backend.kind, &backend.namespace, &backend.name]);
        let parts = [uri].into_iter();
        let parts = parts.chain(backend.iter().flatten().map(|part| part.as_str()));
        for part in parts.chain(port.as_deref()) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_whole_or_not_at_all() {
        let address = Address::parse("https://IdP.example.com/realms/a/keys?x=1").unwrap();
        let expected = Address {
            encrypted: true,
            host: "idp.example.com".to_owned(),
            port: 443,
            authority: "idp.example.com".to_owned(),
            path: "/realms/a/keys?x=1".to_owned(),
        };
        assert_eq!(address, expected);
        let address = Address::parse("http://[2001:db8::1]:8080").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("2001:db8::1", 8080));
        assert_eq!(
            (address.authority.as_str(), address.path.as_str()),
            ("[2001:db8::1]:8080", "/")
        );
        for text in [
            "/jwks",
            "idp.example.com/jwks",
            "ftp://idp.example.com/jwks",
            "https://root@idp.example.com/jwks",
            "https://idp.example.com:0/jwks",
            "https://idp.example.com:99999/jwks",
            "https://idp example.com/jwks",
            "https:///jwks",
            "",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn whoever_answers_elsewhere_is_somebody_else() {
        let backend = |namespace: &str| Backend {
            group: String::new(),
            kind: "Service".to_owned(),
            namespace: namespace.to_owned(),
            name: "idp".to_owned(),
            port: Some(443),
        };
        let uri = "https://idp.example.com/keys";
        let ids = [
            KeyServer::identity(uri, None),
            KeyServer::identity("https://idp.example.com/key", None),
            KeyServer::identity(uri, Some(&backend("a"))),
            KeyServer::identity(uri, Some(&backend("b"))),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[index + 1..].contains(id), "{id}");
        }
    }
}
