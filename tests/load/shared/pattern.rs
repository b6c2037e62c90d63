//! The bytes that sessions carry, and the check that they arrived: noise in which seed and position decide
//! every byte. So a byte that is lost, doubled, altered or another session's is found.

use std::sync::LazyLock;
use thiserror::Error;

/// After this many bytes the pattern repeats. It fits a core's second-level cache beside what the
/// kernel needs there. The count of bytes shows whether a whole period was lost.
pub const PERIOD: usize = 256 * 1024;

/// Longest slice that [`at`] returns.
pub const SLICE_MAX: usize = 64 * 1024;

/// One period, and as much of the next as a slice may reach into.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // Marsaglia's xorshift64: noise, so that no misplaced byte looks right.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut pattern: Vec<u8> = noise.take(PERIOD / 8).flatten().collect();
    pattern.extend_from_within(..SLICE_MAX);
    pattern
});

/// The `len` bytes, at most [`SLICE_MAX`], at a position of the stream with seed 0.
pub fn at(position: u64, len: usize) -> &'static [u8] {
    let start = (position % PERIOD as u64) as usize;
    &PATTERN[start..start + len]
}

/// Bytes arrived that were not sent, or not at this position.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("altered bytes after byte {after}")]
pub struct Altered {
    /// How many bytes before them are right.
    pub after: u64,
}

/// One direction of a session, as far as it was sent or received.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    start: u64,
    position: u64,
}

impl Stream {
    /// The beginning of the stream with this seed. Streams start at different bytes of the pattern; seeds
    /// that differ by less than [`PERIOD`] never share a start.
    pub fn new(seed: u64) -> Self {
        // An odd factor maps the seeds of a period one to one to its positions; this one lets neighbouring
        // seeds start far from each other.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        Self { start: seed.wrapping_mul(FACTOR) % PERIOD as u64, position: 0 }
    }

    /// How many bytes were sent or received.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next `len` bytes to send.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            bytes.extend_from_slice(self.next((len - bytes.len()).min(SLICE_MAX)));
        }
        bytes
    }

    /// Compares the next bytes with those that arrived.
    ///
    /// # Errors
    ///
    /// When they differ.
    pub fn verify(&mut self, arrived: &[u8]) -> Result<(), Altered> {
        let after = self.position;
        for slice in arrived.chunks(SLICE_MAX) {
            if slice != self.next(slice.len()) {
                return Err(Altered { after });
            }
        }
        Ok(())
    }

    fn next(&mut self, len: usize) -> &'static [u8] {
        let bytes = at(self.start + self.position, len);
        self.position += len as u64;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_any_pieces_is_intact() {
        let mut stream = Stream::default();
        for len in [1, 65_535, 65_536, 100, 65_536, 65_536, 65_536] {
            let position = stream.position();
            stream.verify(at(position, len)).unwrap();
        }
        assert_eq!(stream.position(), 327_780);
    }

    #[test]
    fn a_lost_byte_is_noticed() {
        let mut stream = Stream::default();
        stream.verify(at(0, 1000)).unwrap();
        assert!(stream.verify(at(1001, 1000)).is_err());
    }

    #[test]
    fn the_pieces_in_which_a_stream_arrives_do_not_matter() {
        let whole = Stream::new(7).take(400_000);
        for size in [1, 3, 8, 4095, 4096, 20_000, 400_000] {
            let mut arriving = Stream::new(7);
            whole.chunks(size).for_each(|piece| arriving.verify(piece).unwrap());
        }
        let mut sending = Stream::new(7);
        let pieces = [1, 2, 4997, 395_000].map(|len| sending.take(len));
        assert_eq!(pieces.concat(), whole);
    }

    #[test]
    fn a_byte_lost_altered_or_of_another_session_is_noticed() {
        let whole = Stream::new(7).take(1000);
        assert!(Stream::new(7).verify(&whole[1..]).is_err());
        for other in (0..2000).filter(|seed| *seed != 7) {
            assert!(Stream::new(other).verify(&whole).is_err(), "seed {other}");
        }
        let mut altered = whole.clone();
        altered[999] ^= 1;
        assert!(Stream::new(7).verify(&altered).is_err());
    }
}
