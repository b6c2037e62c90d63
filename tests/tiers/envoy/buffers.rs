//! Buffer limits that are too small for what a console sends: only its own session may end.

use crate::fixture::ESXI;
use crate::fixture::gateway;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, frame, next, noise};
use vncgate_test_support::wait::{until, within};

/// As much as Envoy reads from a console at once (`per_connection_buffer_limit_bytes` of its cluster).
const READ: usize = 262_144;

/// Enough that both of Envoy's workers have one.
const BYSTANDERS: usize = 6;

/// More than any buffer on the way holds.
const SCREENFUL: usize = 1_000_000;

/// A limit that does not fit with that read: the listener's, or that of HTTP/2 for one session.
struct Misfit {
    literal: &'static str,
    limit: usize,
    http2: bool,
}

const MISFITS: [Misfit; 4] = [
    // Less than a read, so that Envoy ends the session after the filter has seen it.
    Misfit { literal: "per_connection_buffer_limit_bytes: 655360", limit: 16_384, http2: false },
    // A read without its frame header, so that it ends within the filter's own call.
    Misfit { literal: "per_connection_buffer_limit_bytes: 655360", limit: READ, http2: false },
    // One read but not two.
    Misfit { literal: "per_connection_buffer_limit_bytes: 655360", limit: 270_000, http2: false },
    Misfit { literal: "initial_stream_window_size: 1048576", limit: READ, http2: true },
];

#[tokio::test]
async fn a_session_that_does_not_fit_ends_alone() {
    let ended = join_all(MISFITS.iter().map(sessions_that_end)).await;
    assert!(ended.iter().sum::<usize>() > 0, "every session fits, so that this shows nothing");
}

/// Floods browsers while others only wait, and asserts that the others are served afterwards. Returns how many
/// sessions Envoy ended.
async fn sessions_that_end(misfit: &Misfit) -> usize {
    let gateway = gateway().await;
    let (name, _) = misfit.literal.split_once(": ").expect("a name and a value");
    let limit = format!("{name}: {}", misfit.limit);
    let envoy = gateway.envoy_with(&[(misfit.literal, limit)]).await;

    let console = Console::start(ESXI, RFB_VERSION).await;
    let token = gateway.token_for(console.address()).await;
    let mut bystanders = Vec::new();
    for _ in 0..BYSTANDERS {
        let mut browser = envoy.open(&token).await;
        assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
        bystanders.push((browser, console.accept().await));
    }
    for _ in 0..BYSTANDERS / 2 {
        if misfit.http2 {
            let browser = Http2::connect(&envoy).await;
            flood(browser.open(&token).await.expect("a console"), &console).await;
        } else {
            flood(envoy.open(&token).await, &console).await;
        }
    }

    let active = "wasmcustom.vncgate.sessions.active";
    until("the end of the flooded sessions", async || {
        envoy.stat(active).await == BYSTANDERS as u64
    })
    .await;
    for (browser, console) in &mut bystanders {
        console.write_all(b"still there").await.expect("write");
        assert_eq!(next(browser).await, Message::binary("still there"), "limit {}", misfit.limit);
    }
    assert!(!envoy.has_trapped(), "the filter trapped: {}", envoy.log());
    let too_large = |entry: &serde_json::Value| entry["details"] == "response_payload_too_large";
    envoy.access_log().iter().filter(|entry| too_large(entry)).count()
}

/// Has the console send more than fits while the browser sends Pings, each of whose answers needs room too,
/// until all has arrived or the session has ended.
async fn flood<S>(browser: WebSocketStream<S>, console: &Console)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut browser, mut host_side) = (browser, console.accept().await);
    let sending = tokio::spawn(async move {
        // Envoy may end the session before all of it is sent.
        let _ = host_side.write_all(&noise(1, SCREENFUL)).await;
        host_side
    });
    let mut received = 0;
    while received < SCREENFUL {
        let ping = frame(0x89, &[7; 125]);
        let pinged = browser.get_mut().write_all(&ping).await.is_ok();
        let pinged = pinged && browser.get_mut().flush().await.is_ok();
        match within("a message or an end", browser.next()).await {
            Some(Ok(message)) if pinged && !message.is_close() => received += message.len(),
            _ => break,
        }
    }
    drop(sending.await.expect("no panic"));
}
