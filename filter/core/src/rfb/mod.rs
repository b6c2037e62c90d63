//! The RFB handshake (RFC 6143 section 7.1).
//!
//! # A console without a password
//!
//! A server speaks first (7.1.1). Until it has sent its version, nothing of the browser goes to it: the target may be
//! another service at that port, which must not be told anything. After the version every byte passes.
//!
//! # A console with a password, or a browser whose messages are read
//!
//! `RemoteDisplay.vnc.password` is the hypervisor's secret: it opens the console at any time, without a token.
//! So the filter logs in with it and offers the browser security type None. Both sides speak the version that
//! the browser chose. After the security phase every byte passes. It does the same, without a password, where the filter
//! has to know at which byte the browser's messages begin ([`crate::client_messages`]).
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

use crate::end::EndCause;
use crate::websocket::CLOSE_REASON_LEN_MAX;
use std::borrow::Cow;
pub(crate) use version::{VERSION_LEN, Version};
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

/// Most bytes of a server's reason that are read. With the words before it they fit a Close frame, whose reason may
/// have 123 bytes.
const REASON_LEN_MAX: usize = 64;

const NOT_ACCEPTED: &str = "the console did not accept its password";
const NO_PASSWORD: &str = "the console has a password that vCenter does not know";
const NO_SECURITY_TYPE: &str = "the console offers no security type that is known";

/// What to send after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Raw RFB bytes for the browser.
    pub to_browser: Vec<u8>,
    /// Raw RFB bytes for the server.
    pub to_server: Vec<u8>,
    /// How many of the last of them come after the handshake: they are the browser's own.
    pub passing: usize,
    /// Why the console cannot be opened, in printable characters. Set once; nothing is sent after this step.
    pub failed: Option<Cow<'static, str>>,
}

/// The security handshake of one session.
pub struct SecurityHandshake {
    login: Login,
    state: State,
    from_server: Vec<u8>,
    from_browser: Vec<u8>,
    failure_cause: Option<EndCause>,
}

/// Who takes part in the security phase.
enum Login {
    /// The browser: it is over for the filter with the server's version.
    ByBrowser,
    /// The filter, without a password.
    WithoutPassword,
    /// The filter, with this password.
    With(Secret),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    ServerVersion,
    BrowserVersion,
    SecurityTypes(Version),
    Challenge(Version),
    SecurityResult(Version),
    /// The server has refused and says why, after these words of ours.
    Reason(Version, &'static str),
    BrowserChoice(Version),
    Done,
    Failed,
}

impl SecurityHandshake {
    /// Creates a handshake that logs in with this password, of which VNC Authentication uses the first 8 bytes.
    /// Without a password it is over with the server's version.
    pub fn new(password: Option<Secret>) -> Self {
        Self::begin(password.map_or(Login::ByBrowser, Login::With))
    }

    /// Creates a handshake as [`Self::new`] does, but that goes through the whole security phase without a password as well.
    pub fn whole(password: Option<Secret>) -> Self {
        Self::begin(password.map_or(Login::WithoutPassword, Login::With))
    }

    fn begin(login: Login) -> Self {
        let (from_server, from_browser, failure_cause) = Default::default();
        let state = State::ServerVersion;
        Self { login, state, from_server, from_browser, failure_cause }
    }

