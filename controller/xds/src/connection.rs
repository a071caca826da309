//! A connection and who made it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Who made a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The user who may open the unix socket: whichever Gateway it says to be.
    Owner,
    /// A proxy whose certificate names this `node.cluster`, and no other.
    Gateway(String),
}

/// What a connection's end waits for.
type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection.
pub(crate) struct Connection<T> {
    peer: Peer,
    inner: T,
    /// When it ends. A boxed future, so that a connection stays one that can be moved.
    end: Option<End>,
    is_over: bool,
}

impl<T> Connection<T> {
    /// Lasts until the peer ends it.
    pub(crate) fn new(peer: Peer, inner: T) -> Self {
        Self {
            peer,
            inner,
            end: None,
            is_over: false,
        }
    }

    /// Ends when `end` is ready, at the latest: to the server the peer has hung up then.
    pub(crate) fn until(self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            end: Some(Box::pin(end)),
            ..self
        }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(context).is_ready()
        {
            self.end = None;
            self.is_over = true;
        }
        self.is_over
    }
}

impl<T> Connected for Connection<T> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
