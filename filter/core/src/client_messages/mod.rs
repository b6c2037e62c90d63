//! What a browser tells its console: RFB's client messages (RFC 6143 7.5), and which of them may pass.
//!
//! [`ClientMessages`] reads them from a stream that may be cut anywhere, and takes out in place what the session's token
//! does not allow. It keeps no message: of one whose first bytes are cut it keeps those, at most 8, and of a longer one
//! it counts what is left. So a message may announce any length.
//!
//! # Why nothing else reaches the console
//!
//! What passes has to be read by the console as it was read here, or a message could be hidden in another. So what passes
//! has one length in every version of the protocol:
//!
//! - The filter does a VNC console's security handshake itself ([`crate::rfb`]), and of a WebMKS console it lets the one of
//!   RFB 3.7 and 3.8 pass. What follows begins at a byte that both sides know.
//! - A message whose length is not known ends the session.
//! - A message that tells its own length passes in the one that its type has.
//! - The extension by which a `PointerEvent` grows by a byte is taken out of `SetEncodings`: the filter would have to know
//!   whether the console has agreed to it.
//! - `ClientCutText`, whose length the Extended Clipboard changes, passes in no restricted session.
//!
//! A session without restriction may be read too, to learn when its user last did something. Then everything passes, and
//! what cannot be read counts as input from there on.
//!
//! | module | job |
//! |---|---|
//! | `message` | each type's length and purpose |

mod message;

use message::{EXTENDED_MOUSE_BUTTONS, HEADER_LEN_MAX, Message, Purpose, fixed};
use std::borrow::Cow;
use std::ops::Range;
use vncgate_api::Access;

/// RFC 6143 7.1.1: `RFB 003.008` and a line feed.
const VERSION_LEN: usize = 12;
/// The versions in which the client chooses its security type, so that its bytes alone tell what it is.
const VERSIONS: [&[u8]; 2] = [b"RFB 003.007\n", b"RFB 003.008\n"];

/// RFC 6143 7.1.2: security types.
const SECURITY_TYPE_NONE: u8 = 1;
const SECURITY_TYPE_VNC: u8 = 2;
/// RFC 6143 7.2.2: the response to a challenge.
const VNC_RESPONSE_LEN: u64 = 16;

/// `ClientInit` of a client that leaves the others their console (RFC 6143 7.3.1).
const SHARED: u8 = 1;

/// An encoding that no server has, in the place of one that is taken out: `vncG`.
const NO_ENCODING: i32 = 0x766e_6347;

/// Which messages of a browser may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// What the user may do.
    pub access: Access,
    /// Whether the user may send a clipboard. For a user who may view only it is no matter.
    pub clipboard: bool,
}

impl Permissions {
    /// Whether every message may pass.
    pub fn are_full(self) -> bool {
        self == Self { access: Access::Control, clipboard: true }
    }

    fn allow(self, purpose: Purpose) -> bool {
        let control = self.access == Access::Control;
        match purpose {
            Purpose::Picture | Purpose::Encodings => true,
            Purpose::Input | Purpose::Machine => control,
            Purpose::Clipboard => control && self.clipboard,
            Purpose::Unknown => self.are_full(),
        }
    }
}

/// Reads what a browser sends to its console, and takes out what may not pass.
#[derive(Debug)]
pub struct ClientMessages {
    permissions: Permissions,
    state: State,
    /// The first bytes of what comes next, while they do not tell its length.
    carried: Vec<u8>,
    /// The client has announced [`EXTENDED_MOUSE_BUTTONS`], and the console was told.
    extended_pointer: bool,
    has_new_input: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// RFC 6143 7.1.1 and 7.1.2, of a WebMKS console.
    Version,
    SecurityType,
    /// RFC 6143 7.3.1.
    ClientInit,
    /// A message begins.
    Message,
    /// So many bytes are left of something that passes or does not, and then comes the next state.
    Rest {
        remaining: u64,
        passes: bool,
        after_handshake: bool,
    },
    /// So many encodings are left of a `SetEncodings`.
    Encodings(u16),
    /// What follows cannot be read.
    Lost,
}

