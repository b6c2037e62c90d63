//! One gateway that the tests share, each with virtual machines of its own.

use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::gateway::{ESXI_HOSTS, Gateway};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::websocket::{Connection, Upgrade, connect, connect_from};
use vncgate_test_support::workspace::checkout;

/// The ESXi host that machines are created on.
pub(crate) const ESXI: IpAddr = ESXI_HOSTS[0];

/// How long a test waits for what must come, on a machine that may be busy with a build.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A token of the right form that was never issued.
pub(crate) const UNKNOWN_TOKEN: &str = "12345678-90ab-4cde-8f01-234567890abc";

/// The shared gateway; its parts end with the test process. It serves a folder of pages too, one that has
/// folders in it, as noVNC's has.
pub(crate) async fn gateway() -> &'static Gateway {
    static GATEWAY: OnceCell<Gateway> = OnceCell::const_new();
    GATEWAY
        .get_or_init(|| {
            let pages = checkout().join("authority/pages");
            let web = format!("web = \"{}\"", pages.display());
            Gateway::start_with(
                "security",
                move |config| {
                    // Longer than the tests take: what one client is refused for stays.
                    let window =
                        ("#unknown_tokens_window = \"1m\"", "unknown_tokens_window = \"1h\"");
                    config.with("#web = \"/usr/share/novnc\"", &web).with(window.0, window.1)
                },
                &[],
            )
        })
        .await
}

/// Another Envoy before the shared authority, with literals of its configuration changed.
pub(crate) async fn envoy_with(gateway: &Gateway, changes: &[(&str, String)]) -> (Envoy, Ca) {
    let run = Run::new("security-envoy");
    let ca = Ca::new(&run);
    let settings = Settings {
        listen: Envoy::free_address(),
        authority_public: gateway.authority.config().public(),
        authority_internal: gateway.authority.config().internal(),
        changes,
    };
    (Envoy::start(&run, &ca, &settings).await, ca)
}

/// Creates a machine whose console is at `console`.
pub(crate) fn machine_at(gateway: &Gateway, console: SocketAddr) -> Vm {
    static MACHINES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("machine-{}", MACHINES.fetch_add(1, Ordering::Relaxed));
    gateway.vcenter.create_vm(&name, console.ip(), console.port())
}

/// A token for a new machine whose console is at `console`.
pub(crate) async fn token_for(gateway: &Gateway, console: SocketAddr) -> String {
    static MACHINES: Mutex<BTreeMap<SocketAddr, String>> = Mutex::new(BTreeMap::new());
    let vm = machine_at(gateway, console);
    let previous =
        MACHINES.lock().expect("no test panics with it").insert(console, vm.name.clone());
    // Its server has ended, and the kernel has given the port to another one.
    if let Some(previous) = previous {
        gateway.vcenter.power_off(&previous);
    }
    gateway.api().console(&vm).await.token
}

/// Opens a console at `server` as the console page does.
pub(crate) async fn open(gateway: &Gateway, server: &TcpServer) -> WebSocketStream<Connection> {
    let token = token_for(gateway, server.address()).await;
    Upgrade::with_token(&gateway.envoy, &token).open(&gateway.ca).await
}

/// Asserts that the gateway opens consoles and carries bytes both ways.
pub(crate) async fn assert_serves(gateway: &Gateway) {
    let echo = TcpServer::echo(ESXI).await;
    let mut browser = open(gateway, &echo).await;
    assert_echoes(&mut browser).await;
}

/// Asserts that what is sent comes back.
pub(crate) async fn assert_echoes(browser: &mut WebSocketStream<Connection>) {
    use futures_util::SinkExt;
    browser.send(Message::binary("typed")).await.expect("send");
    let mut echoed = Vec::new();
    while echoed.len() < 5 {
        match within("an echo", browser.next()).await {
            Some(Ok(Message::Binary(payload))) => echoed.extend_from_slice(&payload),
            other => panic!("after {echoed:?}: {other:?}"),
        }
    }
    assert_eq!(echoed, b"typed");
}

/// Awaits what must happen within [`LIMIT`].
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// Sends a request, byte for byte, on a connection of its own. Returns the head of the answer and what came
/// with it; empty when Envoy closes without a word.
pub(crate) async fn raw_answer(envoy: &Envoy, ca: &Ca, request: &str) -> String {
    answer_on(connect(envoy.address(), ca, &["http/1.1"]).await, request).await
}

/// The same from another client's address.
pub(crate) async fn raw_answer_to(client: IpAddr, envoy: &Envoy, ca: &Ca, request: &str) -> String {
    answer_on(connect_from(client, envoy.address(), ca, &["http/1.1"]).await, request).await
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

/// The status of an answer of [`raw_answer`]; 0 when there is none.
pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Asserts that the filter has never trapped.
pub(crate) fn assert_no_trap(gateway: &Gateway) {
    assert!(!has_trapped(&gateway.envoy), "the filter trapped");
}

/// Whether Envoy's log has a trap of a filter.
pub(crate) fn has_trapped(envoy: &Envoy) -> bool {
    let log = envoy.log();
    ["wasm trap", "in-VM backtrace", "Function: proxy_on"].iter().any(|trap| log.contains(trap))
}
