//! Sockets that accept connections: TCP with and without TLS, and Unix.

use super::sites::Peer;
use crate::sites::tls::{PeerAcceptor, PeerHandshake, PeerPermit};
use crate::tls::handshakes::Handshake;
use crate::tls::server::{ServerAcceptor, ServerTls};
use axum::{Extension, Router};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// `unix:PATH`, a stream socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Unix(path.into())),
            Some(path) => Err(format!("must be an absolute path after unix:, not {path:?}")),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("must be ADDRESS:PORT with an IP address, or unix:/PATH, not {text:?}")
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[listen]`: where one listener listens, and its TLS.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The address.
    pub address: ListenAddress,
    /// Its certificate, and whose certificates it accepts. Without it the listener speaks plain HTTP.
    pub tls: Option<ServerTls>,
}

/// A bound socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix stream socket. Its file is removed when the listener is dropped, before the socket is closed.
    Unix(SocketFile, UnixListener),
    /// TCP with TLS, and the task that watches its certificate's files.
    Tls(TcpListener, ServerAcceptor, AbortOnDropHandle<()>),
    /// The same with mutual TLS, for other sites alone.
    Peer(TcpListener, PeerAcceptor, AbortOnDropHandle<()>),
}

/// A client from which nothing was read yet.
pub(super) enum Accepted {
    Plain(Either<TcpStream, UnixStream>),
    Tls(Handshake),
    Peer(PeerHandshake),
}

impl Listener {
    /// Binds. Replaces the file of a Unix socket on which no process listens any more.
    pub async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            ListenAddress::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                Ok(Self::Unix(SocketFile::bound(path)?, listener))
            }
        }
    }

    /// Binds for clients with TLS. Its certificate is read again when its files change, until the listener is dropped.
    pub async fn bind_tls(address: SocketAddr, acceptor: ServerAcceptor) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let watch = AbortOnDropHandle::new(tokio::spawn(acceptor.clone().watch()));
        Ok(Self::Tls(listener, acceptor, watch))
    }

    /// Binds for other sites, with mutual TLS. Its certificate is read again as that of [`Self::bind_tls`].
    pub async fn bind_peer(address: SocketAddr, acceptor: PeerAcceptor) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let watch = AbortOnDropHandle::new(tokio::spawn(acceptor.clone().watch()));
        Ok(Self::Peer(listener, acceptor, watch))
    }

    /// The address that it listens on: with port 0 configured, the port that the system chose.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, ..) | Self::Peer(listener, ..) => {
                listener.local_addr().map(ListenAddress::Tcp)
            }
            Self::Unix(file, _) => Ok(ListenAddress::Unix(file.path.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Plain(Either::Left(stream)))
            }
            Self::Unix(_, listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Plain(Either::Right(stream)))
            }
            Self::Tls(listener, acceptor, _) => acceptor.accept(listener).await.map(Accepted::Tls),
            Self::Peer(listener, acceptor, _) => {
                acceptor.accept(listener).await.map(Accepted::Peer)
            }
        }
    }
}

impl Accepted {
    /// The stream to speak HTTP on, the router for it, and what a site has to hold meanwhile. `None` if the client is
    /// refused, or `stop` came first.
    pub(super) async fn open(
        self,
        router: Router,
        stop: &CancellationToken,
    ) -> Option<(Stream, Router, Option<PeerPermit>)> {
        let finish = async {
            match self {
                Self::Plain(stream) => Some((Either::Left(stream), router, None)),
                Self::Tls(handshake) => {
                    let (stream, ()) = handshake.finish(|_| Ok(())).await?;
                    Some((Either::Right(stream), router, None))
                }
                Self::Peer(handshake) => {
                    let (stream, site, permit) = handshake.finish().await?;
                    let router = router.layer(Extension(Peer(site)));
                    Some((Either::Right(stream), router, Some(permit)))
                }
            }
        };
        stop.run_until_cancelled(finish).await?
    }
}

pub(super) type Stream = Either<Either<TcpStream, UnixStream>, TlsStream<TcpStream>>;

/// The file of a Unix socket, removed on drop unless another process has put its own in its place.
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, which no other file has while the socket is open.
    identity: (u64, u64),
}

impl SocketFile {
    fn bound(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = self.path.display();
        let removed = match identity(&self.path) {
            Ok(found) if found == self.identity => fs::remove_file(&self.path),
            Ok(_) => {
                warn!(socket = %path, "the socket is another process's now, and stays");
                return;
            }
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            warn!(socket = %path, %error, "cannot remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket file that its listener left behind. Leaves any other file.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it exists and is not a socket",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
    }
}
