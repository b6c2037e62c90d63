use super::*;
use proptest::prelude::*;

const VIEW: Permissions = Permissions { access: Access::View, clipboard: true };
const NO_CLIPBOARD: Permissions = Permissions { access: Access::Control, clipboard: false };
const FULL: Permissions = Permissions { access: Access::Control, clipboard: true };

const SET_PIXEL_FORMAT: &[u8] = &[0; 20];
const SET_ENCODINGS: &[u8] = &[2, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0x21];
const UPDATE_REQUEST: &[u8] = &[3, 1, 0, 0, 0, 0, 4, 0, 3, 0];
const KEY: &[u8] = &[4, 1, 0, 0, 0, 0, 0, 0x61];
const POINTER: &[u8] = &[5, 1, 0, 10, 0, 10];
const CUT_TEXT: &[u8] = b"\x06\0\0\0\0\0\0\x04text";
const EXTENDED_CUT_TEXT: &[u8] = b"\x06\0\0\0\xff\xff\xff\xfc\x08\0\0\x01";
const CONTINUOUS: &[u8] = &[150, 1, 0, 0, 0, 0, 4, 0, 3, 0];
const FENCE: &[u8] = &[248, 0, 0, 0, 0, 0, 0, 1, 3, 4, 1, 6];
const XVP: &[u8] = &[250, 0, 1, 2];
const SET_SIZE: &[u8] = &[251, 0, 4, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0, 0, 0, 0];
const QEMU_KEY: &[u8] = &[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e];
const QEMU_AUDIO: &[u8] = &[255, 1, 0, 0];
const QEMU_AUDIO_FORMAT: &[u8] = &[255, 1, 0, 2, 3, 2, 0, 0, 0xac, 0x44];

fn vmware(kind: u8, len: u16) -> Vec<u8> {
    let mut message = vec![0x5a; usize::from(len)];
    let [high, low] = len.to_be_bytes();
    message[..4].copy_from_slice(&[127, kind, high, low]);
    message
}

/// Every message that this reader knows, what it is, and whether it passes in [`VIEW`] and [`NO_CLIPBOARD`].
fn every_message() -> Vec<(Vec<u8>, bool, bool)> {
    let mut messages: Vec<_> = [
        (SET_PIXEL_FORMAT, true, true),
        (SET_ENCODINGS, true, true),
        (UPDATE_REQUEST, true, true),
        (KEY, false, true),
        (POINTER, false, true),
        (CUT_TEXT, false, false),
        (EXTENDED_CUT_TEXT, false, false),
        (CONTINUOUS, true, true),
        (FENCE, true, true),
        (XVP, false, true),
        (SET_SIZE, false, true),
        (QEMU_KEY, false, true),
        (QEMU_AUDIO, true, true),
        (QEMU_AUDIO_FORMAT, true, true),
    ]
    .into_iter()
    .map(|(message, view, no_clipboard)| (message.to_vec(), view, no_clipboard))
    .collect();
    for (kind, len, view, no_clipboard) in [
        (0, 8, false, true),
        (2, 19, false, true),
        (3, 8, true, true),
        (4, 8, true, true),
        (5, 8, false, true),
        (6, 10, false, true),
        (7, 12, true, true),
        // Of another length than VMware's client gives them, or of another type.
        (0, 16, false, false),
        (1, 8, false, false),
        (4, 4, false, false),
        (4, 16, false, false),
        (7, 8, false, false),
        (8, 12, false, false),
        (12, 8, false, false),
    ] {
        messages.push((vmware(kind, len), view, no_clipboard));
    }
    for (len, passes) in [(0, true), (64, true), (65, false), (255, false)] {
        let mut fence = vec![0x5a; 9 + usize::from(len)];
        fence[..9].copy_from_slice(&[248, 0, 0, 0, 0, 0, 0, 1, len]);
        messages.push((fence, passes, passes));
    }
    messages
}

/// Filters the stream in pieces of `cut` bytes. Returns what passed, and why the session ends.
fn filter(
    messages: &mut ClientMessages,
    stream: &[u8],
    cut: usize,
) -> (Vec<u8>, Option<Cow<'static, str>>) {
    let mut passed = Vec::new();
    for chunk in stream.chunks(cut) {
        let mut chunk = chunk.to_vec();
        let outcome = messages.filter(&mut chunk, 0);
        passed.extend(chunk);
        assert!(messages.carried.len() < VERSION_LEN, "{:?}", messages.carried);
        if let Err(why) = outcome {
            return (passed, Some(why));
        }
    }
    (passed, None)
}

#[test]
fn each_message_passes_or_does_not_at_every_split() {
    let all = every_message();
    type Message = (Vec<u8>, bool, bool);
    let stream = |keep: &dyn Fn(&Message) -> bool| -> Vec<u8> {
        let messages = all.iter().filter(|message| keep(message));
        [1].into_iter().chain(messages.flat_map(|message| message.0.clone())).collect()
    };
    let sent = stream(&|_| true);
    for cut in 1..=sent.len() {
        for (permissions, expected) in [
            (VIEW, stream(&|message| message.1)),
            (NO_CLIPBOARD, stream(&|message| message.2)),
            (FULL, sent.clone()),
        ] {
            let mut messages = ClientMessages::after_handshake(permissions);
            assert_eq!(filter(&mut messages, &sent, cut), (expected, None), "in pieces of {cut}");
            assert!(messages.take_new_input() && !messages.take_new_input());
        }
    }
}

