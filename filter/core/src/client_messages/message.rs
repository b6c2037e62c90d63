//! The types of client messages: how long each is, and what it is for.
//!
//! | type | message | bytes | from |
//! |---|---|---|---|
//! | 0 | `SetPixelFormat` | 20 | RFC 6143 7.5.1 |
//! | 2 | `SetEncodings` | 4, and 4 for each encoding | 7.5.2 |
//! | 3 | `FramebufferUpdateRequest` | 10 | 7.5.3 |
//! | 4 | `KeyEvent` | 8 | 7.5.4 |
//! | 5 | `PointerEvent` | 6, or 7 with [`EXTENDED_MOUSE_BUTTONS`] | 7.5.5 and rfbproto |
//! | 6 | `ClientCutText` | 8, and the text; a negative length is the Extended Clipboard's | 7.5.6 and rfbproto |
//! | 127 | VMware's, with a type of their own | as the message says | VMware's WMKS client |
//! | 150 | `EnableContinuousUpdates` | 10 | rfbproto |
//! | 248 | `ClientFence` | 9, and a payload | rfbproto |
//! | 250 | `xvp` | 4 | rfbproto |
//! | 251 | `SetDesktopSize` | 8, and 16 for each screen | rfbproto |
//! | 255 | QEMU's: 0 `ExtendedKeyEvent`, 1 audio | 12; 4 or 10 | rfbproto |
//!
//! rfbproto is the community's collection of the protocol's extensions. Any other type has no length that is known.
//!
//! A message that says how long it is may be longer than what the console reads of it: the console could take the rest for
//! further messages. So VMware's messages have a known purpose in the length alone that its client gives them, and a fence
//! up to the 64 bytes that a payload may have.

/// The pseudo-encoding by which a client asks for pointer events of 7 bytes, which have bit 7 of their buttons set.
pub(super) const EXTENDED_MOUSE_BUTTONS: i32 = -316;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The picture, and when it is sent.
    Picture,
    /// `SetEncodings`: the picture as well, and the client's extensions.
    Encodings,
    /// Keys and pointer.
    Input,
    /// The client's clipboard.
    Clipboard,
    /// The size of the screen, or the machine's power.
    Machine,
    /// A message whose purpose is not known.
    Unknown,
}

/// A message by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) purpose: Purpose,
    /// Bytes of the message in all. Of [`Purpose::Encodings`], those before the list.
    pub(super) len: u64,
    /// How many encodings follow.
    pub(super) encodings: u16,
}

/// Most bytes that tell a message's length.
pub(super) const HEADER_LEN_MAX: usize = 9;

/// rfbproto: "the length of the payload … up to 64".
const FENCE_PAYLOAD_LEN_MAX: u8 = 64;

/// A message whose length is not known, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownLength(pub(super) u8);

/// The messages that are as long as their type says.
pub(super) const fn fixed(kind: u8) -> Option<(Purpose, u8)> {
    match kind {
        0 => Some((Purpose::Picture, 20)),
        3 | 150 => Some((Purpose::Picture, 10)),
        4 => Some((Purpose::Input, 8)),
        250 => Some((Purpose::Machine, 4)),
        _ => None,
    }
}

impl Message {
    /// Reads the first bytes of a message. `None` while there are too few of them. `extended_pointer`: the client has
    /// announced [`EXTENDED_MOUSE_BUTTONS`].
    pub(super) fn read(
        bytes: &[u8],
        extended_pointer: bool,
    ) -> Result<Option<Self>, UnknownLength> {
        use Purpose::{Clipboard, Encodings, Input, Machine, Picture};
        let message = |purpose, len: u64| Ok(Some(Self { purpose, len, encodings: 0 }));
        let plus = |len: u64, count: u8, each: u64| {
            len.saturating_add(u64::from(count).saturating_mul(each))
        };
        if let [kind, ..] = *bytes
            && let Some((purpose, len)) = fixed(kind)
        {
            return message(purpose, len.into());
        }
        match *bytes {
            [2, _, high, low, ..] => {
                let encodings = u16::from_be_bytes([high, low]);
                Ok(Some(Self { purpose: Encodings, len: 4, encodings }))
            }
            [5, buttons, ..] if extended_pointer && buttons & 0x80 != 0 => message(Input, 7),
            [5, _, ..] => message(Input, 6),
            [6, _, _, _, a, b, c, d, ..] => {
                let len = i32::from_be_bytes([a, b, c, d]).unsigned_abs();
                message(Clipboard, u64::from(len).saturating_add(8))
            }
            [127, kind, high, low, ..] => match u64::from(u16::from_be_bytes([high, low])) {
                // Its length includes these four bytes.
                0..4 => Err(UnknownLength(127)),
                len => message(vmware_purpose(kind, len), len),
            },
            [248, _, _, _, _, _, _, _, len, ..] => {
                let purpose = if len > FENCE_PAYLOAD_LEN_MAX { Purpose::Unknown } else { Picture };
                message(purpose, plus(9, len, 1))
            }
            [251, _, _, _, _, _, screens, ..] => message(Machine, plus(8, screens, 16)),
            [255, 0, ..] => message(Input, 12),
            // Sound for the client: on, off, and its format.
            [255, 1, 0, 0 | 1, ..] => message(Picture, 4),
            [255, 1, 0, 2, ..] => message(Picture, 10),
            [255, 1, 0] | [255, 1] => Ok(None),
            [2 | 5 | 6 | 127 | 248 | 251 | 255] | [] => Ok(None),
            [2 | 6 | 127 | 248 | 251, ..] => Ok(None),
            [other, ..] => Err(UnknownLength(other)),
        }
    }
}

/// What VMware's own client messages are for, as far as its WMKS client tells, which sends them in these lengths.
fn vmware_purpose(kind: u8, len: u64) -> Purpose {
    match (kind, len) {
        // KeyEvent, PointerEvent2, KeyEvent2.
        (0, 8) | (2, 19) | (6, 10) => Purpose::Input,
        // ClientCaps, UpdateAck, AudioAck.
        (3 | 4, 8) | (7, 12) => Purpose::Picture,
        // RequestResolution2.
        (5, 8) => Purpose::Machine,
        // SessionClose (12) among them, which is for a desktop session.
        _ => Purpose::Unknown,
    }
}
