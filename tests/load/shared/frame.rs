//! WebSocket frames (RFC 6455 section 5) as a browser and a server send and read them, at little cost.

use anyhow::{Result, bail, ensure};

const BINARY_FINAL: u8 = 0x82;
/// A message may be in fragments: one of this, continuations, and a final one.
const BINARY: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const CONTINUATION_FINAL: u8 = 0x80;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// The header of a binary message of so many bytes, not masked.
pub fn binary_header(len: usize) -> Vec<u8> {
    let mut header = vec![BINARY_FINAL];
    match len {
        0..=125 => header.push(len as u8),
        126..=0xffff => {
            header.push(126);
            header.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    header
}

/// One masked binary message.
pub fn masked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = binary_header(payload.len());
    frame[1] |= MASKED;
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Reads a server's frames, chunk by chunk.
#[derive(Debug, Default)]
pub struct Deframer {
    header: Vec<u8>,
    /// Bytes of the current frame's payload that are still to come.
    remaining: u64,
}

/// What a chunk held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deframed {
    /// This many bytes of payload.
    Payload(usize),
    /// A Close frame after the payload.
    Close,
}

impl Deframer {
    /// Hands the payload in `chunk`, in place, to `deliver`.
    ///
    /// # Errors
    ///
    /// When the server sends anything but binary messages and a Close, and what `deliver` answers.
    pub fn read(
        &mut self,
        mut chunk: &[u8],
        mut deliver: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Deframed> {
        let mut delivered = 0;
        while !chunk.is_empty() {
            if self.remaining == 0 {
                self.header.push(chunk[0]);
                chunk = &chunk[1..];
                match self.header[0] {
                    BINARY_FINAL | BINARY | CONTINUATION | CONTINUATION_FINAL => {}
                    CLOSE => return Ok(Deframed::Close),
                    first => bail!("a frame that begins with {first:#04x}"),
                }
                if let Some(len) = payload_len(&self.header) {
                    self.remaining = len;
                    self.header.clear();
                }
                continue;
            }
            let len = self.remaining.min(chunk.len() as u64) as usize;
            let (payload, rest) = chunk.split_at(len);
            deliver(payload)?;
            delivered += len;
            self.remaining -= len as u64;
            chunk = rest;
        }
        Ok(Deframed::Payload(delivered))
    }
}

/// The length that a server's frame header announces; `None` while the header is incomplete.
fn payload_len(header: &[u8]) -> Option<u64> {
    match header {
        [_, 127, a, b, c, d, e, f, g, h] => {
            Some(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        [_, 126, a, b] => Some(u64::from(u16::from_be_bytes([*a, *b]))),
        [_, len @ 0..=125] => Some(u64::from(*len)),
        _ => None,
    }
}

/// Reads a client's frames, chunk by chunk.
#[derive(Debug, Default)]
pub struct Unmasker {
    header: Vec<u8>,
    /// Bytes of the current frame's payload that are still to come.
    remaining: u64,
    /// The current frame's mask, from the next byte on.
    mask: [u8; 4],
}

/// What a chunk of a client's held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmasked {
    /// So many bytes of payload, which are now at the chunk's beginning.
    Payload(usize),
    /// A Close frame; payload before it is left out, for a client that leaves waits for nothing.
    Close,
}

impl Unmasker {
    /// Unmasks the payload in a chunk.
    ///
    /// # Errors
    ///
    /// When the client sends anything but masked binary messages and a Close.
    pub fn read(&mut self, chunk: &mut [u8]) -> Result<Unmasked> {
        let (mut next, mut kept) = (0, 0);
        while next < chunk.len() {
            if self.remaining == 0 {
                self.header.push(chunk[next]);
                next += 1;
                match self.header[0] {
                    BINARY_FINAL | BINARY | CONTINUATION | CONTINUATION_FINAL => {}
                    CLOSE => return Ok(Unmasked::Close),
                    first => bail!("a frame that begins with {first:#04x}"),
                }
                if let [_, second] = &mut self.header[..] {
                    ensure!(*second & MASKED != 0, "a frame without a mask");
                    *second &= !MASKED;
                }
                if let Some((header, &mask)) = self.header.split_last_chunk()
                    && let Some(len) = payload_len(header)
                {
                    (self.remaining, self.mask) = (len, mask);
                    self.header.clear();
                }
                continue;
            }
            let len = self.remaining.min((chunk.len() - next) as u64) as usize;
            chunk.copy_within(next..next + len, kept);
            unmask(&mut chunk[kept..kept + len], self.mask);
            self.mask.rotate_left(len % 4);
            self.remaining -= len as u64;
            next += len;
            kept += len;
        }
        Ok(Unmasked::Payload(kept))
    }
}

/// Eight bytes at a time, as long as there are so many.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([a, b, c, d, a, b, c, d]))
            .to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_comes_out_of_any_split() {
        let payload: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let mut wire = vec![BINARY_FINAL, 3, 1, 2, 3];
        wire.extend([BINARY, 0, CONTINUATION, 0, CONTINUATION_FINAL, 126, 1, 0]);
        wire.extend_from_slice(&payload[..256]);
        wire.extend_from_slice(&[BINARY_FINAL, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        wire.extend_from_slice(&payload);
        let expected = [&[1, 2, 3], &payload[..256], &payload].concat();
        for size in [1, 2, 3, 7, 1000, wire.len()] {
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            for chunk in wire.chunks(size) {
                let deliver = |payload: &[u8]| {
                    got.extend_from_slice(payload);
                    Ok(())
                };
                deframer.read(chunk, deliver).unwrap();
            }
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_clients_payload_comes_out_of_any_split() {
        let payload: Vec<u8> = (0..=255).cycle().take(70_001).collect();
        let wire = [
            masked(&payload[..7], [1, 2, 3, 4]),
            masked(&payload[7..300], [9, 8, 7, 6]),
            masked(&[], [5; 4]),
            masked(&payload[300..], [0xfa, 1, 0, 0x80]),
        ]
        .concat();
        for size in [1, 2, 3, 7, 1000, wire.len()] {
            let (mut unmasker, mut got) = (Unmasker::default(), Vec::new());
            for chunk in wire.chunks(size) {
                let mut chunk = chunk.to_vec();
                let Unmasked::Payload(len) = unmasker.read(&mut chunk).unwrap() else {
                    panic!("no Close was sent");
                };
                got.extend_from_slice(&chunk[..len]);
            }
            assert_eq!(got, payload);
        }
    }

    #[test]
    fn a_client_that_does_not_mask_or_leaves_is_told_apart() {
        assert!(Unmasker::default().read(&mut [0x82, 1]).is_err());
        assert!(Unmasker::default().read(&mut [0x81, 0x80]).is_err());
        let close = Unmasker::default().read(&mut [0x88, 0x80, 0, 0, 0, 0]).unwrap();
        assert_eq!(close, Unmasked::Close);
    }

    #[test]
    fn a_close_ends_the_stream_and_text_is_refused() {
        let close = Deframer::default().read(&[0x88, 2, 3, 0xe8], |_| Ok(())).unwrap();
        assert_eq!(close, Deframed::Close);
        assert!(Deframer::default().read(&[0x81, 0], |_| Ok(())).is_err());
    }

    #[test]
    fn a_masked_frame_is_what_the_rfc_shows() {
        // RFC 6455 5.7, with the opcode of binary messages.
        let expected = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(masked(b"Hello", [0x37, 0xfa, 0x21, 0x3d]), expected);
    }
}
