//! A browser's frames: [`Deframer`] against tungstenite, and against itself in another split.

use crate::peer;
use arbitrary::Arbitrary;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message};
use vncgate_filter_core::websocket::{CloseCode, Deframer, End, PENDING_PONGS_MAX};

/// Bytes that complete a frame which is cut off. The filter judges a frame by its header, tungstenite when it is
/// complete. The filler begins no message, and longer frames stay cut off.
const FILLER: [u8; 4096] = [0; 4096];

/// A close code of the registry that RFC 6455 11.7 sets up.
const BAD_GATEWAY: u16 = 1014;

/// Bytes of a browser, and how they are cut into chunks.
#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    chunk_lens: [u8; 4],
    wire: &'a [u8],
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    payload: Vec<u8>,
    pongs: Vec<u8>,
    end: Option<End>,
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    let whole = read([input.wire].into_iter());
    let split = read(chunks(input.wire, input.chunk_lens));
    assert_eq!(split.payload, whole.payload, "payload depends on the split");
    assert_eq!(split.end, whole.end, "end depends on the split");
    if split.pongs.len() <= PENDING_PONGS_MAX {
        assert_eq!(split.pongs, whole.pongs, "Pongs depend on the split");
    }
    compare(&whole, input.wire);
}

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut deframer = Deframer::default();
    let mut read = Read::default();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let deframed = deframer.deframe(&mut chunk);
        assert!(read.end.is_none() || chunk.is_empty(), "payload after the end");
        assert!(read.end.is_none() || deframed == Default::default(), "more after the end");
        read.payload.extend(chunk);
        read.pongs.extend(deframed.pongs);
        read.end = read.end.or(deframed.end);
    }
    read
}

fn chunks(wire: &[u8], lens: [u8; 4]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    let mut lens = lens.into_iter().cycle();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = usize::from(lens.next()?).max(1).min(rest.len());
        let (chunk, after) = rest.split_at(len);
        rest = after;
        Some(chunk)
    })
}

/// Compares `ours` with what tungstenite reads from the same bytes.
fn compare(ours: &Read, wire: &[u8]) {
    let wire = match ours.end {
        Some(End::Failed(..)) => [wire, &FILLER].concat(),
        _ => wire.to_vec(),
    };
    let mut peer = peer(Role::Server, &wire);
    let (mut payload, mut pongs) = (Vec::new(), Vec::new());
    let end = loop {
        match peer.read() {
            Ok(Message::Binary(bytes)) => payload.extend_from_slice(&bytes),
            Ok(Message::Ping(bytes)) => {
                pongs.extend_from_slice(&[0x8a, bytes.len() as u8]);
                pongs.extend_from_slice(&bytes);
            }
            Ok(Message::Pong(_)) => {}
            // The filter ends at its header.
            Ok(Message::Text(_)) => {
                assert!(is_stricter(ours), "{:?} where text ends", ours.end);
                break None;
            }
            Ok(Message::Close(close)) => break Some(Ok(close)),
            Ok(Message::Frame(_)) => unreachable!("frames are not asked for"),
            Err(error) => break Some(Err(error)),
        }
    };
    // The filter passes fragments before their message is complete, and stops earlier on an error.
    let failed = matches!(ours.end, Some(End::Failed(..)));
    assert!(ours.payload.starts_with(&payload) || failed, "another payload");
    if ours.pongs.len() < PENDING_PONGS_MAX && !failed {
        assert_eq!(ours.pongs, pongs, "other Pongs");
    }
    match end {
        _ if is_stricter(ours) => {}
        None => {}
        Some(Ok(close)) => match (ours.end, close) {
            (Some(End::Closed(None)), None) => {}
            // Registered after tungstenite's list was made, so 1002 to it as below.
            (Some(End::Closed(Some(CloseCode(BAD_GATEWAY)))), Some(_)) => {}
            (Some(End::Closed(Some(code))), Some(close)) => {
                assert_eq!(u16::from(close.code), code.0, "another close code");
            }
            // tungstenite replaces a code that may not be sent by 1002.
            (Some(End::Failed(CloseCode::PROTOCOL_ERROR, _)), Some(close)) => {
                assert_eq!(u16::from(close.code), 1002, "{:?}", ours.end);
            }
            (_, close) => panic!("{:?} for {close:?}", ours.end),
        },
        Some(Err(Error::Utf8(_))) => {
            // The code of a Close frame may be wrong as well, and the filter checks it first.
            let in_close = fails_with(ours, CloseCode::INVALID_PAYLOAD)
                || fails_with(ours, CloseCode::PROTOCOL_ERROR);
            assert!(in_close, "{:?}", ours.end);
        }
        Some(Err(Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ))) => {
            // The filler has not completed the frame, so tungstenite has not read it.
            assert!(ours.end.is_none() || failed, "{:?} where nothing ends", ours.end);
        }
        Some(Err(Error::Protocol(error))) => assert!(failed, "{:?} for {error}", ours.end),
        // A frame or a message that is too long for tungstenite, which keeps it whole.
        Some(Err(Error::Capacity(_))) => {}
        Some(Err(error)) => panic!("unexpected: {error}"),
    }
}

fn fails_with(ours: &Read, code: CloseCode) -> bool {
    matches!(ours.end, Some(End::Failed(failed_with, _)) if failed_with == code)
}

/// Whether the filter refuses what tungstenite accepts: text, and a length that is not in its shortest form, which
/// RFC 6455 5.2 demands. A control frame with a length in a longer form counts as too long.
fn is_stricter(ours: &Read) -> bool {
    const LENGTHS: [&str; 2] =
        ["payload length out of its form's range", "control frame over 125 bytes"];
    match ours.end {
        Some(End::Failed(code, why)) => {
            code == CloseCode::UNSUPPORTED_DATA || LENGTHS.contains(&why)
        }
        _ => false,
    }
}
