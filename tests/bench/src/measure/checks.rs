//! What the authority alone can answer, with a vCenter that answers at once.

use super::{Measured, Meter};
use crate::testbed::Testbed;
use anyhow::{Context, Result, ensure};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Connections as Envoy keeps them: each of its workers has a few.
const CONNECTIONS: usize = 32;

/// Before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// Asks the authority as many checks as it answers. The parts' vCenter is to be the cached one.
///
/// # Errors
///
/// When a check is not granted.
pub(crate) async fn measure(testbed: &Testbed, window: Duration) -> Result<Measured> {
    let answered = Rc::<Cell<u64>>::default();
    let until = Instant::now() + WARM_UP + window;
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (address, token) = testbed.check_api();
        clients.spawn_local(ask(address, token.to_owned(), Rc::clone(&answered), until));
    }
    sleep(WARM_UP).await;
    let before = answered.get();
    let meter = Meter::start(testbed)?;
    sleep(window).await;
    let cost = meter.stop(testbed)?;
    let count = (answered.get() - before) as f64;
    while let Some(client) = clients.join_next().await {
        client.context("a client's task")??;
    }
    let authority = cost.of_part(crate::testbed::AUTHORITY);
    let figures = [
        ("checks_per_second".to_owned(), count / cost.seconds),
        ("cpu_us_per_check".to_owned(), 1e6 * authority / count),
    ];
    Ok(Measured { figures: figures.into(), cost })
}

async fn ask(
    address: SocketAddr,
    token: String,
    answered: Rc<Cell<u64>>,
    until: Instant,
) -> Result<()> {
    let body = serde_json::json!({
        "token": token, "client_address": "127.0.0.1", "request_id": "bench",
    });
    let body = body.to_string();
    let request = format!(
        "POST /v1/check HTTP/1.1\r\nHost: authority\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(address).await.context("connect to the authority")?;
    connection.set_nodelay(true)?;
    let mut answer = vec![0; 16 * 1024];
    while Instant::now() < until {
        connection.write_all(request.as_bytes()).await?;
        // An answer is some hundred bytes, which come in one piece or two, and end with the JSON.
        let mut len = 0;
        while !answer[..len].ends_with(b"}}") {
            let read = connection.read(&mut answer[len..]).await?;
            ensure!(read > 0, "the authority closed");
            len += read;
        }
        let granted = answer.starts_with(b"HTTP/1.1 200 ");
        ensure!(granted, "not granted: {}", String::from_utf8_lossy(&answer[..len]));
        answered.set(answered.get() + 1);
    }
    Ok(())
}
