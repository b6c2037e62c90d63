//! The RFB handshake (RFC 6143 section 7.1) of a console that has a password.
//!
//! `RemoteDisplay.vnc.password` is the hypervisor's secret: it opens the console at any time, without a token.
//! So the filter logs in with it and offers the browser security type None. Both sides speak the version that
//! the browser chose. After the security phase every byte passes.
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

mod version;
mod vnc_auth;

use version::{VERSION_LEN, Version};
use vnc_auth::{CHALLENGE_LEN, respond};
use vncgate_api::Secret;

/// Most bytes of one side that wait for the rest of their message. The sides take turns, and the longest
/// message, a list of 255 security types, has 256 bytes.
const UNREAD_LEN_MAX: usize = 512;

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
    /// Why the console cannot be opened. Set once; nothing is sent after this step.
    pub failed: Option<&'static str>,
}

/// The security handshake of one session.
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

impl SecurityHandshake {
    /// Creates a handshake that logs in with this password. VNC Authentication uses its first 8 bytes.
    pub fn new(password: Secret) -> Self {
        let (from_server, from_browser) = Default::default();
        Self { password, state: State::ServerVersion, from_server, from_browser }
    }

    /// Whether the handshake has succeeded, so that every byte passes from now on.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Handles bytes from the server.
    pub fn handle_server_bytes(&mut self, bytes: &[u8]) -> Step {
        self.from_server.extend_from_slice(bytes);
        self.advance()
    }

    /// Handles bytes from the browser.
    pub fn handle_browser_bytes(&mut self, bytes: &[u8]) -> Step {
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
        while let Some(next) = self.take_turn(&mut step) {
            self.state = next;
        }
        if self.state == State::Done {
            step.to_browser.append(&mut self.from_server);
            step.to_server.append(&mut self.from_browser);
        } else if self.from_server.len().max(self.from_browser.len()) > UNREAD_LEN_MAX {
            self.state = State::Failed;
            step.failed = Some("more was sent than an RFB handshake has");
        }
        step
    }

    /// Takes one turn of the handshake. Returns `None` if it needs more bytes or is over.
    fn take_turn(&mut self, step: &mut Step) -> Option<State> {
        match self.state {
            State::ServerVersion => {
                let message = take::<VERSION_LEN>(&mut self.from_server)?;
                let Some(version) = Version::parse(&message) else {
                    return fail(step, "the console does not speak RFB");
                };
                step.to_browser.extend_from_slice(version.as_bytes());
                Some(State::BrowserVersion)
            }
            State::BrowserVersion => {
                let message = take::<VERSION_LEN>(&mut self.from_browser)?;
                let Some(version) = Version::parse(&message) else {
                    return fail(step, "the browser does not speak RFB");
                };
                step.to_server.extend_from_slice(version.as_bytes());
                Some(State::SecurityTypes(version))
            }
            State::SecurityTypes(version) => {
                let security_type = match version {
                    Version::V3_3 => read_server_choice(&mut self.from_server)?,
                    _ => choose_security_type(&mut self.from_server)?,
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

/// Fails as a server does in the security phase: no security type, and a reason (RFC 6143 7.1.2).
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
fn read_server_choice(from_server: &mut Vec<u8>) -> Option<u8> {
    let security_type = u32::from_be_bytes(take(from_server)?);
    Some(u8::try_from(security_type).unwrap_or(SECURITY_TYPE_INVALID))
}

/// RFC 6143 7.1.2: a count, and the types. Chooses VNC Authentication before None, since the console has a
/// password.
fn choose_security_type(from_server: &mut Vec<u8>) -> Option<u8> {
    let (count, rest) = from_server.split_first()?;
    let types = rest.get(..usize::from(*count))?;
    let chosen = [SECURITY_TYPE_VNC, SECURITY_TYPE_NONE]
        .into_iter()
        .find(|supported| types.contains(supported))
        .unwrap_or(SECURITY_TYPE_INVALID);
    let len = types.len().saturating_add(1);
    from_server.drain(..len);
    Some(chosen)
}

/// Takes the first `LEN` bytes, or none while there are fewer.
fn take<const LEN: usize>(bytes: &mut Vec<u8>) -> Option<[u8; LEN]> {
    let taken = *bytes.first_chunk::<LEN>()?;
    bytes.drain(..LEN);
    Some(taken)
}

#[cfg(test)]
mod tests;