impl ClientMessages {
    /// Reads a browser from its `ClientInit` on, which follows the security handshake (RFC 6143 7.3.1).
    pub fn after_handshake(permissions: Permissions) -> Self {
        Self {
            permissions,
            state: State::ClientInit,
            carried: Vec::new(),
            extended_pointer: false,
            has_new_input: false,
        }
    }

    /// Reads a browser from its first byte on, of a console whose server speaks RFB 3.7 or later.
    pub fn from_version(permissions: Permissions) -> Self {
        Self { state: State::Version, ..Self::after_handshake(permissions) }
    }

    /// Whether something may not pass.
    pub fn restricts(&self) -> bool {
        !self.permissions.are_full()
    }

    /// Whether a key, the pointer or a clipboard has come since the last call.
    pub fn take_new_input(&mut self) -> bool {
        std::mem::take(&mut self.has_new_input)
    }

    /// Takes out of the chunk, from an offset on, what may not pass, in place. What is kept of a message's first bytes goes
    /// before a later chunk.
    ///
    /// Moves each byte at most once, what passes side by side in one piece, and allocates for a message that is cut.
    ///
    /// # Errors
    ///
    /// Why the session has to end, in words of at most 123 bytes: what comes next cannot be read, and a restricted
    /// session lets nothing pass that it has not read. The chunk then has what passes before that.
    pub fn filter(&mut self, chunk: &mut Vec<u8>, from: usize) -> Result<(), Cow<'static, str>> {
        if !self.carried.is_empty() {
            chunk.splice(from..from, self.carried.drain(..));
        }
        let mut read = from;
        // What passes and is not in its place yet, and its place.
        let mut passing = from;
        let mut written = from;
        let outcome = loop {
            let unread = chunk.get(read..).unwrap_or_default();
            let Some(kind) = unread.first() else { break Ok(()) };
            // Most of what clients send, in a few instructions.
            if self.state == State::Message
                && let Some((purpose, len)) = fixed(*kind)
                && unread.len() >= usize::from(len)
                && self.may_pass(purpose)
            {
                read = read.saturating_add(len.into());
                continue;
            }
            let part = match self.next_part(unread) {
                Ok(Some(part)) => part,
                Ok(None) => {
                    self.carried.extend_from_slice(unread);
                    break Ok(());
                }
                Err(why) if self.restricts() => {
                    self.state = State::Lost;
                    break Err(why);
                }
                Err(_) => {
                    self.state = State::Lost;
                    continue;
                }
            };
            if let Some(instead) = part.instead {
                let place = chunk.get_mut(read..).unwrap_or_default();
                for (byte, other) in place.iter_mut().take(part.len).zip(instead) {
                    *byte = other;
                }
            }
            let end = read.saturating_add(part.len);
            if !part.passes {
                written = close_up(chunk, passing..read, written);
                passing = end;
            }
            read = end;
        };
        written = close_up(chunk, passing..read, written);
        chunk.truncate(written);
        outcome
    }

    /// Takes the next bytes of the same fate. `None`: they do not tell it yet. Never takes none or more than there are.
    fn next_part(&mut self, unread: &[u8]) -> Result<Option<Part>, Cow<'static, str>> {
        match self.state {
            State::Version => {
                let Some(version) = unread.get(..VERSION_LEN) else {
                    return Ok(None);
                };
                if !VERSIONS.contains(&version) {
                    return Err("rfb_version: this session needs RFB 3.7 or 3.8".into());
                }
                self.state = State::SecurityType;
                Ok(Some(Part::passing(VERSION_LEN)))
            }
            State::SecurityType => {
                self.state = match unread.first() {
                    Some(&SECURITY_TYPE_NONE) => State::ClientInit,
                    Some(&SECURITY_TYPE_VNC) => State::Rest {
                        remaining: VNC_RESPONSE_LEN,
                        passes: true,
                        after_handshake: true,
                    },
                    _ => {
                        return Err("security_type: this session needs None or VNC".into());
                    }
                };
                Ok(Some(Part::passing(1)))
            }
            State::ClientInit => {
                self.state = State::Message;
                // A client that does not share would end the sessions of others.
                let views = self.permissions.access == Access::View;
                let instead = views.then_some([SHARED, 0, 0, 0]);
                Ok(Some(Part { instead, ..Part::passing(1) }))
            }
            State::Message => self.begin_message(unread),
            State::Rest { remaining, passes, after_handshake } => {
                Ok(Some(self.take_rest(unread, remaining, passes, after_handshake)))
            }
            State::Encodings(left) => {
                let Some(encoding) = unread.first_chunk::<4>() else { return Ok(None) };
                let left = left.saturating_sub(1);
                self.state = if left == 0 { State::Message } else { State::Encodings(left) };
                let mut part = Part::passing(4);
                if i32::from_be_bytes(*encoding) == EXTENDED_MOUSE_BUTTONS {
                    if self.restricts() {
                        part.instead = Some(NO_ENCODING.to_be_bytes());
                    } else {
                        self.extended_pointer = true;
                    }
                }
                Ok(Some(part))
            }
            State::Lost => {
                self.has_new_input = true;
                Ok(Some(Part { passes: !self.restricts(), ..Part::passing(unread.len()) }))
            }
        }
    }

    fn begin_message(&mut self, unread: &[u8]) -> Result<Option<Part>, Cow<'static, str>> {
        let header = unread.get(..HEADER_LEN_MAX).unwrap_or(unread);
        let message = Message::read(header, self.extended_pointer);
        let message = message.map_err(|message::UnknownLength(kind)| {
            Cow::Owned(format!("unknown_message: this session may send no message of type {kind}"))
        })?;
        let Some(Message { purpose, len, encodings }) = message else { return Ok(None) };
        let passes = self.may_pass(purpose);
        if purpose == Purpose::Encodings {
            if unread.len() < 4 {
                return Ok(None);
            }
            self.state = if encodings == 0 { State::Message } else { State::Encodings(encodings) };
            return Ok(Some(Part::passing(4)));
        }
        Ok(Some(self.take_rest(unread, len, passes, false)))
    }

    /// Whether a message may pass that begins here.
    fn may_pass(&mut self, purpose: Purpose) -> bool {
        // What is not known may be input.
        self.has_new_input |=
            matches!(purpose, Purpose::Input | Purpose::Clipboard | Purpose::Unknown);
        self.permissions.allow(purpose)
    }

    /// Takes as much as there is of so many bytes that pass or do not.
    fn take_rest(&mut self, unread: &[u8], len: u64, passes: bool, after_handshake: bool) -> Part {
        let here = usize::try_from(len).unwrap_or(usize::MAX).min(unread.len());
        let remaining = len.saturating_sub(here as u64);
        self.state = match (remaining, after_handshake) {
            (0, true) => State::ClientInit,
            (0, false) => State::Message,
            _ => State::Rest { remaining, passes, after_handshake },
        };
        Part { passes, ..Part::passing(here) }
    }
}

/// Moves the bytes to an earlier place. Returns where they end there.
fn close_up(chunk: &mut [u8], bytes: Range<usize>, place: usize) -> usize {
    let end = place.saturating_add(bytes.len());
    if bytes.start != place {
        chunk.copy_within(bytes, place);
    }
    end
}

/// Bytes of the same fate.
struct Part {
    len: usize,
    passes: bool,
    /// What passes in the place of the first bytes.
    instead: Option<[u8; 4]>,
}

impl Part {
    fn passing(len: usize) -> Self {
        Self { len, passes: true, instead: None }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod reference;
#[cfg(test)]
mod tests;
