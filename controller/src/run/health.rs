//! Whether a run lives and serves, and its measures, over HTTP: `/healthz`, `/readyz` and `/metrics`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use portcullis_xds::Crowd;
use tokio::{net::TcpListener, task::AbortHandle};

use super::metrics::Metrics;
use crate::failure::Failure;

/// How long a client may take to ask and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections are open at a time: nobody needs more. Whoever holds on to many makes room for others.
const CONNECTIONS: usize = 64;

/// How long the loop of a run may be silent before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// What is asked about.
#[derive(Debug)]
pub(crate) struct Health {
    /// Why the run is not ready; empty if it is.
    unready: Mutex<String>,
    began: Instant,
    /// When the loop was last seen, in milliseconds after the start.
    seen: AtomicU64,
    metrics: Metrics,
}

impl Health {
    pub(crate) fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            unready: Mutex::new("starting".to_owned()),
            began: Instant::now(),
            seen: AtomicU64::new(0),
            metrics,
        })
    }

    /// What is measured.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn ready(&self) {
        self.unready(String::new());
    }

    /// Not ready, for this reason.
    pub(crate) fn unready(&self, why: impl Into<String>) {
        *self.unready.lock().unwrap_or_else(PoisonError::into_inner) = why.into();
    }

    /// The loop goes on.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.seen.store(now, Ordering::Relaxed);
    }

    fn is_stuck(&self) -> bool {
        let seen = Duration::from_millis(self.seen.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(seen) > STUCK
    }

    /// Answers on an address until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// Nobody can listen there.
    pub(crate) async fn serve(self: &Arc<Self>, address: SocketAddr) -> Result<Serving, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::new(
                format!("--health-address {address}: {error}"),
                "give another --health-address",
            )
        })?;
        let health = Arc::clone(self);
        let task = tokio::spawn(async move {
            let room = Crowd::new(CONNECTIONS);
            loop {
                let Ok((stream, from)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let health = Arc::clone(&health);
                room.admit(from.ip(), async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let answer = health.answer(request.method(), request.uri().path());
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let connection = http1::Builder::new()
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), service);
                    // Whoever asks may go away.
                    let _ = tokio::time::timeout(PATIENCE, connection).await;
                });
            }
        });
        Ok(Serving(task.abort_handle()))
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, kind, text) = match (method, path) {
            (&Method::GET | &Method::HEAD, "/healthz") if self.is_stuck() => {
                (StatusCode::SERVICE_UNAVAILABLE, TEXT, "stuck\n".to_owned())
            }
            (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            (&Method::GET | &Method::HEAD, "/readyz") => {
                let unready = self.unready.lock().unwrap_or_else(PoisonError::into_inner);
                if unready.is_empty() {
                    (StatusCode::OK, TEXT, "ok\n".to_owned())
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{unready}\n"))
                }
            }
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, METRICS, self.metrics.text()),
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A server of health, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_ready_when_it_says_so_and_alive_all_the_time() {
        let health = Health::new(Metrics::new());
        let status = |path: &str| health.answer(&Method::GET, path).status().as_u16();
        assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
        health.ready();
        assert_eq!(
            (status("/readyz"), status("/metrics"), status("/else")),
            (200, 200, 404)
        );
        health.unready("ending");
        assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
        assert_eq!(health.answer(&Method::POST, "/healthz").status().as_u16(), 405);
    }

    #[tokio::test]
    async fn who_holds_on_to_connections_keeps_nobody_from_asking() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let health = Health::new(Metrics::new());
        let _serving = health.serve(address).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS + 20 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            idle.push(socket.connect(address).await.unwrap());
        }
        let asked = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            // To its end: no connection is kept.
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::time::timeout(Duration::from_secs(2), asked).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
