//! TCP servers that misbehave, or merely echo, where a VNC server is expected.

use super::RFB_VERSION;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A TCP server on a free port; each connection is handled by its own copy of one function.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl TcpServer {
    /// Starts a server on `ip` that hands each connection to `handle`.
    pub async fn start<H, F>(ip: IpAddr, handle: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(SocketAddr::new(ip, 0), handle).await
    }

    /// The same on a port of the test's choice.
    pub async fn start_at<H, F>(address: SocketAddr, handle: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("listen on a loopback address");
        let address = listener.local_addr().expect("a bound address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.expect("accept a connection");
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(handle(connection));
            }
        });
        Self { address, accepted, task }
    }

    /// Begins as an RFB server does, then sends back every byte, then the end of the stream.
    pub async fn echo(ip: IpAddr) -> Self {
        Self::echo_at(SocketAddr::new(ip, 0)).await
    }

    /// The same on a port of the test's choice.
    pub async fn echo_at(address: SocketAddr) -> Self {
        Self::start_at(address, async |mut connection: TcpStream| {
            // The peer may leave at any time.
            let _ = connection.write_all(RFB_VERSION).await;
            let (mut from, mut to) = connection.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
