//! The gateway that the tests share, each with virtual machines of its own.

use std::net::IpAddr;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, next};
use vncgate_test_support::websocket::WebSocket;

/// The ESXi host that every test's machines run on.
pub(crate) const ESXI: IpAddr = ESXI_HOSTS[0];

/// The shared gateway. Its parts end with the test process.
pub(crate) async fn gateway() -> &'static Gateway {
    static GATEWAY: OnceCell<Gateway> = OnceCell::const_new();
    GATEWAY.get_or_init(|| Gateway::start("sessions")).await
}

/// A session: the browser's end, greeted, and the console server's.
pub(crate) async fn session(gateway: &Gateway) -> (WebSocket, TcpStream) {
    let console = Console::start(ESXI, RFB_VERSION).await;
    let mut browser = gateway.open(console.address()).await;
    assert_eq!(next(&mut browser).await, Message::binary(RFB_VERSION.as_slice()));
    (browser, console.accept().await)
}

/// The id of a session that no other test has.
pub(crate) fn next_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