#[test]
fn a_view_session_has_no_input_whatever_arrives_between() {
    for (message, passes, _) in every_message() {
        let mut messages = ClientMessages::after_handshake(VIEW);
        let stream = [&[1], UPDATE_REQUEST, &message, UPDATE_REQUEST].concat();
        let kept: &[u8] = if passes { &message } else { &[] };
        let expected = [&[1], UPDATE_REQUEST, kept, UPDATE_REQUEST].concat();
        assert_eq!(filter(&mut messages, &stream, 3), (expected, None), "{message:?}");
    }
}

#[test]
fn a_viewer_ends_nobody_else_s_session() {
    for (permissions, expected) in [(VIEW, 1), (NO_CLIPBOARD, 0), (FULL, 0)] {
        let mut messages = ClientMessages::after_handshake(permissions);
        assert_eq!(filter(&mut messages, &[0], 1), (vec![expected], None));
    }
}

/// 253 is gii's, 1 a message of old versions of RFB, and 127 and 255 are those without a length.
#[test]
fn a_message_of_unknown_length_ends_a_restricted_session_alone() {
    let unknown: [&[u8]; 9] = [
        &[253, 1, 0, 4],
        &[1, 0, 0, 0],
        &[7],
        &[200],
        &[252, 0],
        &[127, 0, 0, 3],
        &[255, 2],
        &[255, 1, 0, 3],
        &[255, 1, 1, 0],
    ];
    for message in unknown {
        for cut in [1, 3, 100] {
            let stream = [&[1], UPDATE_REQUEST, message, KEY, UPDATE_REQUEST].concat();
            for permissions in [VIEW, NO_CLIPBOARD] {
                let mut messages = ClientMessages::after_handshake(permissions);
                let (passed, why) = filter(&mut messages, &stream, cut);
                assert_eq!(passed, [&[1], UPDATE_REQUEST].concat(), "{message:?}");
                let why = why.unwrap();
                assert!(why.contains(&format!("type {}", message[0])), "{why}");
                assert!(why.len() <= crate::websocket::CLOSE_REASON_LEN_MAX);
                assert_eq!(filter(&mut messages, KEY, 100), (vec![], None), "nothing follows");
            }
            let mut messages = ClientMessages::after_handshake(FULL);
            assert_eq!(filter(&mut messages, &stream, cut), (stream.clone(), None));
            assert!(messages.take_new_input());
            filter(&mut messages, UPDATE_REQUEST, 100);
            assert!(messages.take_new_input(), "it may be anything");
        }
    }
}

#[test]
fn a_message_may_announce_any_length() {
    for (len, left) in
        [(0x8000_0000_u32, 0x8000_0000_u64), (0xffff_ffff, 1), (0x7fff_ffff, 0x7fff_ffff)]
    {
        let mut messages = ClientMessages::after_handshake(NO_CLIPBOARD);
        let stream = [&[1, 6, 0, 0, 0][..], &len.to_be_bytes()].concat();
        assert_eq!(filter(&mut messages, &stream, 4), (vec![1], None));
        let expected = State::Rest { remaining: left, passes: false, after_handshake: false };
        assert_eq!(messages.state, expected);
        let mut chunk = vec![3; 1 << 20];
        assert_eq!(messages.filter(&mut chunk, 0), Ok(()));
        assert_eq!(chunk.is_empty(), left > 1 << 20, "a body is dropped and not kept");
        assert!(messages.carried.capacity() <= HEADER_LEN_MAX);
    }
}

#[test]
fn a_list_of_65_535_encodings_passes_without_the_one_that_changes_a_length() {
    let extended = EXTENDED_MOUSE_BUTTONS.to_be_bytes();
    let mut sent = vec![1, 2, 0, 0xff, 0xff];
    for number in 0..65_535_u32 {
        sent.extend(if number % 1000 == 1 { extended } else { number.to_be_bytes() });
    }
    sent.extend(UPDATE_REQUEST);
    let mut expected = sent.clone();
    for at in (9..sent.len() - 10).step_by(4).filter(|at| sent[*at..*at + 4] == extended) {
        expected[at..at + 4].copy_from_slice(b"vncG");
    }
    for cut in [1, 7, 4096, sent.len()] {
        let mut messages = ClientMessages::after_handshake(VIEW);
        assert!(filter(&mut messages, &sent, cut) == (expected.clone(), None), "pieces of {cut}");
    }
    let mut messages = ClientMessages::after_handshake(FULL);
    assert!(filter(&mut messages, &sent, 4096) == (sent, None));
}

