//! The bytes of a stream: noise that its seed and the position decide, so that whoever knows both sees
//! every byte that is lost, doubled, altered or another session's.

use thiserror::Error;

/// Bytes arrived that were not sent, or not there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("altered bytes after byte {after}")]
pub(crate) struct Altered {
    /// How many bytes before them are right.
    after: u64,
}

/// One direction of a session, as far as it was read or written.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    seed: u64,
    position: u64,
}

impl Noise {
    /// A stream at its beginning.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }

    /// Compares the next bytes with those that arrived.
    ///
    /// # Errors
    ///
    /// When they are others.
    pub(crate) fn verify(&mut self, arrived: &[u8]) -> Result<(), Altered> {
        let after = self.position;
        let mut expected = [0; 4096];
        for piece in arrived.chunks(expected.len()) {
            let expected = &mut expected[..piece.len()];
            self.fill(expected);
            if piece != expected {
                return Err(Altered { after });
            }
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = word(self.seed, self.position / 8).to_le_bytes();
            let word = &word[(self.position % 8) as usize..];
            let len = word.len().min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&word[..len]);
            self.position += len as u64;
            rest = later;
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): neighbouring seeds and indices give unrelated words.
fn word(seed: u64, index: u64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let start = mix(seed.wrapping_add(GAMMA));
    mix(start.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_in_which_a_stream_arrives_do_not_matter() {
        let whole = Noise::new(7).take(20_000);
        for size in [1, 3, 8, 4095, 4096, 20_000] {
            let mut arriving = Noise::new(7);
            whole.chunks(size).for_each(|piece| arriving.verify(piece).unwrap());
        }
        let mut sending = Noise::new(7);
        let pieces = [1, 2, 4997, 15_000].map(|len| sending.take(len));
        assert_eq!(pieces.concat(), whole);
    }

    #[test]
    fn a_byte_lost_altered_or_of_another_session_is_noticed() {
        let whole = Noise::new(7).take(1000);
        assert!(Noise::new(7).verify(&whole[1..]).is_err());
        assert!(Noise::new(8).verify(&whole).is_err());
        let mut altered = whole.clone();
        altered[999] ^= 1;
        assert!(Noise::new(7).verify(&altered).is_err());
    }
}
