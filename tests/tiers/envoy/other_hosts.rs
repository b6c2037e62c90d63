//! An Envoy that serves other hosts as well, configured as the shipped README says.

use crate::fixture::{ESXI, gateway, token_for, within};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::websocket::Upgrade;

/// The other host; its virtual host switches the filter off.
const OTHER_HOST: &str = "
                    - name: other
                      domains: [other.example.com]
                      typed_per_filter_config:
                        vncgate:
                          \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig
                          disabled: true
                      routes:
                        - match: { prefix: / }
                          route: { cluster: other }
";

/// Any WebSocket server: accepts every upgrade and sends back what comes, frames and all. A frame of a client is
/// masked, so this one sends its own instead.
async fn websocket_server() -> TcpServer {
    TcpServer::start(ESXI, async |mut connection: TcpStream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(connection.read_u8().await.expect("a request"));
        }
        let request = String::from_utf8(request).expect("text").to_ascii_lowercase();
        assert!(request.contains("upgrade: websocket"), "{request}");
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        connection.write_all(answer.as_bytes()).await.expect("send");
        let mut frame = [0; 7];
        connection.read_exact(&mut frame).await.expect("a frame");
        connection.write_all(b"\x82\x05other").await.expect("send");
        let _ = connection.read(&mut [0]).await;
    })
    .await
}

#[tokio::test]
async fn websockets_of_another_host_pass_and_consoles_open() {
    let gateway = gateway().await;
    let server = websocket_server().await;
    let run = Run::new("other-hosts");
    let ca = Ca::new(&run);
    let (ip, port) = (server.address().ip(), server.address().port());
    let cluster = format!(
        "\n  clusters:\n    - name: other\n      type: STATIC\n      load_assignment:\n        \
         cluster_name: other\n        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: {ip}, port_value: {port} }} }} }} }}] }}]\n"
    );
    let settings = Settings {
        listen: Envoy::free_address(),
        authority_public: gateway.authority.config().public(),
        authority_internal: gateway.authority.config().internal(),
        changes: &[
            (
                "\n                  virtual_hosts:\n",
                format!("\n                  virtual_hosts:{OTHER_HOST}"),
            ),
            ("\n  clusters:\n", cluster),
        ],
    };
    let envoy = Envoy::start(&run, &ca, &settings).await;

    let other = Upgrade::new(&envoy)
        .header("Host", "other.example.com")
        .header("Origin", "https://elsewhere.example.com")
        .send(&ca)
        .await;
    assert_eq!(other.status, 101, "{}", other.body);
    let mut other = other.into_websocket().await;
    other.send(Message::binary("x")).await.expect("send");
    let answer = within("an answer", other.next()).await.expect("open").expect("a frame");
    assert_eq!(answer, Message::binary("other"));

    let console = TcpServer::echo(ESXI).await;
    let token = token_for(gateway, console.address()).await;
    let mut session = Upgrade::with_token(&envoy, &token).open(&ca).await;
    session.send(Message::binary("typed")).await.expect("send");
    let echoed = within("an echo", session.next()).await.expect("open").expect("a frame");
    assert_eq!(echoed, Message::binary("typed"));

    // A token is no use there: that host's routes lead to no console, and the consoles' do not without the filter.
    let before = console.accepted();
    let stray = Upgrade::with_token(&envoy, &token).header("Host", "other.example.com");
    assert_eq!(stray.send(&ca).await.status, 101, "the other host's own WebSocket");
    assert_eq!(console.accepted(), before);
}
