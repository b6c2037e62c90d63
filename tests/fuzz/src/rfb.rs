//! The filter's login to a console with a password: both sides conforming, in any split, or hostile.

use arbitrary::Arbitrary;
use des::Des;
use des::cipher::{Array, BlockCipherDecrypt as _, KeyInit as _};
use vncgate_api::Secret;
use vncgate_filter_core::rfb::SecurityHandshake;

/// The password of every console here.
pub const PASSWORD: &str = "pass word";

/// Most bytes that a side sends before the handshake is over: they have to fit into what the filter keeps.
const EARLY_MAX: usize = 400;

/// Both sides of a login.
#[derive(Arbitrary, Debug)]
pub enum Input<'a> {
    /// Both conform to RFC 6143. `turns` says which side sends how much next.
    Conforming {
        /// What both sides send.
        script: Script,
        /// The low bit is the side, the rest the number of bytes.
        turns: Vec<u8>,
    },
    /// Pairs of a side and any byte.
    Hostile(&'a [u8]),
}

/// A version that both sides speak.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 6143 A.1: the server chooses the security type.
    V3_3,
    /// RFC 6143 A.2.
    V3_7,
    /// RFC 6143 7.1.
    V3_8,
}

/// What a conforming server and a conforming browser send.
#[derive(Arbitrary, Clone, Debug)]
pub struct Script {
    version: Version,
    challenge: [u8; 16],
    other_types: [u8; 3],
    server_data: Vec<u8>,
    browser_data: Vec<u8>,
}

impl Script {
    fn version(&self) -> &'static [u8; 12] {
        match self.version {
            Version::V3_3 => b"RFB 003.003\n",
            Version::V3_7 => b"RFB 003.007\n",
            Version::V3_8 => b"RFB 003.008\n",
        }
    }

    /// Everything that the server sends.
    pub fn server(&self) -> Vec<u8> {
        let types = match self.version {
            Version::V3_3 => vec![0, 0, 0, 2],
            _ => {
                let [a, b, c] = self.other_types;
                vec![4, a, 2, b, c]
            }
        };
        let data = early(&self.server_data);
        [self.version().as_slice(), &types, &self.challenge, &[0; 4], data].concat()
    }

    /// Everything that the browser sends.
    pub fn browser(&self) -> Vec<u8> {
        let choice: &[u8] = if self.version == Version::V3_3 { &[] } else { &[1] };
        [self.version().as_slice(), choice, early(&self.browser_data)].concat()
    }

    /// Asserts that each side received what it has to receive.
    ///
    /// # Panics
    ///
    /// Where it differs.
    pub fn assert_received(&self, to_browser: &[u8], to_server: &[u8]) {
        let offer: &[u8] = match self.version {
            Version::V3_3 => &[0, 0, 0, 1],
            Version::V3_7 => &[1, 1],
            Version::V3_8 => &[1, 1, 0, 0, 0, 0],
        };
        let expected = [self.version().as_slice(), offer, early(&self.server_data)].concat();
        assert_eq!(to_browser, expected, "to the browser");

        let choice: &[u8] = if self.version == Version::V3_3 { &[] } else { &[2] };
        let before = [self.version().as_slice(), choice].concat();
        let (start, rest) = to_server.split_at(before.len().min(to_server.len()));
        assert_eq!(start, before, "to the server, before the response");
        let (response, data) = rest.split_first_chunk::<16>().expect("a response");
        assert_eq!(decrypt(*response), self.challenge, "the response");
        assert_eq!(data, early(&self.browser_data), "to the server, after the response");
    }
}

fn early(data: &[u8]) -> &[u8] {
    &data[..data.len().min(EARLY_MAX)]
}

/// Decrypts a response with the password (RFC 6143 7.2.2): the challenge that it answers.
fn decrypt(response: [u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    for (key, byte) in key.iter_mut().zip(PASSWORD.bytes()) {
        *key = byte.reverse_bits();
    }
    let cipher = Des::new(&Array::from(key));
    let mut challenge = [0; 16];
    for (block, out) in response.chunks_exact(8).zip(challenge.chunks_exact_mut(8)) {
        let mut block = Array::try_from(block).expect("eight bytes");
        cipher.decrypt_block(&mut block);
        out.copy_from_slice(&block);
    }
    challenge
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    let mut login = SecurityHandshake::new(Some(Secret(PASSWORD.to_owned())));
    match input {
        Input::Conforming { script, turns } => conforming(&mut login, &script, &turns),
        Input::Hostile(bytes) => hostile(&mut login, bytes),
    }
}

fn conforming(login: &mut SecurityHandshake, script: &Script, turns: &[u8]) {
    let (server, browser) = (script.server(), script.browser());
    let (mut from_server, mut from_browser) = (server.as_slice(), browser.as_slice());
    let (mut to_server, mut to_browser) = (Vec::new(), Vec::new());
    // The last turns send the rest.
    for turn in turns.iter().copied().chain([u8::MAX; 8]).chain([u8::MAX - 1; 8]) {
        let (side, len) = if turn & 1 == 0 {
            (&mut from_server, usize::from(turn >> 1))
        } else {
            (&mut from_browser, usize::from(turn >> 1))
        };
        let (chunk, rest) = side.split_at(len.min(side.len()));
        *side = rest;
        let step = if turn & 1 == 0 {
            login.handle_server_bytes(chunk)
        } else {
            login.handle_browser_bytes(chunk)
        };
        assert_eq!(step.failed, None);
        to_server.extend(step.to_server);
        to_browser.extend(step.to_browser);
    }
    assert!(login.is_done());
    script.assert_received(&to_browser, &to_server);
}

fn hostile(login: &mut SecurityHandshake, bytes: &[u8]) {
    let mut failed = false;
    for [who, byte] in bytes.as_chunks().0 {
        let step = if who & 1 == 0 {
            login.handle_server_bytes(&[*byte])
        } else {
            login.handle_browser_bytes(&[*byte])
        };
        assert!(step.failed.is_none() || !failed, "fails once");
        failed |= step.failed.is_some();
        assert!(!(failed && login.is_done()), "a failed login passes bytes");
        for out in [&step.to_server, &step.to_browser] {
            assert!(!out.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
        }
    }
}
