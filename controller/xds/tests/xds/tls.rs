//! The server over TCP: who proves what gets what.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    server::Stream,
    world::{CLUSTER, eventually},
};
use hyper_util::rt::TokioIo;
use portcullis_xds::{
    Authorities, Credentials, Event, Identity, Options, Resource, Server, ServerTls, TlsListener,
    snapshot::CLUSTER as CLUSTERS,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc::UnboundedReceiver, watch},
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    codegen::http::Uri,
    transport::{Channel, Endpoint},
};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn gateway(cluster: &str) -> Identity {
    Identity::of_cluster(cluster).unwrap()
}

/// A server that asks for certificates.
struct Guarded {
    server: Server,
    events: UnboundedReceiver<Event>,
    authorities: Authorities,
    tls: watch::Sender<ServerTls>,
    address: SocketAddr,
}

impl Guarded {
    async fn start() -> Self {
        let authorities = Authorities::generate(now() - 30 * 86_400).unwrap();
        let (tls, shown) = watch::channel(Self::shown(&authorities));
        let listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), shown).await.unwrap();
        let address = listener.address().unwrap();
        let (server, events) = Server::new(Options::default());
        let serving = server.clone();
        tokio::spawn(async move { serving.serve_tls(listener, std::future::pending()).await });
        server.publish(CLUSTER, [Resource::new(CLUSTERS, "c", "body")]).unwrap();
        server
            .publish("edge/other", [Resource::new(CLUSTERS, "c", "SECRET")])
            .unwrap();
        Self {
            server,
            events,
            authorities,
            tls,
            address,
        }
    }

    fn shown(authorities: &Authorities) -> ServerTls {
        ServerTls::new(&authorities.issue(&Identity::Controller, now()).unwrap()).unwrap()
    }

    fn credentials(&self, cluster: &str) -> Credentials {
        self.authorities.issue(&gateway(cluster), now()).unwrap()
    }

    async fn open(&self, credentials: Option<&Credentials>) -> Result<Stream, Status> {
        self.open_with(credentials, &TLS13).await
    }

    /// Connects as a client does that shows these credentials and trusts the server's authority.
    async fn open_with(
        &self,
        credentials: Option<&Credentials>,
        version: &'static SupportedProtocolVersion,
    ) -> Result<Stream, Status> {
        let mut roots = RootCertStore::empty();
        let trusted = self.authorities.trusted();
        for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let verifier = Trusting(Arc::new(roots));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match credentials {
            None => builder.with_no_client_auth(),
            Some(credentials) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.address);
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("controller").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        let channel: Channel = Endpoint::from_static("http://controller")
            .connect_with_connector(connect)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Stream::over(channel).await
    }

    /// Whether somebody with these credentials gets anything.
    async fn is_refused(&self, credentials: Option<&Credentials>) -> bool {
        match self.open(credentials).await {
            Err(_) => true,
            Ok(mut stream) => {
                stream.introduce(CLUSTER, CLUSTERS).await;
                stream.receive().await.is_err()
            }
        }
    }
}

/// The server's certificate is asked for no name: Envoy asks for its URI, which only Envoy's own test can tell.
#[derive(Debug)]
struct Trusting(Arc<RootCertStore>);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        assert!(!self.0.is_empty());
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_its_own_gateway_and_no_other() {
    let mut guarded = Guarded::start().await;
    let credentials = guarded.credentials(CLUSTER);
    let mut stream = guarded.open(Some(&credentials)).await.unwrap();
    stream.introduce("edge/other", CLUSTERS).await;
    let refusal = stream.receive().await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    assert_eq!(guarded.server.proxies("edge/other"), []);
    assert!(guarded.events.try_recv().is_err(), "nobody connected");

    let mut stream = guarded.open(Some(&credentials)).await.unwrap();
    stream.introduce(CLUSTER, CLUSTERS).await;
    let response = stream.receive().await.unwrap();
    assert_eq!(response.resources[0].resource.as_ref().unwrap().value, b"body");
    assert_eq!(guarded.server.proxies(CLUSTER).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_anything() {
    let guarded = Guarded::start().await;
    assert!(!guarded.is_refused(Some(&guarded.credentials(CLUSTER))).await);
    assert!(guarded.is_refused(None).await, "no certificate");
    let stranger = Authorities::generate(now()).unwrap();
    let foreign = stranger.issue(&gateway(CLUSTER), now()).unwrap();
    assert!(guarded.is_refused(Some(&foreign)).await, "another authority");
    let server = guarded.authorities.issue(&Identity::Controller, now()).unwrap();
    assert!(guarded.is_refused(Some(&server)).await, "a server's certificate");
    let over = guarded
        .authorities
        .issue(&gateway(CLUSTER), now() - 8 * 86_400)
        .unwrap();
    assert!(guarded.is_refused(Some(&over)).await, "an expired one");
    let early = guarded.authorities.issue(&gateway(CLUSTER), now() + 86_400).unwrap();
    assert!(guarded.is_refused(Some(&early)).await, "one that is not valid yet");
    let old = guarded.open_with(Some(&guarded.credentials(CLUSTER)), &TLS12).await;
    assert!(old.is_err(), "TLS 1.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate() {
    let mut guarded = Guarded::start().await;
    let brief = guarded
        .authorities
        .issue(&gateway(CLUSTER), now() - 7 * 86_400 + 3)
        .unwrap();
    let mut stream = guarded.open(Some(&brief)).await.unwrap();
    stream.introduce(CLUSTER, CLUSTERS).await;
    stream.receive().await.unwrap();
    stream.receive().await.unwrap_err();
    eventually(|| guarded.server.proxies(CLUSTER).is_empty().then_some(())).await;
    let mut seen = Vec::new();
    while let Ok(event) = guarded.events.try_recv() {
        seen.push(event);
    }
    assert!(matches!(seen.last(), Some(Event::Disconnected { .. })), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_ends_the_connections_that_are_there_and_takes_others() {
    let guarded = Guarded::start().await;
    let credentials = guarded.credentials(CLUSTER);
    for _ in 0..2 {
        let mut stream = guarded.open(Some(&credentials)).await.unwrap();
        stream.introduce(CLUSTER, CLUSTERS).await;
        stream.receive().await.unwrap();
        guarded.server.hang_up();
        stream.receive().await.unwrap_err();
        eventually(|| guarded.server.proxies(CLUSTER).is_empty().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_dropped_is_trusted_no_more() {
    let mut guarded = Guarded::start().await;
    let before = guarded.credentials(CLUSTER);
    let mut kept = guarded.open(Some(&before)).await.unwrap();
    kept.introduce(CLUSTER, CLUSTERS).await;
    kept.receive().await.unwrap();
    guarded.authorities = Authorities::generate(now() + 1).unwrap();
    guarded.tls.send_replace(Guarded::shown(&guarded.authorities));
    assert!(guarded.is_refused(Some(&before)).await);
    assert!(!guarded.is_refused(Some(&guarded.credentials(CLUSTER))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_keeps_nobody_out() {
    let guarded = Guarded::start().await;
    // More than there is room for, from another address than the proxy's.
    let mut idle = Vec::new();
    for _ in 0..400 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        idle.push(socket.connect(guarded.address).await.unwrap());
    }
    let credentials = guarded.credentials(CLUSTER);
    for _ in 0..3 {
        // As long as Envoy waits for a connection.
        let proved = tokio::time::timeout(Duration::from_secs(1), guarded.is_refused(Some(&credentials)));
        assert_eq!(proved.await, Ok(false));
    }
}
