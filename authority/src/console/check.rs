//! Checks a token for the gateway.

use super::Consoles;
use super::error::CheckError;
use super::owner::{ResolvedToken, TokenUse};
use std::time::SystemTime;
use uuid::Uuid;
use vncgate_api::Target;

/// Permission for the bearer of a token to open this console now.
#[derive(Debug)]
pub struct Admission {
    /// Identifies the session from here on. It grants nothing.
    pub session: Uuid,
    /// The machine's instance UUID.
    pub instance: Uuid,
    /// When the token expires. The session may outlive it.
    pub expires_at: SystemTime,
    /// Where the console is, and what opens it.
    pub target: Target,
}

impl Consoles {
    /// Steps 4 and 5 of a session: may the bearer of this token open a console now, and where is it? A single-use token
    /// is consumed only when access is granted, so a vCenter outage does not use it up. Whatever became of the token while
    /// vCenter or another site was asked counts: after a revocation was answered, no check grants access.
    pub async fn check(&self, shown: &str) -> TokenUse<Admission> {
        self.use_shown(shown, |token| self.admit(token)).await
    }

    async fn admit(&self, token: ResolvedToken<'_>) -> Result<Admission, CheckError> {
        let session = Uuid::new_v4();
        let target = token.open(session).await?;
        let still_good = match self.settings.single_use {
            true => self.store.take(token.token).await?,
            false => self.store.get(token.token).await?,
        };
        still_good.ok_or(CheckError::TokenInvalid)?;
        let (instance, expires_at) = (token.record.instance, token.record.expires_at);
        Ok(Admission { session, instance, expires_at, target })
    }
}
