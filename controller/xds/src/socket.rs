//! The unix socket that only its owner can open.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::Stream;
use tokio::net::{UnixListener, UnixStream};

use crate::connection::{Connection, Peer};

/// A listening unix socket with mode 0600; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    // Device and inode, so that a successor's socket at the same path is left alone.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`, in place of a socket that nobody listens on any more.
    ///
    /// The socket appears at `path` only with its final mode. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if a server answers there, `AlreadyExists` if something other than a socket is there, `InvalidInput`
    /// if the path with its suffix `.new` exceeds the 107 bytes of a socket address, and whatever the file system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another server answers on this socket",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                use std::os::unix::fs::FileTypeExt;
                if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                    return Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        "the path exists and is not a socket",
                    ));
                }
                tracing::debug!(path = %path.display(), %error, "replacing a socket that nobody answers on");
            }
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&draft)?;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
        let metadata = std::fs::symlink_metadata(&draft)?;
        std::fs::rename(&draft, path)?;
        let file = SocketFile {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        };
        Ok(Self { listener, file })
    }

    /// Returns where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Accepts connections for ever: running out of file descriptors is waited out, not fatal.
    pub(crate) fn into_connections(self) -> impl Stream<Item = io::Result<Connection<UnixStream>>> {
        futures::stream::unfold(self, |socket| async move {
            loop {
                match socket.listener.accept().await {
                    Ok((stream, _)) => return Some((Ok(Connection::new(Peer::Owner, stream)), socket)),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a proxy's connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
