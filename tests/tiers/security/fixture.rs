//! One gateway that the tests share, each with virtual machines of its own.

use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;
use vncgate_test_support::authority::Config;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::wait::within;
use vncgate_test_support::websocket::{Connection, connect, connect_from};
use vncgate_test_support::workspace::checkout;

/// The ESXi host that machines are created on.
pub(crate) const ESXI: IpAddr = ESXI_HOSTS[0];

/// A token of the right form that was never issued.
pub(crate) const UNKNOWN_TOKEN: &str = "12345678-90ab-4cde-8f01-234567890abc";

/// The shared gateway; its parts end with the test process. It serves a folder of pages too, one that has
/// folders in it, as noVNC's has.
pub(crate) async fn gateway() -> &'static Gateway {
    static GATEWAY: OnceCell<Gateway> = OnceCell::const_new();
    let web = format!("web = {:?}", checkout().join("authority/pages"));
    // Longer than the tests take: what one client is refused for stays.
    let window = ("#unknown_tokens_window = \"1m\"", "unknown_tokens_window = \"1h\"");
    let change =
        |config: Config| config.with("#web = \"/usr/share/novnc\"", &web).with(window.0, window.1);
    GATEWAY.get_or_init(|| Gateway::start_with("security", change, &[])).await
}

/// The shared gateway, a console that echoes, and a token for it.
pub(crate) async fn gateway_with_echo() -> (&'static Gateway, TcpServer, String) {
    let (gateway, echo) = (gateway().await, TcpServer::echo(ESXI).await);
    let token = gateway.token_for(echo.address()).await;
    (gateway, echo, token)
}

/// Asserts that the gateway opens consoles and carries bytes both ways.
pub(crate) async fn assert_serves(gateway: &Gateway) {
    let echo = TcpServer::echo(ESXI).await;
    assert_echoes(&mut gateway.open(echo.address()).await, "typed").await;
}

/// Sends a request, byte for byte, on a connection of its own. Returns the head of the answer and what came
/// with it; empty when Envoy closes without a word.
pub(crate) async fn raw_answer(envoy: &Envoy, request: &str) -> String {
    answer_on(connect(envoy, &["http/1.1"]).await, request).await
}

/// The same from another client's address.
pub(crate) async fn raw_answer_to(client: IpAddr, envoy: &Envoy, request: &str) -> String {
    answer_on(connect_from(client, envoy, &["http/1.1"]).await, request).await
}

async fn answer_on(mut connection: Connection, request: &str) -> String {
    // Envoy may have closed before all of it is sent.
    let _ = connection.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    within("an answer", async {
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            if connection.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                break;
            }
        }
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of an answer of [`raw_answer`]; 0 without an answer.
pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}
