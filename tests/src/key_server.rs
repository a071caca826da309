//! A server of key sets, plain HTTP/1.1, that can be slow, wrong or down.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use crate::http;

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
    asked: Mutex<BTreeMap<String, usize>>,
}

impl KeyServer {
    /// Listens on a free loopback port.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // A proxy may drop a connection at any moment: that ends this thread and nothing else.
                    let _ = state.serve(stream);
                });
            }
        });
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

    /// How often a path was asked for.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        lock(&self.state.asked).get(path).copied().unwrap_or_default()
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut output = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        while let Some(head) = http::read_head(&mut input)? {
            http::read_body(&mut input, &head.headers, false)?;
            let path = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
            *lock(&self.asked).entry(path.clone()).or_default() += 1;
            let answer = lock(&self.answers).get(&path).cloned();
            let answer = answer.unwrap_or(Answer {
                status: 404,
                ..Answer::failure()
            });
            thread::sleep(answer.delay);
            let Answer { status, body, .. } = answer;
            let length = body.len();
            output.write_all(format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\n\r\n").as_bytes())?;
            output.write_all(&body)?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked while holding it")
}
