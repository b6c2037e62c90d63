//! The RFB handshake (RFC 6143 section 7.1) of a console that has a password.
//!
//! `RemoteDisplay.vnc.password` is the hypervisor's secret: whoever has it can open the console at any
//! time. So the filter logs in with it and offers the browser security type None. Both sides speak the
//! version that the browser chose; after the security phase every byte passes.
//!
//! ```text
//! server ─ version ──────────▶ browser
//! server ◀────────── version ─ browser
//! server ─ types ───▶ filter
//! server ◀─── VNC ─── filter
//! server ─ challenge ▶ filter           7.2.2 VNC Authentication
//! server ◀─ response ─ filter
//! server ─ result ──▶ filter ─ None ──▶ browser
//!                     filter ◀── None ─ browser
//!                     filter ─── OK ──▶ browser
//! ```

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use vncgate_api::Secret;

/// Most bytes of one side that wait to be understood. The handshake goes by turns and its longest
/// message, a list of 255 security types, is 256 bytes.
const WAITING_MAX: usize = 512;

/// RFC 6143 7.1.1: `RFB 003.008` and a line feed.
const VERSION_LEN: usize = 12;

/// RFC 6143 7.2.2.
const CHALLENGE_LEN: usize = 16;

/// RFC 6143 7.1.2: security types.
const SECURITY_TYPE_INVALID: u8 = 0;
const SECURITY_TYPE_NONE: u8 = 1;
const SECURITY_TYPE_VNC: u8 = 2;

/// RFC 6143 7.1.3: `SecurityResult`.
const SECURITY_RESULT_OK: u32 = 0;

/// What to send after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Raw RFB bytes for the browser.
    pub to_browser: Vec<u8>,
    /// Raw RFB bytes for the server.
    pub to_server: Vec<u8>,
    /// The console cannot be opened: why. Nothing follows what is to be sent with it.
    pub failed: Option<&'static str>,
}

/// The handshake of one session.
pub struct SecurityHandshake {
    password: Secret,
    state: State,
    from_server: Vec<u8>,
    from_browser: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ServerVersion,
    BrowserVersion,
    SecurityTypes(Version),
    Challenge(Version),
    SecurityResult(Version),
    BrowserChoice(Version),
    Done,
    Failed,
}

/// The versions that differ (RFC 6143 appendix A), oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V3_3,
    V3_7,
    V3_8,
}

impl Version {
    /// Reads `RFB xxx.yyy\n`. What is older than 3.7 is 3.3, and what is newer than 3.8 speaks 3.8.
    fn read(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let (major, minor) = text.strip_prefix("RFB ")?.strip_suffix('\n')?.split_once('.')?;
        match (major.parse::<u16>().ok()?, minor.parse::<u16>().ok()?) {
            (3, 7) => Some(Self::V3_7),
            (3, 0..=6) => Some(Self::V3_3),
            (3.., _) => Some(Self::V3_8),
            _ => None,
        }
    }

    fn as_bytes(self) -> &'static [u8; VERSION_LEN] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => b"RFB 003.008\n",
        }
    }
}

impl SecurityHandshake {
    /// A handshake that will log in with this password. VNC Authentication uses its first 8 bytes.
    pub fn new(password: Secret) -> Self {
        let (from_server, from_browser) = Default::default();
        Self { password, state: State::ServerVersion, from_server, from_browser }
    }

    /// Whether every byte passes from here on.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The server sent.
    pub fn server_bytes(&mut self, bytes: &[u8]) -> Step {
        self.from_server.extend_from_slice(bytes);
        self.advance()
    }

    /// The browser sent.
    pub fn browser_bytes(&mut self, bytes: &[u8]) -> Step {
        self.from_browser.extend_from_slice(bytes);
        self.advance()
    }

