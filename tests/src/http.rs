//! HTTP/1.1 messages as bytes: the one parser that the test client and the test backend share.

use std::{
    io::{self, BufRead, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// Header lines in wire order, values as bytes.
pub type Headers = Vec<(String, Vec<u8>)>;

/// The start line and the headers of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its line end.
    pub start: String,
    /// The headers, names as sent.
    pub headers: Headers,
}

/// The values of every line of that name, in order; names compare without case.
pub fn values<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    headers
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_slice())
        .collect()
}

/// The first value of that name as text.
#[must_use]
pub fn text(headers: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    values(headers, name)
        .first()
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

/// Listens on a free loopback port for as long as the test runs; each connection has a thread of its own.
///
/// # Panics
/// If there is no port.
pub fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || {
                // A proxy may drop a connection at any moment: that ends this thread and nothing else.
                let _ = stream.set_nodelay(true).and_then(|()| serve(stream));
            });
        }
    });
    address
}

/// Reads one head; `None` at the end of the stream before its first byte.
///
/// # Errors
/// If the stream ends inside the head or a line is no header.
pub fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(start) = line(stream)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?.ok_or_else(|| invalid("end of stream in a head"))?;
        if line.is_empty() {
            let start = String::from_utf8_lossy(&start).into_owned();
            return Ok(Some(Head { start, headers }));
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(|| invalid("a header without a colon"))?;
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
}

/// Reads the body that the headers announce; `to_end` says what no announcement means.
///
/// # Errors
/// If the stream ends early or a chunk is malformed.
pub fn read_body(stream: &mut impl BufRead, headers: &[(String, Vec<u8>)], to_end: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if text(headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(stream)?.ok_or_else(|| invalid("end of stream in a chunk"))?;
            let size = String::from_utf8_lossy(&size).into_owned();
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| invalid("a chunk without a size"))?;
            if size == 0 {
                while line(stream)?.is_some_and(|trailer| !trailer.is_empty()) {}
                return Ok(body);
            }
            exactly(stream, size, &mut body)?;
            line(stream)?;
        }
    }
    match text(headers, "content-length") {
        Some(length) => exactly(
            stream,
            length.parse().map_err(|_| invalid("a bad content-length"))?,
            &mut body,
        )?,
        None if to_end => {
            stream.read_to_end(&mut body)?;
        }
        None => {}
    }
    Ok(body)
}

fn exactly(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let before = body.len();
    stream.take(length).read_to_end(body)?;
    if (body.len() - before) as u64 == length {
        Ok(())
    } else {
        Err(invalid("end of stream in a body"))
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(line))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
