//! The TCP listener that only mutual TLS opens: who the peer is stands in its certificate.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::Stream;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    authority::{self, Authorities, CertificateError, Credentials},
    connection::{Connection, Peer},
    crowd::Crowd,
    identity::Identity,
    tally::Tally,
};

/// How many peers may be proving who they are at one time.
const HANDSHAKES: usize = 256;
/// How long a peer may take to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many connections the proxies of one Gateway may have to one controller.
const OF_ONE_GATEWAY: usize = 1024;
/// How long a connection lasts at most, and how much of that is chance: proxies spread over the controllers again.
const AGE: (Duration, Duration) = (Duration::from_secs(10 * 3600), Duration::from_secs(2 * 3600));

/// What a server shows and whom it trusts.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// Reads credentials of [`Identity::Controller`].
    ///
    /// # Errors
    /// They are none that a server can use.
    pub fn new(credentials: &Credentials) -> Result<Self, CertificateError> {
        let failed = |what: &'static str| move |_| CertificateError::new(what);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(credentials.trusted.as_bytes()) {
            let certificate = certificate.map_err(|_| CertificateError::new("an authority is not PEM"))?;
            roots
                .add(certificate)
                .map_err(|_| CertificateError::new("an authority cannot be trusted"))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| CertificateError::new("there is no authority"))?;
        let chain = CertificateDer::pem_slice_iter(credentials.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(failed("the certificate is not PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).map_err(failed("the key is not PEM"))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| CertificateError::new("TLS 1.3 is missing"))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|_| CertificateError::new("the key is not the certificate's"))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would be spared the look at the certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }
}

/// What a server shows, made anew in time.
pub struct ServerCredentials {
    own: Credentials,
    shown: watch::Sender<ServerTls>,
}

impl ServerCredentials {
    /// Makes the first, for now in seconds since 1970; the receiver has what is to be shown.
    ///
    /// # Errors
    /// There are no random bytes, or no authority is valid now.
    pub fn issue(authorities: &Authorities, now: u64) -> Result<(Self, watch::Receiver<ServerTls>), CertificateError> {
        let own = authorities.issue(&Identity::Controller, now)?;
        let (shown, receiver) = watch::channel(ServerTls::new(&own)?);
        Ok((Self { own, shown }, receiver))
    }

    /// Makes others where these are due, or the authorities are others.
    ///
    /// # Errors
    /// As [`Self::issue`]; what was shown before stays.
    pub fn renew(&mut self, authorities: &Authorities, now: u64) -> Result<(), CertificateError> {
        if !authorities.are_current(&self.own, &Identity::Controller, now) {
            let own = authorities.issue(&Identity::Controller, now)?;
            self.shown.send_replace(ServerTls::new(&own)?);
            self.own = own;
        }
        Ok(())
    }
}

/// A listening TCP socket. Each handshake is made with what the server shows at that time.
#[derive(Debug)]
pub struct TlsListener {
    listener: TcpListener,
    tls: watch::Receiver<ServerTls>,
}

impl TlsListener {
    /// Listens on an address.
    ///
    /// # Errors
    /// Whatever the system says.
    pub async fn bind(address: SocketAddr, tls: watch::Receiver<ServerTls>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, tls })
    }

    /// Returns the address, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts connections of proxies that proved which Gateway they are of, for ever. All that are open end when `farewells` has
    /// something new.
    pub(crate) fn into_connections(
        self,
        farewells: watch::Receiver<u64>,
    ) -> impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>> {
        let (sender, receiver) = mpsc::channel(HANDSHAKES);
        tokio::spawn(self.accept(sender, farewells));
        tokio_stream::wrappers::ReceiverStream::new(receiver)
    }

    async fn accept(
        self,
        sender: mpsc::Sender<io::Result<Connection<TlsStream<TcpStream>>>>,
        farewells: watch::Receiver<u64>,
    ) {
        let handshakes = Crowd::new(HANDSHAKES);
        let tally = Tally::new(OF_ONE_GATEWAY);
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a proxy's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let tls = self.tls.borrow().clone();
            let sender = sender.clone();
            let tally = tally.clone();
            let mut farewells = farewells.clone();
            farewells.mark_unchanged();
            handshakes.admit(from.ip(), async move {
                let proved = tokio::time::timeout(HANDSHAKE, prove(stream, tls, &tally, farewells)).await;
                match proved {
                    Ok(Ok(connection)) => {
                        // Nobody accepts any more: the server is stopping.
                        let _ = sender.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => tracing::info!(%from, %error, "a connection was refused"),
                    Err(_) => tracing::info!(%from, "a connection was refused: it took too long"),
                }
            });
        }
    }
}

async fn prove(
    stream: TcpStream,
    ServerTls(config): ServerTls,
    tally: &Tally,
    mut farewells: watch::Receiver<u64>,
) -> io::Result<Connection<TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned());
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates
        .first()
        .ok_or_else(|| refused("it showed no certificate"))?;
    let Some(Identity::Gateway { namespace, name }) = authority::identity_of(certificate) else {
        return Err(refused("its certificate names no Gateway"));
    };
    let ends = authority::end_of(certificate).ok_or_else(|| refused("its certificate has no end"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_secs(ends).saturating_sub(now);
    let left = left.min(age());
    let cluster = format!("{namespace}/{name}");
    let counted = tally
        .enter(&cluster)
        .ok_or_else(|| refused("the proxies of its Gateway have too many already"))?;
    let end = async move {
        // It is counted for as long as this future is kept.
        let _counted = counted;
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            // There is nobody who could say farewell any more: the connection's age still counts.
            () = async { if farewells.changed().await.is_err() { std::future::pending().await } } => {}
        }
    };
    Ok(Connection::new(Peer::Gateway(cluster), stream).until(end))
}

/// How long this connection may last.
fn age() -> Duration {
    let (least, chance) = AGE;
    let mut random = [0; 2];
    // Without chance all last as long.
    let _ = getrandom::fill(&mut random);
    least + chance * u32::from(u16::from_be_bytes(random)) / u32::from(u16::MAX)
}
