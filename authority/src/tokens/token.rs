//! A console token, and the hash that stands for it everywhere but at its holder.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use uuid::{Uuid, Version};

/// A fresh console token: 122 random bits. It is a password and has no `Debug`.
pub struct Token(Uuid);

impl Token {
    /// Generates a token.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Whether an authority could have issued this text: that [`Self::reveal`] could have returned it.
    pub fn could_be(shown: &str) -> bool {
        let uuid = Uuid::try_parse(shown).ok();
        uuid.is_some_and(|uuid| {
            uuid.get_version() == Some(Version::Random) && Self(uuid).reveal() == shown
        })
    }

    /// The text that opens a console. Never log it.
    pub fn reveal(&self) -> String {
        self.0.to_string()
    }
}

/// The SHA-256 of a token: the only form in which the authority keeps one. In hexadecimal it is the token's
/// public identifier: it may appear in logs and URLs, and opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenHash(#[serde(with = "hex::serde")] [u8; 32]);

impl TokenHash {
    /// Hashes a token as it was shown. Any text has a hash.
    pub fn of(shown: &str) -> Self {
        Self(Sha256::digest(shown).into())
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for TokenHash {
    type Err = hex::FromHexError;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// The SHA-256 of the secret by which a page tells its browser from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BrowserDigest(#[serde(with = "hex::serde")] [u8; 32]);

impl BrowserDigest {
    /// Hashes a secret as it was shown.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl FromStr for BrowserDigest {
    type Err = hex::FromHexError;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for BrowserDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_s_public_identifier_reads_back_and_is_not_the_token() {
        let token = Token::random().reveal();
        let hash = TokenHash::of(&token);
        let shown = hash.to_string();
        assert!(!shown.contains(&token));
        assert_eq!(shown.parse(), Ok(hash));
        assert_eq!(shown.to_uppercase().parse(), Ok(hash));
        for wrong in ["", "00", &shown[1..], &format!("{shown}00"), &token] {
            assert!(wrong.parse::<TokenHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_could_be_a_token_has_its_form() {
        let token = Token::random().reveal();
        assert!(Token::could_be(&token));
        let upper = token.to_uppercase();
        for other in [
            "",
            "hunter2",
            &token[1..],
            &format!("{{{token}}}"),
            &token.replace('-', ""),
            &upper,
            // Not random: a name-based UUID of something that could be guessed.
            "5d93eed6-a1b7-5668-903c-b43c7c81d44c",
        ] {
            assert!(!Token::could_be(other), "{other}");
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        assert_ne!(Token::random().reveal(), Token::random().reveal());
    }
}
