//! Puts a router on a socket, and takes it off again without cutting anybody short.

use super::sites::Peer;
use crate::config::ListenAddress;
use crate::sites::tls::{Handshake, PeerAcceptor};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a client may take for the head of a request, and how long a kept-alive connection may be
/// idle. It is longer than Envoy's idle timeout in the shipped configuration: whoever closes first while the
/// other sends a request loses that request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// After `accept` fails for want of descriptors, others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix stream socket, whose file is removed at the end.
    Unix(UnixListener, SocketFile),
    /// TCP with mutual TLS, for other sites alone.
    Tls(TcpListener, PeerAcceptor),
}

/// A client that nothing was read from yet.
enum Accepted {
    Plain(Either<TcpStream, UnixStream>),
    Handshake(Handshake),
}

impl Listener {
    /// Binds. The file of a Unix socket that nobody listens on any more is replaced.
    pub async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            ListenAddress::Unix(path) => {
                remove_stale(path).await?;
                Ok(Self::Unix(UnixListener::bind(path)?, SocketFile(path.clone())))
            }
        }
    }

    /// Binds for other sites.
    pub async fn bind_peer(address: SocketAddr, acceptor: PeerAcceptor) -> io::Result<Self> {
        Ok(Self::Tls(TcpListener::bind(address).await?, acceptor))
    }

    /// Where it listens: with port 0 configured, the port that the system chose.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                listener.local_addr().map(ListenAddress::Tcp)
            }
            Self::Unix(_, SocketFile(path)) => Ok(ListenAddress::Unix(path.clone())),
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Plain(Either::Left(stream)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Plain(Either::Right(stream)))
            }
            Self::Tls(listener, acceptor) => {
                acceptor.accept(listener).await.map(Accepted::Handshake)
            }
        }
    }
}

impl Accepted {
    /// The stream to speak HTTP on, and what may be asked there. `None`: it is no site, or `stop` came first.
    async fn open(self, router: Router, stop: &CancellationToken) -> Option<(Stream, Router)> {
        let handshake = match self {
            Self::Plain(stream) => return Some((Either::Left(stream), router)),
            Self::Handshake(handshake) => handshake,
        };
        let client = handshake.client;
        match stop.run_until_cancelled(handshake.finish()).await? {
            Ok((stream, site)) => {
                Some((Either::Right(stream), router.layer(Extension(Peer(site)))))
            }
            Err(error) => {
                warn!(%client, %error, "a client is no site, and was not let in");
                None
            }
        }
    }
}

type Stream = Either<Either<TcpStream, UnixStream>, TlsStream<TcpStream>>;

/// The file of a Unix socket, removed when this is dropped.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            warn!(path = %self.0.display(), %error, "cannot remove the socket");
        }
    }
}

/// Serves until `stop`. Then it accepts nothing more, lets requests under way finish for at most
/// `drain_limit`, and returns.
pub async fn serve(
    listener: Listener,
    router: Router,
    stop: CancellationToken,
    drain_limit: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(client) => {
                let (http, router, stop) = (http.clone(), router.clone(), stop.clone());
                let watcher = connections.watcher();
                tokio::spawn(async move {
                    let opened = client.open(router, &stop).await;
                    let Some((stream, router)) = opened else { return };
                    let service = TowerToHyperService::new(router);
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = watcher.watch(connection).await {
                        debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(drain_limit, connections.shutdown()).await.is_err() {
        warn!("requests were still under way when the time to finish them was over");
    }
}

/// Removes a socket file that its listener left behind, and nothing else.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
    }
}

#[cfg(test)]
mod tests;
