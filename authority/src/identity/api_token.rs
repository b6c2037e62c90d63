//! Callers with an API token. The configuration holds the SHA-256 of each token, never the token itself.

use super::caller::Caller;
use super::roles::Roles;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// 256 random bits: with so many, a plain hash is as good as a slow one.
const TOKEN_BYTES: usize = 32;

/// One caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenConfig {
    /// The caller's name in logs.
    pub name: String,
    /// The SHA-256 of each of the caller's tokens: two while one replaces the other.
    pub sha256: Vec<[u8; 32]>,
    /// What the caller may do follows from these.
    pub roles: Roles,
    /// The project whose machines the caller sees, unless a role lets it see every project's.
    pub project: Option<String>,
}

impl ApiTokenConfig {
    /// The caller that shows this token.
    pub fn caller(&self) -> Caller {
        Caller {
            id: format!("api_token:{}", self.name),
            name: self.name.clone(),
            roles: self.roles.clone(),
            project: self.project.clone(),
            keystone: None,
        }
    }
}

/// Every configured API token.
pub struct ApiTokens {
    tokens: Vec<ApiTokenConfig>,
}

impl ApiTokens {
    /// Knows these callers and no others.
    pub fn new(tokens: Vec<ApiTokenConfig>) -> Self {
        Self { tokens }
    }

    /// What identifies each caller: [`Caller::id`].
    pub fn callers(&self) -> impl Iterator<Item = String> {
        self.tokens.iter().map(|token| token.caller().id)
    }

    /// Identifies the caller that this token belongs to. Takes the same time for a wrong token as for a right one.
    pub fn identify(&self, shown: &str) -> Option<Caller> {
        let shown = Sha256::digest(shown);
        let mut caller = None;
        for token in &self.tokens {
            for sha256 in &token.sha256 {
                if bool::from(shown.ct_eq(sha256)) {
                    caller = Some(token);
                }
            }
        }
        caller.map(ApiTokenConfig::caller)
    }
}

/// Generates an API token and returns it with its SHA-256, both in hexadecimal.
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
    fn generated_tokens_are_known_by_their_hashes_alone() {
        let (old, new) = (generate().unwrap(), generate().unwrap());
        let (other, _) = generate().unwrap();
        let sha256 = |generated: &str| hex::decode(generated).unwrap().try_into().unwrap();
        let roles = Roles::from_iter(["member"]);
        let project = Some("a".to_owned());
        let name = "portal".to_owned();
        let tokens = ApiTokens::new(vec![ApiTokenConfig {
            name: name.clone(),
            sha256: vec![sha256(&old.1), sha256(&new.1)],
            roles: roles.clone(),
            project: project.clone(),
        }]);
        let id = "api_token:portal".to_owned();
        let caller = Some(Caller { id, name, roles, project, keystone: None });
        assert_eq!([tokens.identify(&old.0), tokens.identify(&new.0)], [caller.clone(), caller]);
        assert_eq!(tokens.identify(&other), None);
        assert_eq!(tokens.identify(&new.1), None);
        assert_eq!(tokens.identify(""), None);
    }
}
