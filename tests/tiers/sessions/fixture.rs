//! The gateway that the tests share, each with virtual machines of its own.

use futures_util::SinkExt;
use reqwest::Method;
use std::net::{IpAddr, SocketAddr};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::answer::Answer;
use vncgate_test_support::authority::Authority;
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::screen::RFB_VERSION;
use vncgate_test_support::session::{Console, next, read, receive};
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::until;
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
    let host = greeted(&mut browser, &console).await;
    (browser, host)
}

/// The console server's end of a session that has just opened, whose browser has been greeted.
pub(crate) async fn greeted(browser: &mut WebSocket, console: &Console) -> TcpStream {
    assert_eq!(next(browser).await, Message::binary(RFB_VERSION.as_slice()));
    console.accept().await
}

/// The same, past the handshake of RFB without authentication (RFC 6143, 7.1 to 7.3), which the gateway follows where it
/// has to tell what the user does.
pub(crate) async fn shaken_hands(browser: &mut WebSocket, console: &Console) -> TcpStream {
    let mut host = greeted(browser, console).await;
    // The security types, the result, and a ServerInit without pixels and name. The gateway may answer for either side.
    let answers: [&[u8]; 3] = [&[1, 1], &[0; 4], &[0; 24]];
    let asked = [RFB_VERSION.as_slice(), &[1], &[1]];
    let of_host = async {
        for (asked, answer) in asked.iter().zip(answers) {
            read(&mut host, asked.len()).await;
            host.write_all(answer).await.expect("answer");
        }
    };
    let of_browser = async {
        for (asked, answer) in asked.iter().zip(answers) {
            browser.send(Message::binary(asked.to_vec())).await.expect("send");
            receive(browser, answer.len()).await;
        }
    };
    tokio::join!(of_host, of_browser);
    host
}

/// The code and the reason of the Close frame that comes, maybe after a Ping.
pub(crate) async fn closed(browser: &mut WebSocket) -> (u16, String) {
    loop {
        match next(browser).await {
            Message::Ping(_) => {}
            Message::Close(Some(close)) => return (close.code.into(), close.reason.to_string()),
            other => panic!("not a Close frame with a code: {other:?}"),
        }
    }
}

/// Waits until the authority knows of a session with this machine: there may be sessions with others.
pub(crate) async fn registered(gateway: &Gateway, vm: &Vm) {
    let path = format!("/v1/sessions?machine={}", vm.instance_uuid);
    until("the session is registered", async || {
        let request = gateway.authority.request(Method::GET, &path);
        let answer = Answer::of(request.send().await.expect("the API answers")).await;
        !answer.body["sessions"].as_array().expect("a list").is_empty()
    })
    .await;
}

/// What of Envoy's configuration is to be replaced by what, so that it has both authorities.
pub(crate) fn endpoints(one: &Authority, other: &Authority) -> [(String, String); 2] {
    let endpoint = |address: SocketAddr| {
        let port = address.port();
        format!(
            "- endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}"
        )
    };
    let (public, internal) = one.listeners();
    let (other_public, other_internal) = other.listeners();
    [(public, other_public), (internal, other_internal)].map(|(one, other)| {
        (endpoint(one), format!("{}\n              {}", endpoint(one), endpoint(other)))
    })
}

/// The id of a session that no other test has.
pub(crate) fn next_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
