//! Serves a router on a listener, and lets requests finish when it stops.

use super::listener::Listener;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a client may take for the head of a request, and how long a kept-alive connection may be idle. It is longer
/// than Envoy's idle timeout in the shipped configuration: a request that meets a closing connection is lost.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// After `accept` fails for lack of descriptors, other connections need time to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`. Then accepts nothing more, lets requests in progress finish for at most `drain_limit`, and
/// returns.
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
        warn!("the drain limit is over; requests in progress were cut off");
    }
}

#[cfg(test)]
mod tests;
