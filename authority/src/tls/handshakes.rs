//! Bounds what clients cost a TLS listener before they have completed the handshake.

use super::refusals::{Refusals, tls_error};
use crate::telemetry::Metrics;
use rustls::ServerConnection;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a client may take for the handshake. Three round trips across the world and the signatures stay below a
/// second; another authority's request times out after four seconds by default.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The clients of one listener that have not completed the handshake yet, oldest first.
pub struct Handshakes {
    listener: &'static str,
    limit: usize,
    per_address: usize,
    state: Mutex<PendingHandshakes>,
    refusals: Refusals,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct PendingHandshakes {
    next_id: u64,
    clients: VecDeque<PendingHandshake>,
}

impl PendingHandshakes {
    /// The place of the oldest client of the address that has most, or of the oldest of such addresses.
    fn oldest_of_most(&self) -> usize {
        let mut counts = HashMap::new();
        for client in &self.clients {
            *counts.entry(client.address).or_insert(0_usize) += 1;
        }
        let most = counts.values().max();
        let has_most = |client: &PendingHandshake| counts.get(&client.address) == most;
        self.clients.iter().position(has_most).unwrap_or_default()
    }
}

struct PendingHandshake {
    id: u64,
    address: IpAddr,
    displaced: CancellationToken,
}

/// A client's place among the handshakes; given back on drop.
struct Slot {
    handshakes: Arc<Handshakes>,
    id: u64,
    displaced: CancellationToken,
}

impl Handshakes {
    /// At most `limit` at a time for all clients of the listener, and `per_address` for those of one IP address. The
    /// oldest of the address that has most makes room for the next: an honest client needs a fraction of a second, and
    /// clients that stay silent cannot keep it out.
    pub fn new(
        listener: &'static str,
        limit: usize,
        per_address: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (state, refusals) = (Mutex::default(), Refusals::default());
        Self { listener, limit, per_address, state, refusals, metrics }
    }

    /// Accepts the next client, for a handshake by `acceptor`.
    pub async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        acceptor: impl FnOnce() -> TlsAcceptor,
    ) -> io::Result<Handshake> {
        let (stream, client) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Handshake { client, stream, acceptor: acceptor(), slot: self.begin(client.ip()) })
    }

    /// Counts a handshake, and logs it if the client was refused, at most once a minute for each kind of reason.
    fn ended<T>(&self, client: SocketAddr, result: &io::Result<T>) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(error) if tls_error(error).is_some() => "refused",
            Err(error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::QuotaExceeded => "refused",
                _ => "unfinished",
            },
        };
        self.metrics.tls.handshake(self.listener, outcome);
        if let Err(error) = result {
            self.refusals.log(self.listener, client, error);
        }
    }

    /// Gives the client a place. If there is none, takes that of the oldest client of the address that has most.
    fn begin(self: &Arc<Self>, address: IpAddr) -> Slot {
        let mut state = self.state();
        let neighbours = state.clients.iter().filter(|client| client.address == address).count();
        let oldest = if neighbours >= self.per_address {
            state.clients.iter().position(|client| client.address == address)
        } else {
            (state.clients.len() >= self.limit).then(|| state.oldest_of_most())
        };
        if let Some(oldest) = oldest.and_then(|oldest| state.clients.remove(oldest)) {
            oldest.displaced.cancel();
        }
        let (id, displaced) = (state.next_id, CancellationToken::new());
        state.next_id += 1;
        let client = PendingHandshake { id, address, displaced: displaced.clone() };
        state.clients.push_back(client);
        Slot { handshakes: Arc::clone(self), id, displaced }
    }

    fn state(&self) -> MutexGuard<'_, PendingHandshakes> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handshakes.state().clients.retain(|client| client.id != self.id);
    }
}

/// A client that has not completed the handshake yet.
pub struct Handshake {
    client: SocketAddr,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    slot: Slot,
}

impl Handshake {
    /// Completes the handshake within three seconds, unless a later client takes its place, and has `admit` decide about
    /// the connection. A client that is refused is counted and logged.
    pub async fn finish<T>(
        self,
        admit: impl FnOnce(&ServerConnection) -> io::Result<T>,
    ) -> Option<(TlsStream<TcpStream>, T)> {
        let Self { client, stream, acceptor, slot } = self;
        let handshake = async {
            let stream = timeout(TIMEOUT, acceptor.accept(stream)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let admitted = admit(stream.get_ref().1)?;
            Ok((stream, admitted))
        };
        let result = slot.displaced.run_until_cancelled(handshake).await;
        let result =
            result.unwrap_or_else(|| Err(io::Error::other("a later client took its place")));
        slot.handshakes.ended(client, &result);
        result.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    fn handshakes(limit: usize, per_address: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes::new("peer", limit, per_address, Arc::new(Metrics::new())))
    }

    #[test]
    fn the_oldest_handshake_makes_room_for_the_next() {
        let handshakes = handshakes(3, 3);
        let slots: Vec<_> = (0..3).map(|last| handshakes.begin(address(last))).collect();
        assert!(slots.iter().all(|slot| !slot.displaced.is_cancelled()));
        let next = handshakes.begin(address(3));
        let displaced: Vec<_> = slots.iter().map(|slot| slot.displaced.is_cancelled()).collect();
        assert_eq!(displaced, [true, false, false]);
        drop(slots);
        assert_eq!(
            handshakes.state().clients.len(),
            1,
            "the displaced one has no place to give back"
        );
        drop(next);
        assert!(handshakes.state().clients.is_empty());
    }

    #[test]
    fn a_flood_from_one_address_displaces_its_own() {
        // A process that may open 1,024 files has places for 64.
        for (limit, expected) in [(256, 64), (64, 63)] {
            let handshakes = handshakes(limit, 64);
            let site = handshakes.begin(address(1));
            let begin = |_| handshakes.begin(address(2));
            let flood: Vec<_> = (0..1000).map(begin).collect();
            assert!(!site.displaced.is_cancelled(), "{limit}");
            let left = flood.iter().filter(|slot| !slot.displaced.is_cancelled()).count();
            assert_eq!(left, expected);
        }
    }
}
