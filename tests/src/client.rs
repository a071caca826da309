//! A client that writes exactly the bytes it is given, on a connection that it keeps.

use std::{
    io::{self, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::{
    clock,
    denials::{self, Exchange},
    http::{self, Headers},
};

/// A request; nothing is added to it but the blank line.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with a Host header and nothing else.
    #[must_use]
    pub fn new(method: &str, host: &str, target: &str) -> Self {
        Self::bare(method, target.as_bytes()).header("host", host)
    }

    /// A GET.
    #[must_use]
    pub fn get(host: &str, target: &str) -> Self {
        Self::new("GET", host, target)
    }

    /// A request without any header.
    #[must_use]
    pub fn bare(method: &str, target: &[u8]) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_vec(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        http::text(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    to: SocketAddr,
    from: IpAddr,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Connects, and says if that failed.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?, address)
    }

    fn over(stream: TcpStream, address: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        Ok(Self {
            to: address,
            from: stream.local_addr()?.ip(),
            stream: BufReader::new(stream),
        })
    }

    /// Connects from one of this host's addresses, of the family of `address`.
    ///
    /// # Panics
    /// If nobody listens, or the address is another host's.
    #[must_use]
    pub fn open_from(address: SocketAddr, source: IpAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an own address");
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        Self::over(socket.into(), address).expect("a connection")
    }

    /// Connects as `source`, which the listener learns from a PROXY protocol header.
    #[must_use]
    pub fn open_as(address: SocketAddr, source: SocketAddr) -> Self {
        let mut connection = Self::open(address);
        connection.from = source.ip();
        connection
            .stream
            .get_mut()
            .write_all(&proxy_header(source, address))
            .expect("the header is sent");
        connection
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// If the connection was cut.
    pub fn send(&mut self, request: &Request) -> Response {
        self.try_send(request)
            .unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// If the connection was cut or the answer is no HTTP.
    pub fn try_send(&mut self, request: &Request) -> io::Result<Response> {
        self.exchange(&request.bytes(), request.method == "HEAD")
    }

    /// Sends bytes and reads one answer.
    ///
    /// # Errors
    /// If the connection was cut or the answer is no HTTP.
    pub fn exchange(&mut self, bytes: &[u8], head_only: bool) -> io::Result<Response> {
        let sent = clock::milliseconds();
        self.stream.get_mut().write_all(bytes)?;
        let response = self.read(head_only)?;
        // Whatever a backend of the harness answers has its name.
        if response.header("x-backend").is_none() {
            self.hand_in(bytes, response.status, sent);
        }
        Ok(response)
    }

    fn hand_in(&self, bytes: &[u8], status: u16, sent: u64) {
        let head = http::read_head(&mut &*bytes).ok().flatten();
        let (start, headers) = head.map(|head| (head.start, head.headers)).unwrap_or_default();
        let mut words = start.split(' ').map(str::to_owned);
        denials::record(Exchange {
            to: self.to,
            from: self.from,
            server_name: None,
            certificate: None,
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            headers,
            status,
            sent,
            answered: clock::milliseconds(),
        });
    }

    fn read(&mut self, head_only: bool) -> io::Result<Response> {
        loop {
            let head = http::read_head(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status: u16 = status.ok_or(io::ErrorKind::InvalidData)?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let empty = head_only || matches!(status, 101 | 204 | 304);
            let body = if empty {
                Vec::new()
            } else {
                http::read_body(&mut self.stream, &head.headers, true)?
            };
            return Ok(Response {
                status,
                headers: head.headers,
                body,
            });
        }
    }
}

/// Sends one request on a connection of its own.
pub fn once(address: SocketAddr, request: &Request) -> Response {
    Connection::open(address).send(request)
}

/// The binary PROXY protocol header (version 2), which carries any pair of addresses, IPv4-mapped ones too.
fn proxy_header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            header.extend_from_slice(&[0x11, 0, 12]);
            header.extend_from_slice(&source.ip().octets());
            header.extend_from_slice(&destination.ip().octets());
        }
        (source, destination) => {
            let octets = |address: SocketAddr| match address {
                SocketAddr::V4(address) => address.ip().to_ipv6_mapped().octets(),
                SocketAddr::V6(address) => address.ip().octets(),
            };
            header.extend_from_slice(&[0x21, 0, 36]);
            header.extend_from_slice(&octets(source));
            header.extend_from_slice(&octets(destination));
        }
    }
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&destination.port().to_be_bytes());
    header
}