/// A console that does not know the extension reads the seventh byte as the type of the next message.
#[test]
fn no_clipboard_hides_behind_a_pointer_event() {
    let announced = [&[2, 0, 0, 1][..], &EXTENDED_MOUSE_BUTTONS.to_be_bytes()].concat();
    let pointer = [5, 0x80, 0, 0, 0, 0];
    let stream = [&[1][..], &announced, &pointer, CUT_TEXT, KEY].concat();
    let mut messages = ClientMessages::after_handshake(NO_CLIPBOARD);
    let (passed, why) = filter(&mut messages, &stream, 5);
    assert_eq!(why, None);
    assert_eq!(passed, [&[1][..], &[2, 0, 0, 1], b"vncG", &pointer, KEY].concat());

    let mut messages = ClientMessages::after_handshake(FULL);
    let stream = [&[1][..], &announced, &pointer, &[1], UPDATE_REQUEST].concat();
    assert_eq!(filter(&mut messages, &stream, 5), (stream.clone(), None));
    assert_ne!(messages.state, State::Lost, "noVNC's seventh byte was read");
}

#[test]
fn a_webmks_console_s_handshake_passes_and_is_known() {
    let version = |text: &str| text.as_bytes().to_vec();
    let none: &[u8] = &[1];
    let vnc: &[u8] = &[2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    for cut in [1, 2, 5, 12, 13, 100] {
        for spoken in ["RFB 003.007\n", "RFB 003.008\n"] {
            for security in [none, vnc] {
                let mut messages = ClientMessages::from_version(VIEW);
                let handshake = [&version(spoken)[..], security, &[1]].concat();
                let sent = [&handshake[..], KEY, UPDATE_REQUEST, POINTER].concat();
                let expected = [&handshake[..], UPDATE_REQUEST].concat();
                assert_eq!(filter(&mut messages, &sent, cut), (expected, None));
            }
        }
        // A server may take these for 3.3, in which the client chooses nothing.
        for spoken in ["RFB 003.889\n", "RFB 003.003\n", "RFB 004.001\n", "GET / HTTP/1"] {
            let mut messages = ClientMessages::from_version(VIEW);
            let (passed, why) = filter(&mut messages, &version(spoken), cut);
            assert_eq!(passed, b"");
            assert!(why.is_some_and(|why| why.starts_with("rfb_version: ")), "{spoken}");
        }
        for other in [0, 5, 16, 19] {
            let mut messages = ClientMessages::from_version(NO_CLIPBOARD);
            let sent = [&version("RFB 003.008\n")[..], &[other, 1]].concat();
            let (passed, why) = filter(&mut messages, &sent, cut);
            assert_eq!(passed, version("RFB 003.008\n"));
            assert!(why.is_some_and(|why| why.starts_with("security_type: ")), "{other}");
        }
    }
    let mut messages = ClientMessages::from_version(FULL);
    let sent = [b"RFB 003.003\n\x01", KEY].concat();
    assert_eq!(filter(&mut messages, &sent, 5), (sent.clone(), None), "without restriction");
}

/// Any message, of those that are known and of those that are not.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<_> = every_message().into_iter().map(|(message, ..)| message).collect();
    let cut_text =
        (any::<i32>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(len, text)| {
            let len = if len % 8 == 0 { len } else { len.signum() * text.len() as i32 };
            [&[6, 0, 0, 0][..], &len.to_be_bytes(), &text].concat()
        });
    let encodings =
        prop::collection::vec(prop_oneof![any::<i32>(), Just(EXTENDED_MOUSE_BUTTONS)], 0..20)
            .prop_map(|encodings| {
                let mut message = vec![2, 0, 0, encodings.len() as u8];
                message.extend(encodings.into_iter().flat_map(i32::to_be_bytes));
                message
            });
    prop_oneof![
        8 => prop::sample::select(all),
        2 => cut_text,
        2 => encodings,
        1 => (any::<u8>(), 0_u16..40).prop_map(|(kind, len)| vmware(kind, len.max(4))),
        1 => prop::collection::vec(any::<u8>(), 1..30),
    ]
}

proptest! {
    #[test]
    fn exactly_what_is_allowed_passes_at_any_split(
        messages in prop::collection::vec(any_message(), 0..20),
        cuts in prop::collection::vec(1_usize..30, 1..20),
        view in any::<bool>(),
        shared in any::<u8>(),
    ) {
        let permissions = if view { VIEW } else { NO_CLIPBOARD };
        let stream: Vec<u8> = [shared].into_iter().chain(messages.concat()).collect();
        let (expected, ends) = reference::restricted(&stream, permissions);
        let mut reader = ClientMessages::after_handshake(permissions);
        let mut rest = &stream[..];
        let (mut passed, mut ended) = (Vec::new(), false);
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() || ended {
                break;
            }
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            let mut chunk = chunk.to_vec();
            ended = reader.filter(&mut chunk, 0).is_err();
            passed.extend(chunk);
        }
        prop_assert_eq!((passed, ended), (expected, ends));

        let mut reader = ClientMessages::after_handshake(FULL);
        let mut all = stream.clone();
        prop_assert_eq!(reader.filter(&mut all, 0), Ok(()));
        all.extend(reader.carried);
        prop_assert_eq!(all, stream);
    }
}
