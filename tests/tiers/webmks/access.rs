//! Links that do not allow everything, by browsers that send what they like. The guest is a real one.

use crate::fixture::Site;
use crate::rfb_client::RfbClient;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::rfb_script::{NONE, Script, ScriptedRfb};
use vncgate_test_support::screen::Qemu;
use vncgate_test_support::session::{frame, next, send_raw};
use vncgate_test_support::vcsim::Vm;
use vncgate_test_support::wait::{until, within};
use vncgate_test_support::webmks::{WITH_VNC, WITHOUT_VNC};
use vncgate_test_support::workspace::free_address_of;

const BLUE: [u8; 3] = [0, 0, 0xa8];
const BLACK: [u8; 3] = [0; 3];

const KEY: &[u8] = &[4, 1, 0, 0, 0, 0, 0, 0x61];
const QEMU_KEY: &[u8] = &[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e];
const POINTER: &[u8] = &[5, 1, 0, 10, 0, 10];
const CUT_TEXT: &[u8] = b"\x06\0\0\0\0\0\0\x04text";
const UPDATE_REQUEST: &[u8] = &[3, 1, 0, 0, 0, 0, 4, 0, 3, 0];

/// A machine with a VNC console and one with a WebMKS console, which are those of one server.
async fn machines(
    site: &Site,
    name: &str,
    server: impl AsyncFnOnce(IpAddr) -> SocketAddr,
) -> [Vm; 2] {
    let (with_vnc, without_vnc) = (site.host(WITH_VNC).await, site.host(WITHOUT_VNC).await);
    let screen = server(with_vnc.ip).await;
    let vcenter = &site.gateway.vcenter;
    let vnc = vcenter.create_vm(&format!("{name}-vnc"), screen.ip(), screen.port());
    let webmks = format!("{name}-webmks");
    let webmks = site.esxi.create_vm(vcenter, &webmks, &without_vnc.name, screen).await;
    [vnc, webmks]
}

async fn open(site: &Site, vm: &Vm, link: Value) -> RfbClient {
    let token = site.gateway.api().console_with(vm, link).await.token;
    let mut client = RfbClient::new(site.open(&token).await);
    assert_eq!(client.log_in().await, "QEMU");
    client
}

#[tokio::test]
async fn a_viewer_sees_the_guest_s_screen_and_types_nothing() {
    let site = Site::shared().await;
    let mut guest = None;
    let start = async |ip| {
        let address = free_address_of(ip);
        guest = Some(Qemu::start(&site.gateway.run, address).await);
        address
    };
    let machines = machines(site, "viewed", start).await;
    for vm in &machines {
        let mut viewer = open(site, vm, json!({"access": "view"})).await;
        until("the guest's banner", async || {
            let screen = viewer.screen().await;
            screen.is(0..9, 0..48, BLUE)
        })
        .await;
        viewer.press_keys("never").await;
        viewer.send(&[QEMU_KEY, POINTER, CUT_TEXT].concat()).await;
        viewer.screen().await;
    }
    let mut user = open(site, &machines[0], json!({})).await;
    user.press_keys("ok").await;
    // The fifth row of characters, which are 9 pixels wide: the two, a cursor, and nothing behind.
    until("what was typed", async || {
        let screen = user.screen().await;
        assert!(screen.is(27..640, 64..80, BLACK), "more was typed");
        !screen.is(0..9, 64..80, BLACK) && !screen.is(9..18, 64..77, BLACK)
    })
    .await;
    drop(guest);
}