    fn advance(&mut self) -> Step {
        let mut step = Step::default();
        if self.state == State::Failed {
            self.from_server.clear();
            self.from_browser.clear();
            return step;
        }
        while let Some(next) = self.turn(&mut step) {
            self.state = next;
        }
        if self.state == State::Done {
            step.to_browser.append(&mut self.from_server);
            step.to_server.append(&mut self.from_browser);
        } else if self.from_server.len().max(self.from_browser.len()) > WAITING_MAX {
            self.state = State::Failed;
            step.failed = Some("more was sent than an RFB handshake has");
        }
        step
    }

    /// One turn of the handshake; `None` if it waits for more bytes or is over.
    fn turn(&mut self, step: &mut Step) -> Option<State> {
        match self.state {
            State::ServerVersion => {
                let message = take::<VERSION_LEN>(&mut self.from_server)?;
                let Some(version) = Version::read(&message) else {
                    return fail(step, "the console does not speak RFB");
                };
                step.to_browser.extend_from_slice(version.as_bytes());
                Some(State::BrowserVersion)
            }
            State::BrowserVersion => {
                let message = take::<VERSION_LEN>(&mut self.from_browser)?;
                let Some(version) = Version::read(&message) else {
                    return fail(step, "the browser does not speak RFB");
                };
                step.to_server.extend_from_slice(version.as_bytes());
                Some(State::SecurityTypes(version))
            }
            State::SecurityTypes(version) => {
                let security_type = match version {
                    Version::V3_3 => chosen_by_server(&mut self.from_server)?,
                    _ => choose(&mut self.from_server)?,
                };
                if version > Version::V3_3 && security_type != SECURITY_TYPE_INVALID {
                    step.to_server.push(security_type);
                }
                match (security_type, version) {
                    (SECURITY_TYPE_VNC, _) => Some(State::Challenge(version)),
                    (SECURITY_TYPE_NONE, Version::V3_8) => Some(State::SecurityResult(version)),
                    (SECURITY_TYPE_NONE, _) => Some(offer_none(step, version)),
                    _ => fail_security(
                        step,
                        version,
                        "the console offers no security type that is known",
                    ),
                }
            }
            State::Challenge(version) => {
                let challenge = take::<CHALLENGE_LEN>(&mut self.from_server)?;
                step.to_server.extend_from_slice(&respond(&self.password, challenge));
                Some(State::SecurityResult(version))
            }
            State::SecurityResult(version) => {
                let result = u32::from_be_bytes(take(&mut self.from_server)?);
                if result == SECURITY_RESULT_OK {
                    Some(offer_none(step, version))
                } else {
                    fail_security(step, version, "the console did not accept its password")
                }
            }
            State::BrowserChoice(version) => {
                let [choice] = take(&mut self.from_browser)?;
                if choice != SECURITY_TYPE_NONE {
                    return fail(step, "the browser chose a security type that was not offered");
                }
                if version == Version::V3_8 {
                    step.to_browser.extend_from_slice(&SECURITY_RESULT_OK.to_be_bytes());
                }
                Some(State::Done)
            }
            State::Done | State::Failed => None,
        }
    }
}

fn fail(step: &mut Step, why: &'static str) -> Option<State> {
    step.failed = Some(why);
    Some(State::Failed)
}

/// Fails as a server does in the security phase: no type, and a reason (RFC 6143 7.1.2).
fn fail_security(step: &mut Step, version: Version, why: &'static str) -> Option<State> {
    match version {
        Version::V3_3 => step.to_browser.extend_from_slice(&[0, 0, 0, SECURITY_TYPE_INVALID]),
        _ => step.to_browser.push(0),
    }
    step.to_browser.extend_from_slice(&(why.len() as u32).to_be_bytes());
    step.to_browser.extend_from_slice(why.as_bytes());
    fail(step, why)
}

/// Offers the browser security type None, as a server of this version does.
fn offer_none(step: &mut Step, version: Version) -> State {
    match version {
        // RFC 6143 A.1: the server decides, and ClientInit follows.
        Version::V3_3 => {
            step.to_browser.extend_from_slice(&[0, 0, 0, SECURITY_TYPE_NONE]);
            State::Done
        }
        _ => {
            step.to_browser.extend_from_slice(&[1, SECURITY_TYPE_NONE]);
            State::BrowserChoice(version)
        }
    }
}

