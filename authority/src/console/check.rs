//! Checks a token for the gateway.

use super::Consoles;
use super::browser::admit_browser;
use super::error::CheckError;
use super::owner::{ResolvedToken, TokenUse};
use super::settings::TokenUsage;
use crate::tokens::{Binding, Record};
use std::time::SystemTime;
use uuid::Uuid;
use vncgate_api::{Access, BrowserProof, Target};

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
    /// What the user may do.
    pub access: Access,
    /// Whether the user may send a clipboard.
    pub clipboard: bool,
}

/// What the gateway tells about a request for a console besides the token.
pub struct Visit<'a> {
    /// Whether the gateway's filter holds the browser to what the token allows.
    pub enforces_access: bool,
    /// What the browser shows beside the token.
    pub browser: Option<BrowserProof<'a>>,
}

impl Consoles {
    /// Steps 4 and 5 of a session: may the bearer of this token open a console now, and where is it? A single-use token
    /// is consumed only when access is granted, so a vCenter outage does not use it up. Whatever became of the token while
    /// vCenter or another site was asked counts: after a revocation was answered, no check grants access.
    pub async fn check(&self, shown: &str, visit: Visit<'_>) -> TokenUse<Admission> {
        self.use_shown(shown, |token| self.admit(token, visit)).await
    }

    async fn admit(
        &self,
        token: ResolvedToken<'_>,
        visit: Visit<'_>,
    ) -> Result<Admission, CheckError> {
        if token.record.is_restricted() && !visit.enforces_access {
            return Err(CheckError::AccessNotEnforced);
        }
        let browser = match self.settings.token_use {
            TokenUsage::SameBrowser { reconnect_for } => {
                let browser = admit_browser(token.record.browser, visit.browser.as_ref())?;
                Some((browser, reconnect_for))
            }
            TokenUsage::Reusable | TokenUsage::Once => None,
        };
        let session = Uuid::new_v4();
        let target = token.open(session).await?;
        let still_good = match (browser, self.settings.token_use) {
            (Some((browser, reconnect_for)), _) => {
                match self.store.bind(token.token, browser, reconnect_for).await? {
                    Binding::Bound => true,
                    Binding::Elsewhere => return Err(CheckError::UsedElsewhere),
                    Binding::Unknown => false,
                }
            }
            (None, TokenUsage::Once) => self.store.take(token.token).await?.is_some(),
            (None, _) => self.store.get(token.token).await?.is_some(),
        };
        if !still_good {
            return Err(CheckError::TokenInvalid);
        }
        let Record { instance, expires_at, access, clipboard, .. } = *token.record;
        Ok(Admission { session, instance, expires_at, target, access, clipboard })
    }
}
