//! The bytes that every measurement carries, and the check that they arrived: each byte is known by its
//! position in the stream.

use anyhow::{Result, ensure};
use std::sync::LazyLock;

/// After this many bytes the pattern repeats. It fits a core's second-level cache beside what the
/// kernel needs there. That a whole pattern was lost shows in the count of bytes.
pub(crate) const PERIOD: usize = 256 * 1024;

/// Longest slice that [`at`] returns.
pub(crate) const SLICE_MAX: usize = 64 * 1024;

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

/// The `len` bytes, at most [`SLICE_MAX`], at a position of a stream.
pub(crate) fn at(position: u64, len: usize) -> &'static [u8] {
    let start = (position % PERIOD as u64) as usize;
    &PATTERN[start..start + len]
}

/// Checks a stream as it arrives.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    position: u64,
}

impl Verifier {
    /// How many bytes have arrived.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// When they are not the stream's bytes at this position.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        for slice in bytes.chunks(SLICE_MAX) {
            let intact = slice == at(self.position, slice.len());
            ensure!(intact, "wrong bytes after {} bytes", self.position);
            self.position += slice.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_any_pieces_is_intact() {
        let mut verifier = Verifier::default();
        for len in [1, 65_535, 65_536, 100, 65_536, 65_536, 65_536] {
            let position = verifier.position();
            verifier.take(at(position, len)).unwrap();
        }
        assert_eq!(verifier.position(), 327_780);
    }

    #[test]
    fn a_lost_byte_is_noticed() {
        let mut verifier = Verifier::default();
        verifier.take(at(0, 1000)).unwrap();
        assert!(verifier.take(at(1001, 1000)).is_err());
    }
}
