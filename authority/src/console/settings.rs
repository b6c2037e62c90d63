//! What the configuration decides about issuing tokens.

use super::allowed_targets::AllowedTargets;
use crate::tokens::Token;
use std::time::Duration;
use url::Url;
use uuid::Uuid;

/// `[console]`: how tokens are issued.
#[derive(Clone, Debug)]
pub struct IssueSettings {
    /// Page for `novnc` and `webmks`, if those types are offered: noVNC speaks both protocols.
    pub novnc_url: Option<PageUrl>,
    /// Page for `xvpvnc`, if that type is offered.
    pub xvpvnc_url: Option<PageUrl>,
    /// Lifetime of a token.
    pub token_ttl: Duration,
    /// Whether a token opens only one session.
    pub single_use: bool,
    /// Which addresses and ports a console may lead to, whichever site its machine belongs to.
    pub allowed_targets: AllowedTargets,
}

/// The URL of a console page, with a placeholder for the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageUrl {
    before_token: String,
    after_token: String,
}

/// Stands for the token in a configured URL.
const TOKEN_PLACEHOLDER: &str = "{token}";

impl PageUrl {
    /// Reads `https://HOST/PATH#token={token}`. Without `{token}`, appends `?token=TOKEN`, as nova does.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (before, after) = match text.split_once(TOKEN_PLACEHOLDER) {
            Some((before, after)) => (before.to_owned(), after.to_owned()),
            None => (format!("{text}?token="), String::new()),
        };
        if after.contains(TOKEN_PLACEHOLDER) {
            return Err(format!("has {TOKEN_PLACEHOLDER} twice"));
        }
        let url = Url::parse(&format!("{before}{}{after}", Uuid::nil()))
            .map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with https:// or http://".to_owned());
        }
        Ok(Self { before_token: before, after_token: after })
    }

    /// The URL of the page for one token.
    pub(super) fn with(&self, token: &Token) -> String {
        format!("{}{}{}", self.before_token, token.reveal(), self.after_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_where_the_url_says() {
        let token = Token::random();
        let revealed = token.reveal();
        for (configured, expected) in [
            (
                "https://x/console.html#token={token}",
                format!("https://x/console.html#token={revealed}"),
            ),
            ("https://x/vnc_auto.html", format!("https://x/vnc_auto.html?token={revealed}")),
            (
                "https://x/vnc_lite.html?path=websockify%3Ftoken%3D{token}&resize=scale",
                format!(
                    "https://x/vnc_lite.html?path=websockify%3Ftoken%3D{revealed}&resize=scale"
                ),
            ),
        ] {
            assert_eq!(PageUrl::parse(configured).unwrap().with(&token), expected);
        }
        for wrong in [
            "",
            "console.html",
            "ftp://x/{token}",
            "https://x/{token}#{token}",
            "javascript:{token}",
        ] {
            assert!(PageUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
