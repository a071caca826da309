//! One fetch of a key set, as a proxy does it: so that a proxy that starts while the server of keys is down has keys.

use std::{fmt, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use portcullis_engine::jwt::jwk::{KeySet, MAX_BYTES, Source};
use portcullis_gateway::{Reached, Verified};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Why there are no keys, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfetched(String);

impl Unfetched {
    #[cfg(test)]
    pub(crate) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl fmt::Display for Unfetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn because(what: impl fmt::Display) -> Unfetched {
    Unfetched(what.to_string())
}

/// Fetches a key set from the first of its endpoints that answers; `system` is the file of certificates that this system trusts.
///
/// # Errors
///
/// Why the last endpoint did not give one that can be used.
pub(crate) async fn key_set(reached: &Reached, system: &str) -> Result<String, Unfetched> {
    let limit = Duration::from_millis(reached.server.timeout);
    let mut why = because("it has no endpoint");
    for endpoint in &reached.endpoints {
        match tokio::time::timeout(limit, of_endpoint(reached, endpoint, system)).await {
            Ok(Ok(jwks)) => return Ok(jwks),
            Ok(Err(error)) => why = error,
            Err(_) => why = because(format!("no answer within {} ms", reached.server.timeout)),
        }
    }
    Err(why)
}

async fn of_endpoint(reached: &Reached, (host, port): &(String, u16), system: &str) -> Result<String, Unfetched> {
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(because)?;
    let body = match &reached.tls {
        None => get(stream, reached).await?,
        Some(verified) => get(encrypt(stream, verified, system).await?, reached).await?,
    };
    KeySet::parse(&body, Source::Remote).map_err(because)?;
    String::from_utf8(body).map_err(|_| because("the key set is not UTF-8"))
}

async fn encrypt(
    stream: TcpStream,
    verified: &Verified,
    system: &str,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Unfetched> {
    let certificates: Result<Vec<CertificateDer<'static>>, _> = match &verified.authorities {
        Some(pem) => CertificateDer::pem_slice_iter(pem).collect(),
        None => CertificateDer::pem_file_iter(system).and_then(Iterator::collect),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.map_err(|error| because(format!("{system}: {error}")))?);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(because)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The certificate is held against this name, whatever the name by which the server was found.
    let name = verified
        .names
        .first()
        .ok_or_else(|| because("its certificate has no DNS name to hold"))?;
    let name = ServerName::try_from(name.clone()).map_err(because)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(because)
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    reached: &Reached,
) -> Result<Vec<u8>, Unfetched> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(because)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(&reached.server.path)
        .header(header::HOST, &reached.server.authority)
        .header(header::ACCEPT, "application/json")
        .body(Empty::<hyper::body::Bytes>::new())
        .map_err(because)?;
    let answer = sender.send_request(request).await.map_err(because)?;
    if answer.status() != StatusCode::OK {
        return Err(because(format!("it answered {}", answer.status())));
    }
    let body = Limited::new(answer.into_body(), MAX_BYTES)
        .collect()
        .await
        .map_err(because)?;
    connection.abort();
    Ok(body.to_bytes().to_vec())
}
