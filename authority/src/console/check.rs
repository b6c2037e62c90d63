//! Checks a token for the gateway.

use super::Consoles;
use super::browser::admit_browser;
use super::error::CheckError;
use super::owner::{ResolvedToken, TokenUse};
use super::settings::TokenUsage;
use crate::tokens::{Binding, BrowserDigest, Location, Record, TokenHash};
use std::time::{Duration, SystemTime};
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
    /// Where the console is in vCenter, if its site tells. A token may follow a console that moves.
    pub location: Option<Location>,
    /// What the user may do.
    pub access: Access,
    /// Whether the user may send a clipboard.
    pub clipboard: bool,
    token: TokenHash,
    /// The browser that the token is to be for, and for how long it may stay away.
    browser: Option<(BrowserDigest, Duration)>,
}

/// What the gateway tells about a request for a console besides the token.
pub struct Visit<'a> {
    /// Whether the gateway's filter holds the browser to what the token allows.
    pub enforces_access: bool,
    /// What the browser shows beside the token.
    pub browser: Option<BrowserProof<'a>>,
}

impl Admission {
    /// The token's public identifier.
    pub fn token(&self) -> TokenHash {
        self.token
    }
}

impl Consoles {
    /// Steps 4 and 5 of a session: may the bearer of this token open a console now, and where is it? The answer is good
    /// once it was [redeemed](Self::redeem).
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
        let (target, location) = token.open(session).await?;
        let Record { instance, expires_at, access, clipboard, .. } = *token.record;
        let token = token.token;
        Ok(Admission {
            session,
            instance,
            expires_at,
            target,
            location,
            access,
            clipboard,
            token,
            browser,
        })
    }

    /// Grants access: the last step of a check, after which nothing refuses it any more. Here a token for one use is
    /// consumed and one for one browser is bound, so an outage of vCenter or a full disk does neither. Whatever became of
    /// the token while vCenter or another site was asked counts: after a revocation was answered, no check grants access.
    ///
    /// # Errors
    ///
    /// The token is not good any more, or another browser has it.
    pub async fn redeem(&self, admission: &Admission) -> Result<(), CheckError> {
        let token = admission.token;
        let still_good = match (admission.browser, self.settings.token_use) {
            (Some((browser, reconnect_for)), _) => {
                match self.store.bind(token, browser, reconnect_for).await? {
                    Binding::Bound => true,
                    Binding::Elsewhere => return Err(CheckError::UsedElsewhere),
                    Binding::Unknown => false,
                }
            }
            (None, TokenUsage::Once) => self.store.take(token).await?.is_some(),
            (None, _) => self.store.is_good(token, admission.instance).await?,
        };
        if still_good { Ok(()) } else { Err(CheckError::TokenInvalid) }
    }
}
