//! A way to a server that can be cut: whoever goes it sees what a network does that is gone.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A forwarding port; it lives until the test ends.
#[derive(Clone, Debug)]
pub struct Wire {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// Forwards connections from a free loopback port.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let wire = Self {
            address: listener.local_addr().expect("it has an address"),
            cut: Arc::default(),
            open: Arc::default(),
        };
        let forwarding = wire.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !forwarding.cut.load(Ordering::Acquire) {
                    // A server that is not there is one that hangs up.
                    let _ = forwarding.forward(stream, server);
                }
            }
        });
        wire
    }

    fn forward(&self, stream: TcpStream, server: SocketAddr) -> io::Result<()> {
        let other = TcpStream::connect(server)?;
        for (mut from, mut to) in [
            (stream.try_clone()?, other.try_clone()?),
            (other.try_clone()?, stream.try_clone()?),
        ] {
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
        self.open().extend([stream, other]);
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and each new one at once.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        for stream in self.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Forwards again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::Release);
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
