//! The consoles: TCP servers in place of the VNC ports of ESXi hosts.
//!
//! A console speaks first, as RFB servers do (RFC 6143 7.1.1). The client's eight bytes after that are the
//! number of their [`Exchange`]; then both sides send their stream of the pattern, each at its own pace.

use crate::exchange::{Exchange, Exchanges, Order};
use crate::pace;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::sleep;
use vncgate_load::pattern::Altered;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};

/// Most bytes of one read. Small, as there is such a buffer for each session.
const READ_LEN: usize = 16 * 1024;

/// Starts a console on a free port of `ip`.
pub(crate) async fn start(ip: IpAddr, exchanges: Arc<Exchanges>) -> TcpServer {
    let serve = move |connection| {
        let exchanges = Arc::clone(&exchanges);
        async move { serve(connection, &exchanges).await }
    };
    TcpServer::start(ip, serve).await
}

/// Starts a console that accepts connections and says nothing.
pub(crate) async fn start_silent(ip: IpAddr) -> TcpServer {
    TcpServer::start(ip, async |mut connection: TcpStream| {
        // Until the other side ends it, with whatever it has sent.
        let _ = connection.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// Starts a console that resets every connection at once.
pub(crate) async fn start_resetting(ip: IpAddr) -> TcpServer {
    TcpServer::start(ip, async |connection: TcpStream| {
        // Fails for a connection that is gone already.
        let _ = connection.set_zero_linger();
    })
    .await
}

async fn serve(mut connection: TcpStream, exchanges: &Exchanges) {
    // A client may leave at any point. If it did not mean to, it says so itself.
    let Ok(number) = greet(&mut connection).await else { return };
    let Some(exchange) = exchanges.get(number) else { return };
    let Some(mut orders) = exchange.inbox() else { return };
    let (outcome, end) = converse(&mut connection, &exchange, &mut orders).await;
    if let End::Reset = end {
        // Fails for a connection that is gone already.
        let _ = connection.set_zero_linger();
    }
    drop(connection);
    exchange.end(outcome.err());
}

/// Reads and writes until one of it ends the session.
async fn converse(
    connection: &mut TcpStream,
    exchange: &Exchange,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> (Result<(), Altered>, End) {
    let (from, to) = connection.split();
    let reading = read(from, exchange);
    tokio::pin!(reading);
    tokio::select! {
        outcome = &mut reading => (outcome, End::Closed),
        end = write(to, exchange, orders) => match end {
            // Everything is sent, and what the client sends until it has that is read.
            End::Closed => (reading.await, End::Closed),
            End::Reset => (Ok(()), End::Reset),
        },
    }
}

async fn greet(connection: &mut TcpStream) -> std::io::Result<u64> {
    connection.set_nodelay(true)?;
    connection.write_all(RFB_VERSION).await?;
    connection.read_u64().await
}

/// Reads until the end of the stream.
async fn read(mut from: ReadHalf<'_>, exchange: &Exchange) -> Result<(), Altered> {
    let mut expected = exchange.up_stream();
    let mut buffer = vec![0; READ_LEN];
    loop {
        // A reset ends a stream as well.
        let Ok(len @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
        expected.verify(&buffer[..len])?;
        exchange.up.receive(len);
        exchange.changed.notify_one();
    }
}

/// How a console ends.
enum End {
    /// It has sent everything and closed its direction, or the client is gone.
    Closed,
    /// It is to reset the connection.
    Reset,
}

/// Sends bursts at the session's pace, and as ordered.
async fn write(
    mut to: WriteHalf<'_>,
    exchange: &Exchange,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> End {
    let mut random = fastrand::Rng::with_seed(exchange.number);
    let mut stream = exchange.down_stream();
    let mut paused = false;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = sleep(pace::pause(exchange.gap, &mut random)), if !paused => None,
        };
        paused |= matches!(order, Some(Order::Pause));
        if let Some(Order::Reset) = order {
            return End::Reset;
        }
        if !matches!(order, Some(Order::Pause)) {
            let burst = stream.take(pace::burst(&mut random));
            exchange.down.send(burst.len());
            if to.write_all(&burst).await.is_err() {
                return End::Closed;
            }
        }
        if order.is_some() {
            exchange.obey();
        }
        if let Some(Order::Close) = order {
            // Fails when the client is gone already.
            let _ = to.shutdown().await;
            return End::Closed;
        }
    }
}
