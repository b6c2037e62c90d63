//! Serves a router on a listener, and lets requests finish when it stops.

use super::listener::Listener;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a client may take for the head of a request, and how long a kept-alive connection may be idle. It is longer
/// than Envoy's idle timeout in the shipped configuration: a request that meets a closing connection is lost.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// After `accept` fails for lack of descriptors, other connections need time to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, at most `connections` at a time; further clients wait in the kernel's queue. Then accepts nothing
/// more, lets requests in progress finish for at most `drain_limit`, and returns.
pub async fn serve(
    listener: Listener,
    router: Router,
    connections: usize,
    stop: CancellationToken,
    drain_limit: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let slots = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    let connections = GracefulShutdown::new();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("it is never closed");
            listener.accept().await.map(|client| (client, slot))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((client, slot)) => {
                let (http, router, stop) = (http.clone(), router.clone(), stop.clone());
                let watcher = connections.watcher();
                tokio::spawn(async move {
                    let _slot = slot;
                    let opened = client.open(router, &stop).await;
                    let Some((stream, router, _permit)) = opened else { return };
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
        warn!("the drain limit is over; requests in progress were cut off");
    }
}

#[cfg(test)]
mod tests;
