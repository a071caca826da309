//! A server of key sets, HTTP/1.1 with or without TLS, that can be slow, wrong or down.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{certificate::Certificate, http};

/// What a path is answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// How long the server takes.
    pub delay: Duration,
}

impl Answer {
    /// A key set, at once.
    #[must_use]
    pub fn keys(jwks: &str) -> Self {
        Self {
            status: 200,
            body: jwks.as_bytes().to_vec(),
            delay: Duration::ZERO,
        }
    }

    /// A failure, at once.
    #[must_use]
    pub const fn failure() -> Self {
        Self {
            status: 503,
            body: Vec::new(),
            delay: Duration::ZERO,
        }
    }

    /// The same, after that long.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// A listening server of keys; it lives until the test ends. What no answer is set for is 404.
#[derive(Clone, Debug)]
pub struct KeyServer {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: Mutex<BTreeMap<String, Answer>>,
    /// When each path was asked for by a proxy, which tells how long it waits; others do not.
    asked: Mutex<BTreeMap<String, Vec<Instant>>>,
}

impl KeyServer {
    /// Listens on a free loopback port.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// The same in TLS, with that certificate.
    ///
    /// # Panics
    /// If there is no port, or the certificate is none.
    #[must_use]
    pub fn start_tls(certificate: &Certificate) -> Self {
        let chain = CertificateDer::pem_slice_iter(certificate.certificate.as_bytes());
        let chain: Result<Vec<_>, _> = chain.collect();
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a private key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain.expect("a certificate"), key)
            .expect("a certificate and its key");
        Self::listen(Some(Arc::new(config)))
    }

    fn listen(tls: Option<Arc<ServerConfig>>) -> Self {
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let address = http::listen(move |stream| shared.accept(stream, tls.clone()));
        Self { address, state }
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what a path is answered with from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        lock(&self.state.answers).insert(path.to_owned(), answer);
    }

    /// When proxies asked for a path.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Instant> {
        lock(&self.state.asked).get(path).cloned().unwrap_or_default()
    }
}

impl State {
    fn accept(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        match tls {
            None => self.serve(stream),
            Some(config) => {
                let connection = ServerConnection::new(config).map_err(io::Error::other)?;
                self.serve(StreamOwned::new(connection, stream))
            }
        }
    }

    fn serve(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut input = BufReader::new(stream);
        while let Some(head) = http::read_head(&mut input)? {
            http::read_body(&mut input, &head.headers, false)?;
            let path = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
            if !http::values(&head.headers, "x-envoy-expected-rq-timeout-ms").is_empty() {
                lock(&self.asked).entry(path.clone()).or_default().push(Instant::now());
            }
            let answer = lock(&self.answers).get(&path).cloned();
            let answer = answer.unwrap_or(Answer {
                status: 404,
                ..Answer::failure()
            });
            thread::sleep(answer.delay);
            let Answer { status, body, .. } = answer;
            let length = body.len();
            let output = input.get_mut();
            output.write_all(format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\n\r\n").as_bytes())?;
            output.write_all(&body)?;
            output.flush()?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked while holding it")
}