/// RFC 6143 A.1: a version 3.3 server names the one type, in 32 bits.
fn chosen_by_server(from_server: &mut Vec<u8>) -> Option<u8> {
    let security_type = u32::from_be_bytes(take(from_server)?);
    Some(u8::try_from(security_type).unwrap_or(SECURITY_TYPE_INVALID))
}

/// RFC 6143 7.1.2: a count and the types. VNC Authentication before None: the password is there to be
/// asked for.
fn choose(from_server: &mut Vec<u8>) -> Option<u8> {
    let (count, rest) = from_server.split_first()?;
    let types = rest.get(..usize::from(*count))?;
    let chosen = [SECURITY_TYPE_VNC, SECURITY_TYPE_NONE]
        .into_iter()
        .find(|known| types.contains(known))
        .unwrap_or(SECURITY_TYPE_INVALID);
    let len = types.len().saturating_add(1);
    from_server.drain(..len);
    Some(chosen)
}

/// RFC 6143 7.2.2: the challenge, encrypted with DES under the password. As every implementation does
/// and the RFC's erratum says, the bits of each byte of the key are mirrored.
fn respond(password: &Secret, challenge: [u8; CHALLENGE_LEN]) -> [u8; CHALLENGE_LEN] {
    let mut key = [0; 8];
    for (key, byte) in key.iter_mut().zip(password.0.bytes()) {
        *key = byte.reverse_bits();
    }
    let cipher = Des::new(&Array::from(key));
    let mut response = challenge;
    let (blocks, _) = response.as_chunks_mut::<8>();
    for block in blocks {
        let mut encrypted = Array::from(*block);
        cipher.encrypt_block(&mut encrypted);
        *block = encrypted.into();
    }
    response
}

/// Takes the first bytes once they are all there.
fn take<const LEN: usize>(bytes: &mut Vec<u8>) -> Option<[u8; LEN]> {
    let taken = *bytes.first_chunk::<LEN>()?;
    bytes.drain(..LEN);
    Some(taken)
}

#[cfg(test)]
mod tests {
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
                            handshake.server_bytes(from_server.unwrap_or_default()),
                            handshake.browser_bytes(from_browser.unwrap_or_default()),
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
            0xe8, 0x8b, 0x78, 0x3f, 0xc1, 0xe1, 0xd0, 0xb6, 0x2b, 0xe3, 0x4a, 0x21, 0x4c, 0xc3,
            0xb9, 0x2a,
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
            assert_eq!(handshake().server_bytes(offered).to_browser, spoken);
        }
    }

    #[test]
    fn each_failure_is_said_to_the_browser_in_its_version() {
        let fail = |version: &[u8], rest: &[u8]| {
            let mut handshake = handshake();
            handshake.server_bytes(version);
            handshake.browser_bytes(version);
            let mut step = handshake.server_bytes(rest);
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
        assert!(handshake().server_bytes(b"HTTP/1.1 400 Bad\r\n").failed.is_some());
        let mut silent_browser = handshake();
        silent_browser.server_bytes(b"RFB 003.008\n");
        assert!(silent_browser.server_bytes(&[0; WAITING_MAX + 1]).failed.is_some());
        assert_eq!(silent_browser.server_bytes(&[0; WAITING_MAX + 1]), Step::default());
        assert!(silent_browser.from_server.is_empty());
        let mut other_choice = handshake();
        other_choice.server_bytes(b"RFB 003.007\n");
        other_choice.browser_bytes(b"RFB 003.007\n");
        other_choice.server_bytes(&[1, SECURITY_TYPE_NONE]);
        assert!(other_choice.browser_bytes(&[SECURITY_TYPE_VNC]).failed.is_some());
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
                    true => handshake.server_bytes(&bytes),
                    false => handshake.browser_bytes(&bytes),
                };
                if step.failed.is_some() {
                    break;
                }
                prop_assert!(handshake.from_server.len() <= WAITING_MAX);
                prop_assert!(handshake.from_browser.len() <= WAITING_MAX);
            }
        }
    }
}
