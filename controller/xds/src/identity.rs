//! Who is at the other end of a connection in mutual TLS, as its certificate says (SPIFFE ID, section 2).

use std::fmt;

/// The trust domain of every identity. Controllers do not share authorities, so it tells none of them apart.
const TRUST_DOMAIN: &str = "portcullis";

/// The longest name of a namespace or an object (RFC 1123, section 2.1).
const MAX_NAME: usize = 253;

/// An end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// A controller.
    Controller,
    /// A proxy of a Gateway.
    Gateway {
        /// The Gateway's namespace.
        namespace: String,
        /// The Gateway's name.
        name: String,
    },
}

impl Identity {
    /// Returns the identity of the proxies whose `node.cluster` is `NAMESPACE/NAME`; `None` for what names no object.
    #[must_use]
    pub fn of_cluster(cluster: &str) -> Option<Self> {
        let (namespace, name) = cluster.split_once('/')?;
        (is_name(namespace) && is_name(name)).then(|| Self::Gateway {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Reads the identity that a certificate's URI spells, in exactly the form that [`fmt::Display`] writes.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<Self> {
        let path = uri.strip_prefix("spiffe://")?.strip_prefix(TRUST_DOMAIN)?;
        if path == "/controller" {
            return Some(Self::Controller);
        }
        let (namespace, name) = path.strip_prefix("/ns/")?.split_once("/gateway/")?;
        Self::of_cluster(&format!("{namespace}/{name}"))
    }
}

impl fmt::Display for Identity {
    /// Writes the SPIFFE ID.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => write!(formatter, "spiffe://{TRUST_DOMAIN}/controller"),
            Self::Gateway { namespace, name } => {
                write!(formatter, "spiffe://{TRUST_DOMAIN}/ns/{namespace}/gateway/{name}")
            }
        }
    }
}

/// Whether a text is a name of a Kubernetes object: nothing in it is anything but itself in a URI or a path.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=MAX_NAME).contains(&bytes.len())
        && bytes.iter().all(|byte| inner(*byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(|byte| inner(*byte))
        && bytes.last().is_some_and(|byte| inner(*byte))
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        for identity in [
            Identity::Controller,
            Identity::of_cluster("edge/public").expect("a Gateway"),
        ] {
            assert_eq!(Identity::of_uri(&identity.to_string()), Some(identity));
        }
        assert_eq!(
            Identity::of_cluster("edge/public")
                .map(|identity| identity.to_string())
                .as_deref(),
            Some("spiffe://portcullis/ns/edge/gateway/public")
        );
    }

    #[test]
    fn nothing_else_is_an_identity() {
        for uri in [
            "",
            "spiffe://portcullis",
            "spiffe://portcullis/",
            "spiffe://portcullis/controller/",
            "spiffe://portcullis.example.com/controller",
            "spiffe://other/ns/edge/gateway/public",
            "SPIFFE://portcullis/ns/edge/gateway/public",
            "https://portcullis/ns/edge/gateway/public",
            "spiffe://portcullis/ns/edge/gateway/public/",
            "spiffe://portcullis/ns/edge/gateway/public?x",
            "spiffe://portcullis/ns/edge/gateway/public#x",
            "spiffe://portcullis/ns//gateway/public",
            "spiffe://portcullis/ns/edge/gateway/",
            "spiffe://portcullis/ns/edge/gateway/a/gateway/b",
            "spiffe://portcullis/ns/edge/gateway/Public",
            "spiffe://portcullis/ns/edge/gateway/pub%6Cic",
            "spiffe://portcullis/ns/../gateway/public",
            "spiffe://portcullis/ns/edge/gateway/public\0",
        ] {
            assert_eq!(Identity::of_uri(uri), None, "{uri:?}");
        }
        for cluster in [
            "",
            "/",
            "edge",
            "edge/",
            "/public",
            "edge/public/x",
            "Edge/public",
            "e_dge/public",
        ] {
            assert_eq!(Identity::of_cluster(cluster), None, "{cluster:?}");
        }
    }
}
