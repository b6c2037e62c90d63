//! Follows the frames of a stream that passes untouched.

/// First and largest number of bytes that are read at once. A header has at most 14 (RFC 6455 5.2). Where one frame
/// follows the other closely, larger pieces are read, so that a hostile peer's empty frames cost few calls.
const READ_LEN_MIN: usize = 16;
const READ_LEN_MAX: usize = 4096;

/// Longest header of a frame, in bytes.
const HEADER_LEN_MAX: usize = 14;

const CLOSE: u8 = 0x8;

/// Knows where frames begin, by their headers alone, in either direction. Judges nothing: what breaks RFC 6455 is for
/// the peer to refuse.
#[derive(Debug, Default)]
pub struct FrameBoundaries {
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
    /// Bytes of the payload that have not passed.
    remaining: u64,
    closed: bool,
}

impl FrameBoundaries {
    /// Whether the next byte begins a frame.
    pub fn is_at_boundary(&self) -> bool {
        self.header_len == 0 && self.remaining == 0
    }

    /// Whether a Close frame has begun. No frame follows one (RFC 6455 5.5.1).
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    /// Follows `len` bytes that pass. `read` returns the bytes at an offset, at most so many; it is called for
    /// headers only.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn follow<E>(
        &mut self,
        len: usize,
        mut read: impl FnMut(usize, usize) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let mut offset = 0_usize;
        let mut piece = Vec::new();
        let mut piece_start = 0_usize;
        let mut read_len = READ_LEN_MIN;
        while offset < len {
            let unread = len.saturating_sub(offset);
            let passing = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(unread);
            if passing > 0 {
                self.remaining = self.remaining.saturating_sub(passing as u64);
                offset = offset.saturating_add(passing);
                continue;
            }
            let at = offset.saturating_sub(piece_start);
            let byte = match piece.get(at) {
                Some(byte) => *byte,
                None => {
                    piece = read(offset, read_len.min(unread))?;
                    piece_start = offset;
                    read_len = read_len.saturating_mul(4).min(READ_LEN_MAX);
                    match piece.first() {
                        Some(byte) => *byte,
                        None => break,
                    }
                }
            };
            self.push(byte);
            offset = offset.saturating_add(1);
        }
        Ok(())
    }

    /// Follows bytes to the end of the frame that they are in, or begin. Returns how many bytes that takes, or all if
    /// the frame does not end among them.
    pub fn follow_frame(&mut self, bytes: &[u8]) -> usize {
        let mut offset = 0_usize;
        while let Some(byte) = bytes.get(offset) {
            let unread = bytes.len().saturating_sub(offset);
            let passing = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(unread);
            if passing > 0 {
                self.remaining = self.remaining.saturating_sub(passing as u64);
                offset = offset.saturating_add(passing);
            } else {
                self.push(*byte);
                offset = offset.saturating_add(1);
            }
            if self.is_at_boundary() {
                break;
            }
        }
        offset
    }

    /// Takes the next byte of a header.
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.header.get_mut(self.header_len) {
            *slot = byte;
            self.header_len = self.header_len.saturating_add(1);
        }
        let [first, second, extended @ ..] = self.header;
        let extended_len: usize = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_len = if second & 0x80 == 0 { 0 } else { 4 };
        let complete = 2_usize.saturating_add(extended_len).saturating_add(mask_len);
        if self.header_len < 2 || self.header_len < complete {
            return;
        }
        let [a, b, c, d, e, f, g, h, ..] = extended;
        self.remaining = match extended_len {
            2 => u16::from_be_bytes([a, b]).into(),
            8 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => (second & 0x7f).into(),
        };
        self.closed |= first & 0x0f == CLOSE;
        self.header_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
    use tungstenite::protocol::frame::{Frame, FrameHeader};

    /// Follows a chunk, and counts the calls and the bytes that were read.
    fn follow(boundaries: &mut FrameBoundaries, chunk: &[u8]) -> (usize, usize) {
        let (mut calls, mut bytes) = (0, 0);
        let read = |offset: usize, len: usize| {
            calls += 1;
            bytes += len;
            Ok::<_, Infallible>(chunk[offset..offset + len].to_vec())
        };
        boundaries.follow(chunk.len(), read).unwrap();
        (calls, bytes)
    }

    fn frame(opcode: OpCode, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_long_frame_costs_one_read_and_its_rest_none() {
        let mut boundaries = FrameBoundaries::default();
        let frame = frame(OpCode::Data(Data::Binary), None, &[7; 100_000]);
        assert_eq!(follow(&mut boundaries, &frame[..40_000]), (1, READ_LEN_MIN));
        assert!(!boundaries.is_at_boundary());
        assert_eq!(follow(&mut boundaries, &frame[40_000..]), (0, 0));
        assert!(boundaries.is_at_boundary());
    }

    #[test]
    fn frames_without_payload_cost_few_reads() {
        let mut boundaries = FrameBoundaries::default();
        let (calls, _) = follow(&mut boundaries, &[0x82, 0].repeat(128 * 1024));
        assert!(calls < 70, "{calls} calls");
        assert!(boundaries.is_at_boundary());
    }

    #[test]
    fn a_close_is_noticed_as_it_begins() {
        let mut boundaries = FrameBoundaries::default();
        let close = frame(OpCode::Control(Control::Close), None, b"\x03\xe8");
        follow(&mut boundaries, &close[..3]);
        assert!(boundaries.has_closed() && !boundaries.is_at_boundary());
    }

    #[test]
    fn a_length_of_64_bits_passes_by() {
        let mut boundaries = FrameBoundaries::default();
        follow(&mut boundaries, &[0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        follow(&mut boundaries, &[0; 1000]);
        assert!(!boundaries.is_at_boundary());
    }

    proptest! {
        #[test]
        fn boundaries_are_where_frames_end_however_the_stream_is_cut(
            frames in prop::collection::vec((any::<Option<[u8; 4]>>(), 0_usize..70_000), 1..8),
            cuts in prop::collection::vec(1_usize..40_000, 0..20),
        ) {
            let frames: Vec<_> = frames.into_iter()
                .map(|(mask, len)| frame(OpCode::Data(Data::Binary), mask, &vec![0x8a; len]))
                .collect();
            let stream = frames.concat();
            let ends: Vec<usize> = frames.iter()
                .scan(0, |end, frame| { *end += frame.len(); Some(*end) })
                .collect();
            let (mut whole, mut framewise) = (FrameBoundaries::default(), FrameBoundaries::default());
            let mut at = 0;
            for cut in cuts.into_iter().chain([stream.len()]) {
                let chunk = &stream[at..(at + cut).min(stream.len())];
                follow(&mut whole, chunk);
                let mut followed = 0;
                while followed < chunk.len() {
                    followed += framewise.follow_frame(&chunk[followed..]);
                    let is_end = ends.contains(&(at + followed));
                    prop_assert_eq!(framewise.is_at_boundary(), is_end);
                }
                at += chunk.len();
                let is_end = at == 0 || ends.contains(&at);
                prop_assert_eq!(whole.is_at_boundary(), is_end);
            }
        }
    }
}
