//! A connection to Redis whose responses are bounded. (The client library reads a response of any length.)

use super::super::remote::RESPONSE_LIMIT;
use super::address::RedisAddress;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// A connection to a Redis, for one call at a time. It ends when it is dropped.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    budget: Budget,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects, with TLS if there is a configuration for it, and logs in.
    pub(super) async fn connect(
        address: &RedisAddress,
        tls: Option<&ClientConfig>,
        settings: &RedisConnectionInfo,
    ) -> Result<Self, RedisError> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        match tls {
            None => Self::over(tcp, settings).await,
            Some(tls) => {
                let invalid = |_| (ErrorKind::InvalidClientConfig, "TLS needs a host name");
                let name = ServerName::try_from(address.host.clone()).map_err(invalid)?;
                let tls = TlsConnector::from(Arc::new(tls.clone())).connect(name, tcp).await?;
                Self::over(tls, settings).await
            }
        }
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        settings: &RedisConnectionInfo,
    ) -> Result<Self, RedisError> {
        let budget = Budget::new();
        let stream = Bounded { stream, budget: budget.clone() };
        // `Remote` bounds the whole call.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let opened = MultiplexedConnection::new_with_config(settings, stream, config).await;
        let (redis, driver) = opened?;
        Ok(Self { redis, budget, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }

    /// Begins a call, whose responses together are bounded.
    pub(super) fn begin(&mut self) -> &mut MultiplexedConnection {
        self.budget.renew();
        &mut self.redis
    }
}

/// How many bytes the responses to the current call may still take.
#[derive(Clone)]
struct Budget(Arc<AtomicUsize>);

impl Budget {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(RESPONSE_LIMIT)))
    }

    fn renew(&self) {
        self.0.store(RESPONSE_LIMIT, Ordering::Relaxed);
    }

    fn spend(&self, read: usize) -> io::Result<()> {
        let left = self.0.load(Ordering::Relaxed).checked_sub(read);
        let too_large = || format!("its response is larger than {RESPONSE_LIMIT} bytes");
        self.0.store(left.ok_or_else(too_large).map_err(io::Error::other)?, Ordering::Relaxed);
        Ok(())
    }
}

/// A stream that fails when the server sends more than the budget.
struct Bounded<S> {
    stream: S,
    budget: Budget,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.budget.spend(buffer.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
