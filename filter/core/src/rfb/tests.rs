use super::*;
use proptest::prelude::*;

const PASSWORD: &str = "geheim12";

fn handshake() -> SecurityHandshake {
    SecurityHandshake::new(Secret(PASSWORD.to_owned()))
}

/// A script of both sides: what each sends, and what each is to have received in the end.
struct Script {
    server: Vec<Vec<u8>>,
    browser: Vec<Vec<u8>>,
    to_browser: Vec<u8>,
    to_server: Vec<u8>,
}

fn challenge() -> [u8; 16] {
    std::array::from_fn(|at| at as u8)
}

/// Everything that a session with this version and type says, `init` being bytes after it.
fn script(version: &[u8], security_type: u8) -> Script {
    let old = version.ends_with(b"003\n");
    let newest = version.ends_with(b"008\n");
    let mut server = vec![version.to_vec()];
    let mut to_server = version.to_vec();
    if old {
        server.push(vec![0, 0, 0, security_type]);
    } else {
        server.push(vec![3, 16, security_type, 19]);
        to_server.push(security_type);
    }
    if security_type == SECURITY_TYPE_VNC {
        server.push(challenge().to_vec());
        to_server.extend(respond(&Secret(PASSWORD.to_owned()), challenge()));
    }
    if security_type == SECURITY_TYPE_VNC || newest {
        server.push(vec![0; 4]);
    }
    server.push(b"ServerInit".to_vec());
    let mut to_browser = version.to_vec();
    let mut browser = vec![version.to_vec()];
    if old {
        to_browser.extend([0, 0, 0, 1]);
    } else {
        to_browser.extend([1, 1]);
        browser.push(vec![1]);
    }
    if newest {
        to_browser.extend([0; 4]);
    }
    to_browser.extend(b"ServerInit");
    browser.push(b"ClientInit".to_vec());
    to_server.extend(b"ClientInit");
    Script { server, browser, to_browser, to_server }
}

#[test]
fn every_version_and_type_ends_in_the_same_console() {
    for version in [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n"] {
        for security_type in [SECURITY_TYPE_NONE, SECURITY_TYPE_VNC] {
            let script = script(version, security_type);
            // However the two sides' bytes are cut and mixed.
            for cut in 1..=9 {
                let mut handshake = handshake();
                let (mut to_browser, mut to_server) = (Vec::new(), Vec::new());
                let (server, browser) = (script.server.concat(), script.browser.concat());
                let mut server = server.chunks(cut);
                let mut browser = browser.chunks(10 - cut);
                loop {
                    let (from_server, from_browser) = (server.next(), browser.next());
                    if from_server.is_none() && from_browser.is_none() {
                        break;
                    }
                    let steps = [
                        handshake.handle_server_bytes(from_server.unwrap_or_default()),
                        handshake.handle_browser_bytes(from_browser.unwrap_or_default()),
                    ];
                    for step in steps {
                        assert_eq!(step.failed, None);
                        to_browser.extend(step.to_browser);
                        to_server.extend(step.to_server);
                    }
                }
                assert!(handshake.is_done());
                assert_eq!(to_browser, script.to_browser);
                assert_eq!(to_server, script.to_server);
            }
        }
    }
}

#[test]
fn the_response_is_that_of_other_implementations() {
    // openssl enc -des-ecb -nopad -K 1020304050607080 … of the challenge 00..0f, where the key is
    // each byte of the password with its bits mirrored.
    let password = Secret("\u{8}\u{4}\u{c}\u{2}\n\u{6}\u{e}\u{1}".to_owned());
    let expected = [
        0xe8, 0x8b, 0x78, 0x3f, 0xc1, 0xe1, 0xd0, 0xb6, 0x2b, 0xe3, 0x4a, 0x21, 0x4c, 0xc3, 0xb9,
        0x2a,
    ];
    assert_eq!(respond(&password, challenge()), expected);
}

#[test]
fn only_the_first_eight_bytes_of_a_password_count() {
    let long = respond(&Secret("geheim12345".to_owned()), challenge());
    assert_eq!(long, respond(&Secret(PASSWORD.to_owned()), challenge()));
}

#[test]
fn newer_and_odd_versions_are_spoken_as_the_nearest_known() {
    for (offered, spoken) in [
        (b"RFB 003.889\n", b"RFB 003.008\n"),
        (b"RFB 004.001\n", b"RFB 003.008\n"),
        (b"RFB 003.005\n", b"RFB 003.003\n"),
    ] {
        assert_eq!(handshake().handle_server_bytes(offered).to_browser, spoken);
    }
}

#[test]
fn each_failure_is_said_to_the_browser_in_its_version() {
    let fail = |version: &[u8], rest: &[u8]| {
        let mut handshake = handshake();
        handshake.handle_server_bytes(version);
        handshake.handle_browser_bytes(version);
        let mut step = handshake.handle_server_bytes(rest);
        step.to_server.clear();
        (step.failed.unwrap(), step.to_browser)
    };
    let reason = |prefix: &[u8], why: &str| {
        [prefix, &(why.len() as u32).to_be_bytes(), why.as_bytes()].concat()
    };
    let rejected = "the console did not accept its password";
    let unknown = "the console offers no security type that is known";
    let mut wrong_password = vec![1, SECURITY_TYPE_VNC];
    wrong_password.extend([[7; 16].as_slice(), &[0, 0, 0, 1]].concat());
    for (version, rest, why, prefix) in [
        (b"RFB 003.008\n", wrong_password, rejected, &[0][..]),
        (b"RFB 003.008\n", vec![2, 18, 19], unknown, &[0]),
        (b"RFB 003.007\n", vec![0, 0, 0, 0, 4, b'b', b'u', b's', b'y'], unknown, &[0]),
        (b"RFB 003.003\n", vec![0, 0, 0, 0], unknown, &[0, 0, 0, 0]),
        (b"RFB 003.003\n", vec![0, 0, 1, 2], unknown, &[0, 0, 0, 0]),
    ] {
        assert_eq!(fail(version, &rest), (why, reason(prefix, why)));
    }
}

#[test]
fn what_is_no_rfb_fails() {
    assert!(handshake().handle_server_bytes(b"HTTP/1.1 400 Bad\r\n").failed.is_some());
    let mut silent_browser = handshake();
    silent_browser.handle_server_bytes(b"RFB 003.008\n");
    assert!(silent_browser.handle_server_bytes(&[0; UNREAD_LEN_MAX + 1]).failed.is_some());
    assert_eq!(silent_browser.handle_server_bytes(&[0; UNREAD_LEN_MAX + 1]), Step::default());
    assert!(silent_browser.from_server.is_empty());
    let mut other_choice = handshake();
    other_choice.handle_server_bytes(b"RFB 003.007\n");
    other_choice.handle_browser_bytes(b"RFB 003.007\n");
    other_choice.handle_server_bytes(&[1, SECURITY_TYPE_NONE]);
    assert!(other_choice.handle_browser_bytes(&[SECURITY_TYPE_VNC]).failed.is_some());
}

proptest! {
    #[test]
    fn garbage_never_panics_and_waits_within_its_bound(
        events in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20)
    ) {
        let mut handshake = handshake();
        for (from_server, bytes) in events {
            let step = match from_server {
                true => handshake.handle_server_bytes(&bytes),
                false => handshake.handle_browser_bytes(&bytes),
            };
            if step.failed.is_some() {
                break;
            }
            prop_assert!(handshake.from_server.len() <= UNREAD_LEN_MAX);
            prop_assert!(handshake.from_browser.len() <= UNREAD_LEN_MAX);
        }
    }
}
