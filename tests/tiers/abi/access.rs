//! Sessions of tokens that do not allow everything: what reading the browser's messages costs.

use crate::story::*;
use crate::webmks;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use vncgate_envoy_sim::{CallAnswer, Callback, Host, Stream};

const VERSION: &[u8] = b"RFB 003.008\n";
const KEY_EVENT: &[u8] = &[4, 1, 0, 0, 0, 0, 0, 0x61];
const UPDATE_REQUEST: &[u8] = &[3, 1, 0, 0, 0, 0, 4, 0, 3, 0];

/// RFC 6143 7.5.6: a text, as `len` bytes of a message.
fn cut_text(len: usize) -> Vec<u8> {
    let mut message = vec![0x20; len];
    message[..8].copy_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0]);
    message[4..8].copy_from_slice(&u32::try_from(len - 8).expect("a short text").to_be_bytes());
    message
}

/// A grant with this beside its target.
fn with(grant: CallAnswer, restriction: &str) -> CallAnswer {
    let CallAnswer::Response { body, .. } = grant else { panic!("an answer") };
    let body = String::from_utf8(body).expect("JSON");
    CallAnswer::json(200, body.replacen('{', &format!("{{{restriction},"), 1))
}

const VIEW: &str = r#""access":"view""#;
/// Every message passes, and is read all the same.
const WATCHED: &str = r#""reports_input":true"#;

fn sends(browser: &Stream, payload: &[u8]) -> Vec<u8> {
    browser.client_sends(&frame(OpCode::Data(Data::Binary), payload))
}

/// A VNC console after ClientInit.
fn vnc(host: &Host, restriction: &str) -> Stream {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, with(grant(), restriction));
    browser.upstream_responds(connected());
    // The last is for after the login, whose first bytes Envoy lets go in another way than later ones.
    let steps: [(&[u8], &[u8]); 4] =
        [(VERSION, VERSION), (&[1, 1], &[1]), (&[0; 4], &[1]), (&[0], UPDATE_REQUEST)];
    for (console, client) in steps {
        browser.upstream_sends(console);
        wake(host, &browser);
        sends(&browser, client);
        wake(host, &browser);
    }
    browser
}

/// The same of a WebMKS console.
fn webmks(host: &Host, restriction: &str) -> Stream {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, with(webmks::grant(), restriction));
    browser.upstream_responds(webmks::accepted());
    browser.upstream_sends(&[&[0x82, 12], VERSION].concat());
    wake(host, &browser);
    sends(&browser, &[VERSION, &[1, 1]].concat());
    browser
}

fn unrestricted_webmks(host: &Host) -> Stream {
    let (browser, call) = asked(host, upgrade());
    host.answer(&call, webmks::grant());
    browser.upstream_responds(webmks::accepted());
    browser.upstream_sends(&[&[0x82, 12], VERSION].concat());
    wake(host, &browser);
    browser
}

fn only(host: &Host) -> Callback {
    let mut callbacks = host.take_callbacks();
    assert_eq!(callbacks.len(), 1, "{callbacks:?}");
    callbacks.remove(0)
}

fn fuel(host: &Host, browser: &Stream, payload: &[u8]) -> i64 {
    host.take_callbacks();
    sends(browser, payload);
    only(host).fuel.try_into().expect("few instructions")
}

#[test]
fn a_viewer_s_keys_stay_in_the_filter_and_the_rest_passes() {
    for open in [vnc, webmks] {
        let host = host();
        let browser = open(&host, VIEW);
        host.take_callbacks();
        for (message, passes) in
            [(KEY_EVENT, false), (UPDATE_REQUEST, true), (&*cut_text(60_000), false)]
        {
            let received = sends(&browser, message);
            assert_eq!(received.is_empty(), !passes, "{message:?}");
            let callback = only(&host);
            let calls: Vec<_> = callback.host_calls.iter().map(|call| call.function).collect();
            assert_eq!(calls, ["proxy_get_buffer_bytes", "proxy_set_buffer_bytes"]);
        }
        assert_sound(&host);
    }
}

#[test]
fn a_webmks_console_of_an_old_rfb_is_refused_with_a_reason() {
    let first_frame = [&[0x82, 12], b"RFB 003.003\n".as_slice()].concat();
    for (ends, follows) in [(false, false), (false, true), (true, false)] {
        let host = host();
        let (browser, call) = asked(&host, upgrade());
        host.answer(&call, with(webmks::grant(), VIEW));
        browser.upstream_responds(webmks::accepted());
        browser.upstream_sends(&first_frame);
        let mut received = if ends { browser.upstream_ends() } else { Vec::new() };
        if follows {
            received.extend(browser.upstream_sends(&first_frame));
        }
        if !ends {
            assert_eq!(browser.end(), None);
            received.extend(wake(&host, &browser));
        }
        let [Message::Close(Some(close))] = &messages(&received)[..] else {
            panic!("{received:?}: nothing of the console passes");
        };
        assert_eq!(u16::from(close.code), 1011);
        assert!(close.reason.starts_with("rfb_version: "), "{}", close.reason);
        if !ends {
            answer_close(&host, &browser);
        }
        assert_eq!(browser.property("vncgate.end").as_deref(), Some("not_a_console"));
        assert_sound(&host);
    }
}

/// What it costs beside a session without restriction: once for each chunk, and for each message in it.
#[test]
fn reading_costs_little_for_a_message_and_nothing_for_its_bytes() {
    let host = host();
    let plain = greeted(&host);
    let plain_webmks = unrestricted_webmks(&host);
    for (open, plain, chunk_most, message_most) in [
        (vnc as fn(&Host, &str) -> Stream, &plain, 400, 80),
        (webmks as fn(&Host, &str) -> Stream, &plain_webmks, 1_850, 95),
    ] {
        for restriction in [VIEW, WATCHED] {
            let browser = open(&host, restriction);
            let many = UPDATE_REQUEST.repeat(6_000);
            let text = cut_text(many.len());
            let [once, of_many, of_text] = [UPDATE_REQUEST, &many, &text]
                .map(|payload| fuel(&host, &browser, payload) - fuel(&host, plain, payload));
            let each = (of_many - of_text) / 6_000;
            eprintln!("{restriction}: {once} a chunk, {each} a message, {of_text} 60,000 bytes");
            assert!(once <= chunk_most, "{once} instructions for a chunk");
            assert!(each <= message_most, "{each} instructions for a message");
        }
    }
}
