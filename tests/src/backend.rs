//! A backend inside the test: it answers every request with what it received, and remembers it.

use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use crate::http::{self, Headers};

/// A request as the backend saw it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The headers, in order.
    pub headers: Headers,
    /// When its head was complete.
    pub at: Instant,
}

impl Received {
    /// The first value of a header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        http::text(&self.headers, name)
    }
}

#[derive(Debug)]
struct State {
    name: String,
    received: Mutex<Vec<Received>>,
    answer: Mutex<(u16, Headers)>,
}

/// A listening backend; it lives until the test ends.
#[derive(Clone, Debug)]
pub struct Backend {
    address: SocketAddr,
    state: Arc<State>,
}

impl Backend {
    /// Listens on a free loopback port.
    #[must_use]
    pub fn start() -> Self {
        Self::named("backend")
    }

    /// Listens on a free loopback port; every answer carries `x-backend: name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let state = Arc::new(State {
            name: name.to_owned(),
            received: Mutex::default(),
            answer: Mutex::new((200, Vec::new())),
        });
        let shared = Arc::clone(&state);
        let address = http::listen(move |stream| shared.serve(stream));
        Self { address, state }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has received.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.state.received).len()
    }

    /// What it has received, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// The last request.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    pub fn last(&self) -> Received {
        lock(&self.state.received)
            .last()
            .cloned()
            .expect("the backend received a request")
    }

    /// What every later answer looks like, beside its own headers.
    pub fn answer_with(&self, status: u16, headers: Headers) {
        *lock(&self.state.answer) = (status, headers);
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut output = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        while let Some(head) = http::read_head(&mut input)? {
            let at = Instant::now();
            http::read_body(&mut input, &head.headers, false)?;
            let mut parts = head.start.split(' ').map(str::to_owned);
            let method = parts.next().unwrap_or_default();
            let target = parts.next().unwrap_or_default();
            let mut body = Vec::new();
            for (name, value) in &head.headers {
                line(&mut body, name, value);
            }
            let head_only = method == "HEAD";
            lock(&self.received).push(Received {
                method,
                target,
                headers: head.headers,
                at,
            });
            let (status, headers) = lock(&self.answer).clone();
            let mut answer = format!("HTTP/1.1 {status} Answer\r\nx-backend: {}\r\n", self.name).into_bytes();
            for (name, value) in &headers {
                line(&mut answer, name, value);
            }
            answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            if !head_only {
                answer.extend_from_slice(&body);
            }
            output.write_all(&answer)?;
        }
        Ok(())
    }
}

fn line(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked while holding it")
}
