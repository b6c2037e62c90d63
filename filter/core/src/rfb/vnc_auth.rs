//! VNC Authentication (RFC 6143 7.2.2).

use des::Des;
use des::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use vncgate_api::Secret;

/// Length of a challenge, in bytes.
pub(super) const CHALLENGE_LEN: usize = 16;

/// Encrypts the challenge by DES with the password as the key. The bits of each byte of the key are mirrored,
/// as the RFC's erratum says and all implementations do.
pub(super) fn respond(password: &Secret, challenge: [u8; CHALLENGE_LEN]) -> [u8; CHALLENGE_LEN] {
    let mut key = [0; 8];
    for (key, byte) in key.iter_mut().zip(password.0.bytes()) {
        *key = byte.reverse_bits();
    }
    let cipher = Des::new(&Array::from(key));
    let mut response = challenge;
    let (blocks, _) = response.as_chunks_mut::<8>();
    for block in blocks {
        let mut encrypted = Array::from(*block);
        cipher.encrypt_block(&mut encrypted);
        *block = encrypted.into();
    }
    response
}
