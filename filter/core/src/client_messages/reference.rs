//! A second reader of client messages, written from the tables of RFC 6143 7.5 and of the rfbproto collection and not from
//! the first one: it has the whole stream at once. Tests and the fuzz target compare the two.

use super::Permissions;
use vncgate_api::Access;

/// A row: a message's type, its bytes without what repeats, where the count of that stands (offset, bytes), the bytes of
/// each, and who may send it.
struct Row(u8, usize, Option<(usize, usize)>, usize, May);

#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    Always,
    Control,
    Clipboard,
    Unrestricted,
}

const ROWS: &[Row] = &[
    Row(0, 20, None, 0, May::Always),
    Row(2, 4, Some((2, 2)), 4, May::Always),
    Row(3, 10, None, 0, May::Always),
    Row(4, 8, None, 0, May::Control),
    Row(5, 6, None, 0, May::Control),
    Row(6, 8, Some((4, 4)), 1, May::Clipboard),
    Row(150, 10, None, 0, May::Always),
    Row(248, 9, Some((8, 1)), 1, May::Always),
    Row(250, 4, None, 0, May::Control),
    Row(251, 8, Some((6, 1)), 16, May::Control),
];

/// Which of VMware's messages (127) may be sent, by their own type and length; others only without restriction.
const VMWARE: &[(u8, usize, May)] = &[
    (0, 8, May::Control),
    (2, 19, May::Control),
    (3, 8, May::Always),
    (4, 8, May::Always),
    (5, 8, May::Control),
    (6, 10, May::Control),
    (7, 12, May::Always),
];

/// The longest payload of a fence (248).
const FENCE: usize = 64;

/// What a restricted session lets pass of a stream that begins with `ClientInit`, and whether the stream ends it.
pub(super) fn restricted(stream: &[u8], permissions: Permissions) -> (Vec<u8>, bool) {
    let mut passed = Vec::new();
    let mut rest = stream;
    if let Some((shared, after)) = rest.split_first() {
        passed.push(if permissions.access == Access::View { 1 } else { *shared });
        rest = after;
    }
    loop {
        let (len, may) = match measure(rest) {
            Measured::Incomplete => return (passed, false),
            Measured::Unknown => return (passed, true),
            Measured::Message(len, may) => (len, may),
        };
        let message = &rest[..len.min(rest.len())];
        let control = permissions.access == Access::Control;
        let passes = match may {
            May::Always => true,
            May::Control => control,
            May::Clipboard => control && permissions.clipboard,
            May::Unrestricted => false,
        };
        if message[0] == 2 {
            passed.extend(&message[..4]);
            for encoding in message[4..].chunks_exact(4) {
                // ExtendedMouseButtons, which a restricted session does not have.
                let is_extended = encoding == (-316_i32).to_be_bytes();
                passed.extend(if is_extended { b"vncG" } else { encoding });
            }
        } else if passes {
            passed.extend(message);
        }
        rest = &rest[message.len()..];
        if rest.is_empty() {
            return (passed, false);
        }
    }
}

enum Measured {
    Incomplete,
    Unknown,
    Message(usize, May),
}

fn measure(bytes: &[u8]) -> Measured {
    let Some(&kind) = bytes.first() else { return Measured::Incomplete };
    if let Some(Row(_, fixed, count, each, may)) = ROWS.iter().find(|row| row.0 == kind) {
        let Some((at, width)) = *count else {
            // A pointer event's second byte tells its length where buttons are extended.
            let needed = if kind == 5 { 2 } else { 1 };
            return match bytes.len() >= needed {
                true => Measured::Message(*fixed, *may),
                false => Measured::Incomplete,
            };
        };
        let Some(field) = bytes.get(at..at + width) else { return Measured::Incomplete };
        let mut count = field.iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
        if kind == 6 && count >= 1 << 31 {
            // Extended Clipboard: the length is negative, and counts all the same.
            count = (1 << 32) - count;
        }
        let count = usize::try_from(count).unwrap();
        let may = if kind == 248 && count > FENCE { May::Unrestricted } else { *may };
        return Measured::Message(fixed + count * each, may);
    }
    match (kind, bytes) {
        (127, [_, own, high, low, ..]) => {
            let len = usize::from(*high) << 8 | usize::from(*low);
            let row = VMWARE.iter().find(|row| (row.0, row.1) == (*own, len));
            match len {
                0..=3 => Measured::Unknown,
                len => Measured::Message(len, row.map_or(May::Unrestricted, |row| row.2)),
            }
        }
        (255, [_, 0, ..]) => Measured::Message(12, May::Control),
        (255, [_, 1, high, low, ..]) => match [*high, *low] {
            [0, 0] | [0, 1] => Measured::Message(4, May::Always),
            [0, 2] => Measured::Message(10, May::Always),
            _ => Measured::Unknown,
        },
        (255, [_, 1, high, ..]) if *high > 0 => Measured::Unknown,
        (255, [_, own, ..]) if *own > 1 => Measured::Unknown,
        (127 | 255, _) => Measured::Incomplete,
        _ => Measured::Unknown,
    }
}
