//! What the engine may ask of the proxy while it decides.

/// The key of the connection's filter state that says what certificates of clients are worth. A listener's filter chain sets
/// it, beside the TLS context that verifies them: no request can.
pub const CERTIFICATES_STATE: &str = "portcullis.client_certificates";

/// What stands under [`CERTIFICATES_STATE`] where every certificate that is shown was verified.
pub const CERTIFICATES_VERIFIED: &str = "verified";

/// The answers that the proxy gives at once. Everything is bytes: nothing that a client sent is known to be UTF-8.
pub trait Host {
    /// The client's address as the proxy determined it, `ip:port` or a bare address.
    ///
    /// Asked only when a policy needs it; each call costs a host call in wasm.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn client_address(&self) -> Result<Vec<u8>, Fault>;

    /// The port on which the request reached the proxy; `None` where that cannot be told. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn port(&self) -> Result<Option<u16>, Fault> {
        Ok(None)
    }

    /// The time, in nanoseconds since 1970. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn now(&self) -> Result<u64, Fault>;

    /// A number that nobody can predict. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn random(&self) -> Result<u64, Fault>;

    /// What the proxy knows of the request beside its head; `None` where there is no such thing. Asked only when a policy
    /// needs it, and at most once for a request.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn attribute(&self, _attribute: Attribute) -> Result<Option<Fact>, Fault> {
        Ok(None)
    }

    /// Tells whether the proxy verified every certificate that a client of this connection can have shown. Asked only when a
    /// policy needs it, and a certificate was shown.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn verifies_certificates(&self) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Tells whether a signature of a message is right. Asked only when a policy needs it.
    ///
    /// # Errors
    /// [`Fault`] when the proxy could not answer; the request is then refused with 503.
    fn verify_signature(&self, signed: &Signed<'_>) -> Result<bool, Fault>;
}

/// A message with its signature, and the key that is said to have made it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// What the key is for.
    pub algorithm: Signature,
    /// A SubjectPublicKeyInfo in DER (RFC 5280 §4.1).
    pub key: &'a [u8],
    /// What was signed.
    pub message: &'a [u8],
    /// Of ECDSA an ECDSA-Sig-Value in DER (RFC 3279 §2.2.3).
    pub signature: &'a [u8],
}

/// A signature that the proxy verifies: the name is that of RFC 7518 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// ECDSA over P-521 with SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

/// What a proxy may know of a request beside its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// When the request began, in nanoseconds since 1970.
    RequestTime,
    /// The protocol, such as `HTTP/1.1`.
    RequestProtocol,
    /// The client's port, 0 where its address was told by another proxy.
    SourcePort,
    /// The address and port on which the request reached the proxy.
    DestinationAddress,
    /// The number of the connection.
    ConnectionId,
    /// Whether the client showed a certificate that the proxy asked for, verified or not.
    Mtls,
    /// The server name of the TLS handshake, empty for none.
    RequestedServerName,
    /// The TLS version, such as `TLSv1.3`.
    TlsVersion,
    /// The subject of the client's certificate.
    SubjectPeerCertificate,
    /// The subject of the proxy's certificate.
    SubjectLocalCertificate,
    /// The first URI of the client's certificate.
    UriSanPeerCertificate,
    /// The first URI of the proxy's certificate.
    UriSanLocalCertificate,
    /// The first DNS name of the client's certificate.
    DnsSanPeerCertificate,
    /// The first DNS name of the proxy's certificate.
    DnsSanLocalCertificate,
    /// SHA-256 of the client's certificate, hex.
    Sha256PeerCertificateDigest,
}

impl Attribute {
    /// Every attribute, in the order of their discriminants.
    pub const ALL: [Self; 15] = [
        Self::RequestTime,
        Self::RequestProtocol,
        Self::SourcePort,
        Self::DestinationAddress,
        Self::ConnectionId,
        Self::Mtls,
        Self::RequestedServerName,
        Self::TlsVersion,
        Self::SubjectPeerCertificate,
        Self::SubjectLocalCertificate,
        Self::UriSanPeerCertificate,
        Self::UriSanLocalCertificate,
        Self::DnsSanPeerCertificate,
        Self::DnsSanLocalCertificate,
        Self::Sha256PeerCertificateDigest,
    ];

    /// Whether it says something of the client's certificate.
    #[must_use]
    pub const fn is_of_peer_certificate(self) -> bool {
        matches!(
            self,
            Self::Mtls
                | Self::SubjectPeerCertificate
                | Self::UriSanPeerCertificate
                | Self::DnsSanPeerCertificate
                | Self::Sha256PeerCertificateDigest
        )
    }

    /// The name in Envoy's attributes, its parts separated by a dot: `connection.mtls`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestTime => "request.time",
            Self::RequestProtocol => "request.protocol",
            Self::SourcePort => "source.port",
            Self::DestinationAddress => "destination.address",
            Self::ConnectionId => "connection.id",
            Self::Mtls => "connection.mtls",
            Self::RequestedServerName => "connection.requested_server_name",
            Self::TlsVersion => "connection.tls_version",
            Self::SubjectPeerCertificate => "connection.subject_peer_certificate",
            Self::SubjectLocalCertificate => "connection.subject_local_certificate",
            Self::UriSanPeerCertificate => "connection.uri_san_peer_certificate",
            Self::UriSanLocalCertificate => "connection.uri_san_local_certificate",
            Self::DnsSanPeerCertificate => "connection.dns_san_peer_certificate",
            Self::DnsSanLocalCertificate => "connection.dns_san_local_certificate",
            Self::Sha256PeerCertificateDigest => "connection.sha256_peer_certificate_digest",
        }
    }

    /// Reads what Envoy tells as the bytes of a property: text, one byte, or eight bytes of a number, least one first.
    #[must_use]
    pub fn read(self, bytes: Vec<u8>) -> Option<Fact> {
        let number = |bytes: Vec<u8>| bytes.try_into().ok().map(i64::from_le_bytes);
        match self {
            Self::RequestTime | Self::SourcePort | Self::ConnectionId => number(bytes).map(Fact::Number),
            Self::Mtls => match bytes.as_slice() {
                [flag] => Some(Fact::Flag(*flag != 0)),
                _ => None,
            },
            _ => Some(Fact::Text(bytes)),
        }
    }
}

/// What a proxy knows of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A text, perhaps not UTF-8.
    Text(Vec<u8>),
    /// Whether something is so.
    Flag(bool),
    /// A number.
    Number(i64),
}

/// The proxy failed the engine; such a request is always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;
