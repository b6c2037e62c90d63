//! An Envoy that serves other hosts as well, configured in each of the two ways of the shipped README.

use crate::fixture::{ESXI, gateway, gateway_with_echo};
use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use vncgate_test_support::envoy::Envoy;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::{assert_echoes, next};

const OTHER_HOST: &str = "other.example.com";

/// What the shipped README has the other virtual host switch the filter off by.
const FILTER_OFF: &str = "
                      typed_per_filter_config:
                        vncgate:
                          \"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig
                          disabled: true";

/// Another WebSocket server: it accepts every upgrade and answers the first frame, of one byte, with its own.
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
        // The peer may leave without a frame.
        if connection.read_exact(&mut [0; 7]).await.is_ok() {
            connection.write_all(b"\x82\x05other").await.expect("send");
            let _ = connection.read(&mut [0]).await;
        }
    })
    .await
}

/// The changes to the shipped configuration for a virtual host of its own, with further keys of it, whose routes
/// lead to `server`.
fn serving(server: &TcpServer, keys: &str) -> [(&'static str, String); 2] {
    let (ip, port) = (server.address().ip(), server.address().port());
    let virtual_host = format!(
        "
                  virtual_hosts:
                    - name: other
                      domains: [{OTHER_HOST}]{keys}
                      routes:
                        - match: {{ prefix: / }}
                          route: {{ cluster: other }}
"
    );
    let cluster = format!(
        "\n  clusters:\n    - name: other\n      type: STATIC\n      load_assignment:\n        \
         cluster_name: other\n        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ \
         socket_address: {{ address: {ip}, port_value: {port} }} }} }} }}] }}]\n"
    );
    [("\n                  virtual_hosts:\n", virtual_host), ("\n  clusters:\n", cluster)]
}

#[tokio::test]
async fn websockets_of_another_host_pass_and_consoles_open() {
    let server = websocket_server().await;
    let envoy = gateway().await.envoy_with(&serving(&server, FILTER_OFF)).await;
    assert_serves_both(&envoy).await;
}

#[tokio::test]
async fn websockets_of_another_host_pass_the_filter_and_consoles_open() {
    let server = websocket_server().await;
    let [virtual_host, cluster] = serving(&server, "");
    let keys = r#""allowed_origins": [], "hosts": ["127.0.0.1"], "other_hosts": "pass""#;
    let pass = (r#""allowed_origins": []"#, keys.to_owned());
    let envoy = gateway().await.envoy_with(&[virtual_host, cluster, pass]).await;
    assert_serves_both(&envoy).await;
}

/// Asserts that the other host has its WebSockets and the gateway its consoles.
async fn assert_serves_both(envoy: &Envoy) {
    let (_, console, token) = gateway_with_echo().await;
    let other = envoy
        .upgrade()
        .header("Host", OTHER_HOST)
        .header("Origin", "https://elsewhere.example.com")
        .send()
        .await;
    assert_eq!(other.status, 101, "{}", other.body);
    let mut other = other.into_websocket().await;
    other.send(Message::binary("x")).await.expect("send");
    assert_eq!(next(&mut other).await, Message::binary("other"));

    assert_echoes(&mut envoy.open(&token).await, "typed").await;

    // A token is no use there: that host's routes lead to no console, and the consoles' do not without the filter.
    let before = console.accepted();
    let stray = envoy.upgrade_with(&token).header("Host", OTHER_HOST).send().await;
    assert_eq!(stray.status, 101, "the other host's own WebSocket");
    assert_eq!(console.accepted(), before);
}
