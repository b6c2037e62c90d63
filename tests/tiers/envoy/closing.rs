//! A Close of the filter: the browser has a second to answer it, and nothing passes meanwhile.

use crate::fixture::{ESXI, gateway};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::{RFB_VERSION, TcpServer};
use vncgate_test_support::session::{
    Console, assert_echoes, assert_ends, close_of, frame, receive, rest_of, send_raw,
};
use vncgate_test_support::wait::SLACK;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the filter ends a session for.
const NOT_RFB: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n";

/// How long after the Close the browser's stream has ended and the console's connection, which the browser reached with
/// no byte.
struct Times {
    browser: Duration,
    console: Duration,
}

/// The filter's Close, and what comes after it. A browser that `answers` reads on after it, as WebSocket libraries answer.
async fn close<S>(
    mut browser: WebSocketStream<S>,
    mut console: TcpStream,
    answers: bool,
    console_ends: bool,
) -> Times
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    assert_eq!(close_of(&mut browser).await, (1011, "the console does not speak RFB".to_owned()));
    let closed = Instant::now();
    console.write_all(b"more").await.expect("write");
    if console_ends {
        console.shutdown().await.expect("close");
    }
    send_raw(&mut browser, &frame(0x82, b"key")).await;
    let browser_s_end = async {
        if !answers {
            tokio::time::sleep(CLOSE_TIMEOUT + SLACK).await;
        }
        assert_ends(&mut browser).await;
        closed.elapsed()
    };
    let console_s_end = async {
        assert_eq!(rest_of(&mut console).await, b"", "nothing follows a Close");
        closed.elapsed()
    };
    let (browser, console) = tokio::join!(browser_s_end, console_s_end);
    Times { browser, console }
}

/// The same over HTTP/1.1 and over HTTP/2.
async fn close_over_both(answers: bool, console_ends: bool) -> [Times; 2] {
    let gateway = gateway().await;
    let http2 = Http2::connect(&gateway.envoy).await;
    let echo = TcpServer::echo(ESXI).await;
    let other = http2.open(&gateway.token_for(echo.address()).await).await;
    let mut other = other.expect("a console");
    receive(&mut other, RFB_VERSION.len()).await;

    let console = Console::start(ESXI, NOT_RFB).await;
    let browser = gateway.open(console.address()).await;
    let over_http1 = close(browser, console.accept().await, answers, console_ends).await;
    let browser = http2.open(&gateway.token_for(console.address()).await).await;
    let browser = browser.expect("a console");
    let over_http2 = close(browser, console.accept().await, answers, console_ends).await;
    assert_echoes(&mut other, "the other console of the connection goes on").await;
    [over_http1, over_http2]
}

#[tokio::test]
async fn a_browser_that_answers_a_close_frees_its_console_at_once() {
    let [over_http1, over_http2] = close_over_both(true, false).await;
    // Over HTTP/1.1 Envoy closes the connection after its `delayed_close_timeout`.
    for took in [over_http1.console, over_http2.console, over_http2.browser] {
        assert!(took < CLOSE_TIMEOUT, "{took:?}");
    }
}

#[tokio::test]
async fn a_browser_that_does_not_answer_a_close_frees_its_console_after_a_second() {
    for times in close_over_both(false, false).await {
        let took = times.console;
        assert!(took > CLOSE_TIMEOUT / 2 && took < CLOSE_TIMEOUT + SLACK, "{took:?}");
    }
}

#[tokio::test]
async fn a_console_that_ends_behind_a_close_does_not_take_it_from_the_browser() {
    for times in close_over_both(true, true).await {
        // Envoy reads no answer of the browser once the console has ended. Over HTTP/1.1 see above.
        let took = times.browser;
        assert!(took > CLOSE_TIMEOUT / 2 && took < CLOSE_TIMEOUT * 2 + SLACK, "{took:?}");
    }
}
