//! The API server of a test's cluster, asked over one connection that is kept: kubectl takes longer to start than what is to be
//! measured, or repeated a thousand times.

use std::{
    fs,
    io::{self, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;

use crate::{cluster::Cluster, http};

/// As whom fields are applied.
const FIELD_MANAGER: &str = "test";

/// A connection to an API server as its administrator.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    stream: Option<Stream>,
}

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// What an API server said: the status, and an object or a Status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The body; null if it is empty.
    pub body: Value,
}

impl Answer {
    /// The object.
    ///
    /// # Panics
    /// If the request was refused.
    #[must_use]
    pub fn object(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        self.body
    }

    /// The object; nothing if it was another version by then (409).
    ///
    /// # Panics
    /// If the request was refused for another reason.
    #[must_use]
    pub fn unless_conflict(self) -> Option<Value> {
        (self.status != 409).then(|| self.object())
    }
}

impl Api {
    /// Connects when it is first asked.
    ///
    /// # Panics
    /// If the cluster's certificates cannot be read.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(&cluster.pki("ca.crt")))
            .expect("the cluster's authority is one");
        let key = cluster.pki("admin.key");
        let key =
            PrivateKeyDer::from_pem_slice(&read(&key)).unwrap_or_else(|error| panic!("{}: {error}", key.display()));
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate(&cluster.pki("admin.crt"))], key)
            .expect("a certificate and its key");
        let server = cluster.server();
        let address = server.trim_start_matches("https://");
        Self {
            address: address.parse().unwrap_or_else(|error| panic!("{server}: {error}")),
            config: Arc::new(config),
            stream: None,
        }
    }

    /// Asks for an object, or for a collection.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", None)
    }

    /// The objects of a collection.
    ///
    /// # Panics
    /// If they cannot be listed.
    pub fn list(&mut self, collection: &str) -> Vec<Value> {
        let mut list = self.get(collection).object();
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("{collection}: no items: {other}"),
        }
    }

    /// Creates an object; a field that the server does not know is an error.
    pub fn create(&mut self, object: &Value) -> Answer {
        let path = format!("{}?fieldValidation=Strict", collection(object));
        self.send("POST", &path, "application/json", Some(object))
    }

    /// Makes an object what it is here, by server-side apply; a field that the server does not know is an error.
    pub fn apply(&mut self, object: &Value) -> Answer {
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict",
            self::path(object)
        );
        // JSON is YAML.
        self.send("PATCH", &path, "application/apply-patch+yaml", Some(object))
    }

    /// Changes what a merge patch names.
    pub fn merge(&mut self, path: &str, patch: &Value) -> Answer {
        self.send("PATCH", path, "application/merge-patch+json", Some(patch))
    }

    /// Replaces an object, or with the path of its status that alone, if it is the version that it was.
    pub fn replace(&mut self, path: &str, object: &Value) -> Answer {
        self.send("PUT", path, "application/json", Some(object))
    }

    /// Deletes an object.
    pub fn delete(&mut self, path: &str) -> Answer {
        self.send("DELETE", path, "", None)
    }

    /// Asks; a connection that the server has closed meanwhile is opened once more.
    fn send(&mut self, method: &str, path: &str, media_type: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n",
            self.address
        );
        if !media_type.is_empty() {
            head += &format!("content-type: {media_type}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        let bytes = (head + &body).into_bytes();
        let kept = self.stream.is_some();
        let answered = self.exchange(&bytes).or_else(|error| {
            self.stream = None;
            if kept { self.exchange(&bytes) } else { Err(error) }
        });
        answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn exchange(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.get_mut().write_all(bytes)?;
        stream.get_mut().flush()?;
        let head = http::read_head(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = http::read_body(&mut stream, &head.headers, false)?;
        self.stream = Some(stream);
        Ok(Answer {
            status: status.ok_or(io::ErrorKind::InvalidData)?,
            body: match body.as_slice() {
                [] => Value::Null,
                json => serde_json::from_slice(json)?,
            },
        })
    }

    fn connect(&self) -> io::Result<Stream> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let name = ServerName::from(self.address.ip());
        let tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        Ok(BufReader::new(StreamOwned::new(tls, socket)))
    }
}

/// Where objects of this one's kind are, in its namespace if it has one.
///
/// # Panics
/// If it has no kind or version.
#[must_use]
pub fn collection(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_else(|| panic!("no {name}: {object}"));
    let version = match text("apiVersion") {
        core if !core.contains('/') => format!("/api/{core}"),
        version => format!("/apis/{version}"),
    };
    let plural = plural(text("kind"));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{version}/namespaces/{namespace}/{plural}"),
        None => format!("{version}/{plural}"),
    }
}

/// Where an object is.
///
/// # Panics
/// If it has no kind, version or name.
#[must_use]
pub fn path(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str();
    let name = name.unwrap_or_else(|| panic!("no name: {object}"));
    format!("{}/{name}", collection(object))
}

/// What objects of a kind are called in a path.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_found_by_their_kind() {
        let object = |version: &str, kind: &str, namespace: Option<&str>| {
            path(&json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": namespace}}))
        };
        assert_eq!(
            object("v1", "Secret", Some("shop")),
            "/api/v1/namespaces/shop/secrets/a"
        );
        let group = "gateway.networking.k8s.io/v1";
        assert_eq!(
            object(group, "Gateway", Some("edge")),
            "/apis/gateway.networking.k8s.io/v1/namespaces/edge/gateways/a"
        );
        assert_eq!(
            object(group, "GatewayClass", None),
            "/apis/gateway.networking.k8s.io/v1/gatewayclasses/a"
        );
        assert_eq!(
            object("portcullis.dev/v1alpha1", "AccessPolicy", Some("shop")),
            "/apis/portcullis.dev/v1alpha1/namespaces/shop/accesspolicies/a"
        );
    }
}