    /// Why the handshake has failed; `None` if it has not.
    pub fn failure_cause(&self) -> Option<EndCause> {
        self.failure_cause
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

    /// Handles the end of what the server sends. Fails a handshake that waits for the server's reason.
    pub fn handle_server_end(&mut self) -> Step {
        let mut step = Step::default();
        if let State::Reason(version, why) = self.state {
            let reason = self.from_server.get(4..).unwrap_or_default();
            let why = explain(why, reason);
            self.state = fail_security(&mut step, version, why);
            self.failure_cause = Some(EndCause::ConsoleRefused);
        }
        step
    }

    fn advance(&mut self) -> Step {
        let mut step = Step::default();
        while let Some(next) = self.take_turn(&mut step) {
            if next == State::Failed {
                self.failure_cause = Some(match self.state {
                    State::ServerVersion => EndCause::NotAConsole,
                    State::BrowserVersion | State::BrowserChoice(_) => {
                        EndCause::BrowserProtocolError
                    }
                    _ => EndCause::ConsoleRefused,
                });
            }
            self.state = next;
        }
        if self.state == State::Done {
            step.to_browser.append(&mut self.from_server);
            step.passing = self.from_browser.len();
            step.to_server.append(&mut self.from_browser);
        } else if self.state == State::Failed {
            self.from_server = Vec::new();
            self.from_browser = Vec::new();
        } else if self.from_server.len().max(self.from_browser.len()) > UNREAD_LEN_MAX {
            self.state = State::Failed;
            let is_browser = self.from_browser.len() > UNREAD_LEN_MAX;
            self.failure_cause = Some(match is_browser {
                true => EndCause::BrowserProtocolError,
                false => EndCause::NotAConsole,
            });
            step.failed = Some("more was sent than an RFB handshake has".into());
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
                if matches!(self.login, Login::ByBrowser) {
                    step.to_browser.extend_from_slice(&message);
                    return Some(State::Done);
                }
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
                let has_password = matches!(self.login, Login::With(_));
                let offered = match version {
                    Version::V3_3 => read_server_choice(&mut self.from_server)?,
                    _ => choose_security_type(&mut self.from_server, has_password)?,
                };
                let security_type = match offered {
                    Offered::Type(SECURITY_TYPE_VNC) if !has_password => {
                        return Some(fail_security(step, version, NO_PASSWORD.into()));
                    }
                    Offered::Type(security_type) => security_type,
                    Offered::Nothing => {
                        return Some(State::Reason(version, "the console refuses"));
                    }
                    Offered::Unknown => {
                        return Some(fail_security(step, version, NO_SECURITY_TYPE.into()));
                    }
                };
                if version > Version::V3_3 {
                    step.to_server.push(security_type);
                }
                match (security_type, version) {
                    (SECURITY_TYPE_VNC, _) => Some(State::Challenge(version)),
                    (_, Version::V3_8) => Some(State::SecurityResult(version)),
                    _ => Some(offer_none(step, version)),
                }
            }
            State::Challenge(version) => {
                let challenge = take::<CHALLENGE_LEN>(&mut self.from_server)?;
                let Login::With(password) = &self.login else { return None };
                step.to_server.extend_from_slice(&respond(password, challenge));
                Some(State::SecurityResult(version))
            }
            State::SecurityResult(version) => {
                let result = u32::from_be_bytes(take(&mut self.from_server)?);
                Some(match (result, version) {
                    (SECURITY_RESULT_OK, _) => offer_none(step, version),
                    // RFC 6143 7.1.3 and A.2: only 3.8 has a reason.
                    (_, Version::V3_8) => State::Reason(version, NOT_ACCEPTED),
                    _ => fail_security(step, version, NOT_ACCEPTED.into()),
                })
            }
            State::Reason(version, why) => {
                let (len, reason) = self.from_server.split_first_chunk::<4>()?;
                let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
                let reason = reason.get(..len.min(REASON_LEN_MAX))?;
                let why = explain(why, reason);
                Some(fail_security(step, version, why))
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
    step.failed = Some(why.into());
    Some(State::Failed)
}

/// Our words, and the server's reason if it gives one. What is not printable is escaped, so that it forges no line of
/// a log.
fn explain(why: &'static str, reason: &[u8]) -> Cow<'static, str> {
    let reason = String::from_utf8_lossy(reason.get(..REASON_LEN_MAX).unwrap_or(reason));
    let mut explained = format!("{why}: ");
    let before = explained.len();
    for character in reason.trim().chars() {
        let rest = CLOSE_REASON_LEN_MAX.saturating_sub(explained.len());
        let escaped = character.escape_debug();
        match character {
            '\'' | '"' if rest > 0 => explained.push(character),
            _ if escaped.clone().map(char::len_utf8).sum::<usize>() <= rest => {
                explained.extend(escaped)
            }
            _ => break,
        }
    }
    if explained.len() == before { why.into() } else { explained.into() }
}

/// Fails as a server does in the security phase: no security type, and a reason (RFC 6143 7.1.2).
fn fail_security(step: &mut Step, version: Version, why: Cow<'static, str>) -> State {
    match version {
        Version::V3_3 => step.to_browser.extend_from_slice(&[0, 0, 0, SECURITY_TYPE_INVALID]),
        _ => step.to_browser.push(0),
    }
    step.to_browser.extend_from_slice(&(why.len() as u32).to_be_bytes());
    step.to_browser.extend_from_slice(why.as_bytes());
    step.failed = Some(why);
    State::Failed
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

/// What a server offers in the security phase.
#[derive(Clone, Copy)]
enum Offered {
    /// VNC Authentication or None.
    Type(u8),
    /// Other types alone.
    Unknown,
    /// No type: a reason follows (RFC 6143 7.1.2).
    Nothing,
}

/// RFC 6143 A.1: a version 3.3 server names the one type, in 32 bits.
fn read_server_choice(from_server: &mut Vec<u8>) -> Option<Offered> {
    let security_type = u32::from_be_bytes(take(from_server)?);
    Some(match u8::try_from(security_type) {
        Ok(SECURITY_TYPE_INVALID) => Offered::Nothing,
        Ok(known @ (SECURITY_TYPE_VNC | SECURITY_TYPE_NONE)) => Offered::Type(known),
        _ => Offered::Unknown,
    })
}

/// RFC 6143 7.1.2: a count, and the types. Chooses VNC Authentication before None if the console has a password, and
/// otherwise after it.
fn choose_security_type(from_server: &mut Vec<u8>, has_password: bool) -> Option<Offered> {
    let (count, rest) = from_server.split_first()?;
    let types = rest.get(..usize::from(*count))?;
    let preferred = match has_password {
        true => [SECURITY_TYPE_VNC, SECURITY_TYPE_NONE],
        false => [SECURITY_TYPE_NONE, SECURITY_TYPE_VNC],
    };
    let chosen = preferred
        .into_iter()
        .find(|supported| types.contains(supported))
        .map_or(if types.is_empty() { Offered::Nothing } else { Offered::Unknown }, Offered::Type);
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
