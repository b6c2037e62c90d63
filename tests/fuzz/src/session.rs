//! One session from its request to its end, with events in any order: what a browser and a server may see.

use crate::console::{Console, Event};
use crate::rfb::{PASSWORD, Script};
use arbitrary::Arbitrary;
use std::sync::LazyLock;
use vncgate_filter_core::check::Reply;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::session::{OnResponse, Request, Session};
use vncgate_filter_core::upgrade::{Headers, HttpVersion};

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

/// What happens before the console is open, in any order: Envoy would not, and nothing may come of it.
#[derive(Arbitrary, Debug)]
enum Before {
    Request { upgrade: bool },
    Granted,
    Refused,
    NoAnswer,
    Response(u16),
    Browser(Vec<u8>),
    Server(u16, bool),
    Wake,
    Beat,
    Timeout,
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
    assert!(session.check_reply(Reply::Answer { status: 200, body: &body }).is_ok());
    assert!(matches!(session.response(200), OnResponse::Switch(_)));
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
    session.request(
        &Request {
            headers: &Headers(headers),
            http_version: HttpVersion::Http2OrLater,
            client_address: "127.0.0.1",
        },
        &CONFIG,
    );
}

fn grant(password: Option<&str>) -> Vec<u8> {
    let mut target = serde_json::json!({"protocol": "vnc", "address": "127.0.0.1:5900"});
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
    let (mut asked, mut granted) = (false, false);
    for event in events {
        match event {
            // Envoy asks once for each stream.
            Before::Request { upgrade: true } if asked => {}
            Before::Request { upgrade: is_upgrade } => {
                asked |= is_upgrade;
                upgrade(&mut session, *is_upgrade);
            }
            Before::Granted => {
                let reply = Reply::Answer { status: 200, body: &grant(None) };
                granted |= session.check_reply(reply).is_ok();
                assert!(asked || !granted, "a grant of nothing asked");
            }
            Before::Refused => {
                let body = br#"{"code":"token_invalid","message":"no"}"#;
                assert!(session.check_reply(Reply::Answer { status: 403, body }).is_err());
            }
            Before::NoAnswer => assert!(session.check_reply(Reply::Failed).is_err()),
            Before::Response(status) => {
                let switched = matches!(session.response(*status), OnResponse::Switch(_));
                assert!(!switched || granted && *status == 200, "an upgrade without a grant");
            }
            Before::Browser(bytes) => {
                let mut chunk = bytes.clone();
                session.browser_bytes(&mut chunk);
                assert!(granted || session.is_passing() || chunk.is_empty(), "bytes for nobody");
            }
            Before::Server(len, end) => drop(session.server_bytes(usize::from(*len), *end)),
            Before::Wake => drop(session.wake()),
            Before::Beat => drop(session.beat()),
            Before::Timeout => drop(session.give_up_unless_begun()),
            Before::End => drop(session.end()),
        }
    }
}
