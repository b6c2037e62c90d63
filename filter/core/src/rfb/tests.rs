use super::*;
use proptest::prelude::*;

const PASSWORD: &str = "geheim12";

fn handshake() -> SecurityHandshake {
    SecurityHandshake::new(Some(Secret(PASSWORD.to_owned())))
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
        if step.failed.is_none() {
            step = handshake.handle_server_end();
        }
        (step.failed.unwrap().into_owned(), step.to_browser)
    };
    let reason = |prefix: &[u8], why: &str| {
        [prefix, &(why.len() as u32).to_be_bytes(), why.as_bytes()].concat()
    };
    let rejected = "the console did not accept its password";
    let unknown = "the console offers no security type that is known";
    let refuses = "the console refuses";
    let mut wrong_password = vec![1, SECURITY_TYPE_VNC];
    wrong_password.extend([[7; 16].as_slice(), &[0, 0, 0, 1]].concat());
    let with_reason = |reason: &[u8]| {
        [&wrong_password, &(reason.len() as u32).to_be_bytes()[..], reason].concat()
    };
    let shown = |reason: &str| format!("{rejected}: {reason}");
    // The server announces four gigabytes.
    let mut endless = [&wrong_password, &[0xff; 4][..]].concat();
    endless.extend(b"x".repeat(500));
    for (version, rest, why, prefix) in [
        (b"RFB 003.008\n", wrong_password.clone(), rejected.to_owned(), &[0][..]),
        (b"RFB 003.008\n", with_reason(b""), rejected.to_owned(), &[0]),
        (b"RFB 003.008\n", with_reason(b"Too many tries"), shown("Too many tries"), &[0]),
        (b"RFB 003.008\n", with_reason(b"can't \"x\"\n"), shown("can't \"x\""), &[0]),
        (b"RFB 003.008\n", with_reason(b"a\r\n\x1b[2Jb"), shown("a\\r\\n\\u{1b}[2Jb"), &[0]),
        (b"RFB 003.008\n", with_reason("a\u{202e}b".as_bytes()), shown("a\\u{202e}b"), &[0]),
        (b"RFB 003.008\n", with_reason(b"\xffno"), shown("\u{fffd}no"), &[0]),
        (b"RFB 003.008\n", endless, shown(&"x".repeat(REASON_LEN_MAX)), &[0]),
        (b"RFB 003.008\n", with_reason(&[7; 64]), shown(&"\\u{7}".repeat(16)), &[0]),
        // Version 3.7 has no reason.
        (b"RFB 003.007\n", wrong_password.clone(), rejected.to_owned(), &[0]),
        (b"RFB 003.008\n", vec![2, 18, 19], unknown.to_owned(), &[0]),
        (b"RFB 003.007\n", b"\0\0\0\0\x04busy".to_vec(), format!("{refuses}: busy"), &[0]),
        (b"RFB 003.007\n", b"\0\0\0\0\x04bu".to_vec(), format!("{refuses}: bu"), &[0]),
        (b"RFB 003.003\n", vec![0, 0, 0, 0], refuses.to_owned(), &[0, 0, 0, 0]),
        (b"RFB 003.003\n", vec![0, 0, 1, 2], unknown.to_owned(), &[0, 0, 0, 0]),
    ] {
        assert!(why.len() <= CLOSE_REASON_LEN_MAX, "it fits a Close frame: {why}");
        assert_eq!(fail(version, &rest), (why.clone(), reason(prefix, &why)));
    }
}

/// Without a password nothing of the browser goes to a target that has not spoken RFB.
#[test]
fn without_a_password_the_server_s_version_opens_the_way() {
    for version in [b"RFB 003.008\n", b"RFB 003.003\n", b"RFB 003.889\n", b"RFB 005.000\n"] {
        for cut in [1, 5, 12] {
            let mut handshake = SecurityHandshake::new(None);
            let early = handshake.handle_browser_bytes(b"early");
            assert_eq!(early, Step::default());
            let (mut to_browser, mut to_server) = (Vec::new(), Vec::new());
            for bytes in version.chunks(cut) {
                assert!(!handshake.is_done() && to_server.is_empty());
                let step = handshake.handle_server_bytes(bytes);
                assert_eq!(step.failed, None);
                to_browser.extend(step.to_browser);
                to_server.extend(step.to_server);
            }
            assert!(handshake.is_done());
            assert_eq!((&to_browser[..], &to_server[..]), (&version[..], &b"early"[..]));
            let step = handshake.handle_server_bytes(b"\x01\x01");
            assert_eq!(step.to_browser, b"\x01\x01");
        }
    }
    for other in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        &[0xff; 100_000],
        b"220 esx ready\r\n",
        b"RFB 003.008 ",
        b"rfb 003.008\n",
    ] {
        let mut handshake = SecurityHandshake::new(None);
        handshake.handle_browser_bytes(b"GET / HTTP/1.1\r\n\r\n");
        let step = handshake.handle_server_bytes(other);
        assert_eq!(step.failed.as_deref(), Some("the console does not speak RFB"));
        assert!(step.to_browser.is_empty() && step.to_server.is_empty());
        assert_eq!(handshake.handle_browser_bytes(b"more"), Step::default());
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