/// Sends what a viewer may and may not, whole and in fragments with a Ping between, and at last what cannot be read.
async fn is_held_to_its_link<S>(websocket: WebSocketStream<S>, view: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = RfbClient::new(websocket);
    assert_eq!(client.log_in_as(0).await, "scripted");
    let sent = [KEY, UPDATE_REQUEST, CUT_TEXT, POINTER, UPDATE_REQUEST].concat();
    let expected = match view {
        true => [UPDATE_REQUEST, UPDATE_REQUEST].concat(),
        false => [KEY, UPDATE_REQUEST, POINTER, UPDATE_REQUEST].concat(),
    };
    client.send(&sent).await;
    assert_eq!(client.read(expected.len()).await, expected);
    let (first, second) = sent.split_at(5);
    let fragments = [frame(0x02, first), frame(0x89, b"ping"), frame(0x80, second)].concat();
    for piece in [&fragments[..], &frame(0x82, &[]), &frame(0x8a, b"unasked")] {
        send_raw(&mut client.websocket, piece).await;
    }
    assert_eq!(client.read(expected.len()).await, expected);
    client.websocket.send(Message::binary(&[253_u8, 0, 0, 0][..])).await.expect("send");
    let (code, reason) = loop {
        match next(&mut client.websocket).await {
            Message::Pong(_) => {}
            Message::Close(Some(close)) => break (u16::from(close.code), close.reason.to_string()),
            other => panic!("not a Close frame with a code: {other:?}"),
        }
    };
    assert_eq!(code, 1008, "{reason}");
    assert!(reason.starts_with("unknown_message: "), "{reason}");
}

#[tokio::test]
async fn what_a_link_does_not_allow_stays_out_however_it_is_sent() {
    let site = Site::shared().await;
    let mut server = None;
    let start = async |ip| {
        let started = ScriptedRfb::start(ip, Script::new(8, &[NONE])).await;
        server.insert(started).address()
    };
    let machines = machines(site, "held", start).await;
    let server = server.expect("a server");
    let envoy = &site.gateway.envoy;
    let http2 = Http2::connect(envoy).await;
    for vm in &machines {
        for (link, view) in
            [(json!({"access": "view"}), true), (json!({"clipboard": false}), false)]
        {
            let token = site.gateway.api().console_with(vm, link).await.token;
            is_held_to_its_link(site.open(&token).await, view).await;
            is_held_to_its_link(http2.open(&token).await.expect("a console"), view).await;
            let deflate = "permessage-deflate; client_max_window_bits";
            let offered = envoy.upgrade_with(&token).header("Sec-WebSocket-Extensions", deflate);
            let answer = offered.send().await;
            assert_eq!(answer.header("sec-websocket-extensions"), None);
            is_held_to_its_link(answer.into_websocket().await, view).await;
            let shared: Vec<_> = server.logins().iter().map(|login| login.shared).collect();
            let expected = Some(u8::from(view));
            assert_eq!(shared[shared.len() - 3..], [expected; 3], "a viewer ends nobody's session");
        }
    }
}

/// As fast as Envoy takes it, from the moment of the login on, and more than any buffer on the way has room for.
#[tokio::test]
async fn what_a_viewer_may_send_arrives_whole_however_much_it_is() {
    const MESSAGES: usize = 128;
    let site = Site::shared().await;
    let mut server = None;
    let start = async |ip| {
        let started = ScriptedRfb::start(ip, Script::new(8, &[NONE])).await;
        server.insert(started).address()
    };
    let requests = UPDATE_REQUEST.repeat(6_400);
    for vm in &machines(site, "much", start).await {
        let token = site.gateway.api().console_with(vm, json!({"access": "view"})).await.token;
        let mut client = RfbClient::new(site.open(&token).await);
        assert_eq!(client.log_in().await, "scripted");
        let (mut sink, mut stream) = client.websocket.split();
        let send = async {
            for _ in 0..MESSAGES {
                sink.send(Message::binary(requests.clone())).await.expect("send");
            }
        };
        let receive = async {
            let mut returned = 0;
            while returned < MESSAGES * requests.len() {
                match within("more of it", stream.next()).await {
                    Some(Ok(Message::Binary(payload))) => returned += payload.len(),
                    Some(Ok(Message::Ping(_))) => {}
                    other => panic!("after {returned} bytes: {other:?}"),
                }
            }
            returned
        };
        let ((), returned) = tokio::join!(send, receive);
        assert_eq!(returned, MESSAGES * requests.len());
    }
}
