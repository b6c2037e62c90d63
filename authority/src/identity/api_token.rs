//! Callers with a token of the configuration's, of which the authority knows only the SHA-256.

use super::Caller;
use crate::config::ApiTokenConfig;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// 256 random bits: with so many, a plain hash is as good as a slow one.
const TOKEN_BYTES: usize = 32;

/// Every configured API token.
pub struct ApiTokens {
    known: Vec<ApiTokenConfig>,
}

impl ApiTokens {
    /// The callers of the configuration.
    pub fn new(known: Vec<ApiTokenConfig>) -> Self {
        Self { known }
    }

    /// Whose token this is, if it is anybody's. Takes as long for a wrong token as for a right one.
    pub fn identify(&self, shown: &str) -> Option<Caller> {
        let shown = Sha256::digest(shown);
        let mut caller = None;
        for token in &self.known {
            if bool::from(shown.ct_eq(&token.sha256)) {
                caller = Some(Caller { name: token.name.clone() });
            }
        }
        caller
    }
}

/// A new API token and its SHA-256, both in hexadecimal.
pub fn generate() -> Result<(String, String), getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    let token = hex::encode(bytes);
    let sha256 = hex::encode(Sha256::digest(&token));
    Ok((token, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_is_known_by_its_hash_alone() {
        let (token, sha256) = generate().unwrap();
        let (other, _) = generate().unwrap();
        let sha256 = hex::decode(sha256).unwrap().try_into().unwrap();
        let tokens = ApiTokens::new(vec![ApiTokenConfig { name: "portal".to_owned(), sha256 }]);
        assert_eq!(tokens.identify(&token).unwrap().name, "portal");
        assert_eq!(tokens.identify(&other), None);
        assert_eq!(tokens.identify(&hex::encode(sha256)), None);
        assert_eq!(tokens.identify(""), None);
    }
}
