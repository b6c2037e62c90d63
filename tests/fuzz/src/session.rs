//! One session from its request to its end, with events in any order: checks what a browser and a server see.

use crate::console::{Console, Event};
use crate::rfb::{PASSWORD, Script};
use arbitrary::Arbitrary;
use std::net::SocketAddr;
use std::sync::LazyLock;
use vncgate_filter_core::check::Reply;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::headers::Headers;
use vncgate_filter_core::session::{OnResponse, Request, Session};
use vncgate_filter_core::upgrade::HttpVersion;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::parse(br#"{"authority": {"cluster": "a"}}"#)
        .unwrap_or_else(|_| panic!("the configuration is valid"))
});

/// One session.
#[derive(Arbitrary, Debug)]
pub struct Input {
    before: Vec<Before>,
    login: Option<Script>,
    events: Vec<Event>,
}

/// Events before the console is open, in any order, also in one that Envoy never has.
#[derive(Arbitrary, Debug)]
enum Before {
    Request { upgrade: bool },
    Granted,
    Refused,
    NoReply,
    Response { status: u16, is_the_target_s: bool },
    Browser(Vec<u8>),
    Server(u16, bool),
    WakeUp,
    KeepaliveTick,
    BeginTimeout,
    End,
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input) {
    out_of_order(&input.before);
    let session = open(input.login.is_some());
    Console::new(session, input.login).play(&input.events);
}

fn open(with_password: bool) -> Session {
    let mut session = Session::default();
    upgrade(&mut session, true);
    let body = grant(with_password.then_some(PASSWORD));
    assert!(session.handle_check_reply(Reply::Answer { status: 200, body: &body }).is_ok());
    assert!(matches!(session.handle_response(200, target()), OnResponse::Switch(_)));
    session
}

fn upgrade(session: &mut Session, upgrade: bool) {
    let mut headers = vec![
        (":method", "GET"),
        (":path", "/?token=0f6c0a3e-6f34-4d5a-8f4e-0c9b7a1d2e3f"),
        ("sec-websocket-version", "13"),
    ];
    if upgrade {
        headers.push(("upgrade", "websocket"));
    }
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    session.handle_request(
        &Request {
            headers: &Headers(headers),
            http_version: HttpVersion::Http2OrLater,
            client_address: "127.0.0.1",
        },
        &CONFIG,
    );
}

fn target() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 5900)))
}

fn grant(password: Option<&str>) -> Vec<u8> {
    let mut target = serde_json::json!({"protocol": "vnc", "address": target()});
    if let Some(password) = password {
        target["password"] = password.into();
    }
    let grant = serde_json::json!({
        "session": "s", "instance": "i", "expires_at": "2100-01-01T00:00:00Z", "target": target,
    });
    grant.to_string().into_bytes()
}

/// A console opens by a request, a grant and Envoy's `200` in this order and not otherwise; before the
/// grant nothing of the browser gets through.
fn out_of_order(events: &[Before]) {
    let mut session = Session::default();
    let (mut requested, mut granted) = (false, false);
    for event in events {
        match event {
            // Envoy has one request for each stream.
            Before::Request { upgrade: true } if requested => {}
            Before::Request { upgrade: is_upgrade } => {
                requested |= is_upgrade;
                upgrade(&mut session, *is_upgrade);
            }
            Before::Granted => {
                let reply = Reply::Answer { status: 200, body: &grant(None) };
                granted |= session.handle_check_reply(reply).is_ok();
                assert!(requested || !granted, "a grant without a request");
            }
            Before::Refused => {
                let body = br#"{"code":"token_invalid","message":"no"}"#;
                assert!(session.handle_check_reply(Reply::Answer { status: 403, body }).is_err());
            }
            Before::NoReply => assert!(session.handle_check_reply(Reply::Failed).is_err()),
            Before::Response { status, is_the_target_s } => {
                let upstream = target().filter(|_| *is_the_target_s);
                let switched =
                    matches!(session.handle_response(*status, upstream), OnResponse::Switch(_));
                assert!(
                    !switched || granted && *status == 200 && *is_the_target_s,
                    "an upgrade without a grant, or by something else than the target"
                );
            }
            Before::Browser(bytes) => {
                let mut chunk = bytes.clone();
                session.handle_browser_bytes(&mut chunk);
                assert!(
                    granted || session.is_passing() || chunk.is_empty(),
                    "bytes before the grant"
                );
            }
            Before::Server(len, end) => drop(session.handle_server_bytes(usize::from(*len), *end)),
            Before::WakeUp => drop(session.handle_wake_up()),
            Before::KeepaliveTick => drop(session.handle_keepalive_tick()),
            Before::BeginTimeout => drop(session.handle_begin_timeout()),
            Before::End => {
                session.end();
            }
        }
    }
}
