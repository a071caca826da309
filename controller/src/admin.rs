//! Questions to Envoy's admin interface, and whether something answers at all.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::{cli::Ready, failure::Failure};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest answer that is read, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where an admin interface listens.
#[derive(Clone, Debug)]
pub(crate) enum Admin {
    /// On a unix socket.
    Pipe(PathBuf),
    /// On TCP.
    Tcp(SocketAddr),
}

/// An answer: status and body.
pub(crate) type Answer = (u16, String);

impl Admin {
    /// The interface that somebody names.
    ///
    /// # Errors
    ///
    /// What is named is the socket of a controller.
    pub(crate) fn of(whom: &Ready) -> Result<Self, &Path> {
        match whom {
            Ready::Controller(socket) => Err(socket),
            Ready::AdminPipe(path) => Ok(Self::Pipe(path.clone())),
            Ready::Admin(address) => Ok(Self::Tcp(*address)),
        }
    }

    /// Asks with GET.
    ///
    /// # Errors
    ///
    /// Nobody answers in two seconds, or not in HTTP.
    pub(crate) async fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path).await
    }

    /// Asks with POST, as everything that changes something must be.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub(crate) async fn post(&self, path: &str) -> io::Result<Answer> {
        self.ask("POST", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> io::Result<Answer> {
        let exchange = async {
            match self {
                Self::Pipe(socket) => exchange(UnixStream::connect(socket).await?, method, path).await,
                Self::Tcp(address) => exchange(TcpStream::connect(address).await?, method, path).await,
            }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, path: &str) -> io::Result<Answer> {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut bytes).await?;
    answer(&bytes).ok_or_else(|| io::Error::other("not an HTTP answer"))
}

/// Status and body of an answer that ends with its connection. A chunked body keeps its chunk sizes: they are lines of
/// their own, and what is asked here is read line by line.
fn answer(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.1 ")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some((status, body.to_owned()))
}

/// Whether a controller takes connections on its socket.
pub(crate) async fn answers(socket: &Path) -> bool {
    matches!(
        tokio::time::timeout(PATIENCE, UnixStream::connect(socket)).await,
        Ok(Ok(_))
    )
}

/// Asks whether a controller or an Envoy is ready.
///
/// # Errors
///
/// It does not answer, or says that it is not.
pub(crate) fn ready(whom: &Ready) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(error.to_string(), ""))?;
    let admin = match Admin::of(whom) {
        Ok(admin) => admin,
        Err(socket) => {
            return if runtime.block_on(answers(socket)) {
                Ok(())
            } else {
                Err(Failure::new(
                    format!("{}: no controller answers", socket.display()),
                    "see what `portcullis run` says",
                ))
            };
        }
    };
    match runtime.block_on(admin.get("/ready")) {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(Failure::new(
            format!(
                "envoy is not ready: {status} {}",
                body.lines().last().unwrap_or_default()
            ),
            "see its log",
        )),
        Err(error) => Err(silent(&error)),
    }
}

/// An admin interface that does not answer.
pub(crate) fn silent(error: &io::Error) -> Failure {
    Failure::new(
        format!("envoy's admin interface does not answer: {error}"),
        "see its log",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_or_refused() {
        assert_eq!(
            answer(b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nDRAINING\n"),
            Some((503, "DRAINING\n".to_owned()))
        );
        assert_eq!(answer(b"SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(answer(b""), None);
    }

    #[tokio::test]
    async fn a_live_envoy_a_dead_one_and_a_silent_one_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let admin = Admin::Pipe(path.clone());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nLIVE\n").await.unwrap();
        };
        let (answer, ()) = tokio::join!(admin.get("/ready"), serve);
        assert_eq!(answer.unwrap(), (200, "LIVE\n".to_owned()));
        assert!(answers(&path).await);
        drop(listener);
        assert!(!answers(&path).await);
        assert!(admin.get("/ready").await.is_err());
    }
}
