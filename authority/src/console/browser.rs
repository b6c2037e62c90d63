//! Tokens for one browser: the first that uses a token has it for as long as its console is open, and some time longer.
//!
//! The authority's page makes a secret. With its first connect it shows the secret's SHA-256 and with each later one the
//! secret, so that a request that was overheard once opens nothing. The store keeps the SHA-256 in the token's record: of
//! several browsers one gets the token, at whichever site. A bound token outlives its own expiry by
//! [`TokenStore::bind`](crate::tokens::TokenStore::bind), which each connect and, while the console is open,
//! [`Consoles::keep_bound`] repeats.

use super::Consoles;
use super::error::CheckError;
use super::settings::TokenUsage;
use crate::tokens::{BrowserDigest, StoreUnavailable, TokenHash};
use std::collections::HashSet;
use std::time::Duration;
use vncgate_api::BrowserProof;

/// How often in [`TokenUsage::SameBrowser`]'s time the tokens of open consoles are kept.
const ROUNDS: u32 = 3;

/// A browser as it shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// It has the secret.
    Secret(BrowserDigest),
    /// It says what the SHA-256 of its secret is, as anyone may who has seen it say so.
    Digest(BrowserDigest),
}

impl Shown {
    fn parse(proof: &BrowserProof<'_>) -> Option<Self> {
        match proof {
            BrowserProof::Digest(digest) => digest.parse().ok().map(Self::Digest),
            BrowserProof::Secret(secret) => Some(Self::Secret(BrowserDigest::of(secret))),
        }
    }

    fn digest(self) -> BrowserDigest {
        let (Self::Secret(digest) | Self::Digest(digest)) = self;
        digest
    }
}

/// The browser that a token is for, or is to be for, if it is this one.
pub(super) fn admit_browser(
    bound_to: Option<BrowserDigest>,
    proof: Option<&BrowserProof<'_>>,
) -> Result<BrowserDigest, CheckError> {
    let shown = proof.and_then(Shown::parse).ok_or(CheckError::BrowserUnknown)?;
    match (bound_to, shown) {
        (None, shown) => Ok(shown.digest()),
        (Some(own), Shown::Secret(digest)) if own == digest => Ok(own),
        (Some(_), _) => Err(CheckError::UsedElsewhere),
    }
}

impl Consoles {
    /// How often [`Self::keep_bound`] has to be called. `None` if no token is for one browser.
    pub fn keep_interval(&self) -> Option<Duration> {
        match self.settings.token_use {
            TokenUsage::SameBrowser { reconnect_for } => Some(reconnect_for / ROUNDS),
            TokenUsage::Reusable | TokenUsage::Once => None,
        }
    }

    /// Lets those of the tokens of open consoles that are bound to a browser live on until the next call, and for as long
    /// as their browsers may stay away after that. A token that is gone stays so.
    ///
    /// # Errors
    ///
    /// The store cannot answer now; the tokens live on for two more rounds.
    pub async fn keep_bound(
        &self,
        tokens: impl IntoIterator<Item = TokenHash>,
    ) -> Result<(), StoreUnavailable> {
        let TokenUsage::SameBrowser { reconnect_for } = self.settings.token_use else {
            return Ok(());
        };
        let keep = reconnect_for + reconnect_for / ROUNDS;
        for token in tokens.into_iter().collect::<HashSet<_>>() {
            if let Some(browser) = self.store.get(token).await?.and_then(|record| record.browser) {
                self.store.bind(token, browser, keep).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_token_is_for_the_holder_of_the_secret() {
        let own = BrowserDigest::of("own");
        let (text, short) = (own.to_string(), own.to_string()[1..].to_owned());
        let digest = |text| Some(BrowserProof::Digest(text));
        let secret = |text: &'static str| Some(BrowserProof::Secret(text.into()));
        let admit = |bound: Option<BrowserDigest>, proof: Option<BrowserProof<'_>>| {
            admit_browser(bound, proof.as_ref()).map_err(|error| error.to_string())
        };
        let unknown = Err(CheckError::BrowserUnknown.to_string());
        let elsewhere = Err(CheckError::UsedElsewhere.to_string());
        for bound in [None, Some(own)] {
            assert_eq!(admit(bound, None), unknown, "a stock page");
            assert_eq!(admit(bound, digest(short.as_str().into())), unknown);
            assert_eq!(admit(bound, secret("own")), Ok(own));
        }
        assert_eq!(admit(None, digest(text.as_str().into())), Ok(own));
        assert_eq!(admit(Some(own), digest(text.as_str().into())), elsewhere, "it was overheard");
        assert_eq!(admit(Some(own), secret("other")), elsewhere);
        assert_eq!(admit(Some(own), secret("")), elsewhere);
    }
}
