//! What the configuration decides about issuing tokens.

use super::allowed_targets::AllowedTargets;
use crate::tokens::Token;
use std::time::Duration;
use url::{Url, form_urlencoded};
use uuid::Uuid;
use vncgate_api::Access;

/// `[console]`: how tokens are issued.
#[derive(Clone, Debug)]
pub struct IssueSettings {
    /// Page for `novnc` and `webmks`, if those types are offered: noVNC speaks both protocols.
    pub novnc_url: Option<PageUrl>,
    /// Page for `xvpvnc`, if that type is offered.
    pub xvpvnc_url: Option<PageUrl>,
    /// Lifetime of a token, unless its caller asks for another.
    pub token_ttl: Duration,
    /// The longest lifetime that a caller may ask for, of a token by which consoles can be viewed only. Of others it is
    /// [`Self::token_ttl`].
    pub view_ttl_max: Duration,
    /// How often a token may be used, and from where.
    pub token_use: TokenUsage,
    /// What becomes of a token whose console has moved.
    pub when_moved: WhenMoved,
    /// Which addresses and ports a console may lead to, whichever site its machine belongs to.
    pub allowed_targets: AllowedTargets,
}

/// `[console] when_moved`: what becomes of a token whose console is no longer where the token was issued for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenMoved {
    /// It opens nothing.
    #[default]
    Refuse,
    /// It opens the console where it is now, if a new token would.
    Follow,
}

/// How often a token may be used, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUsage {
    /// Until it expires, by every holder, as nova's.
    Reusable,
    /// For one session.
    Once,
    /// By the browser that used it first: for as long as its console is open and this much longer.
    SameBrowser {
        /// How long the browser may stay away.
        reconnect_for: Duration,
    },
}

impl TokenUsage {
    /// As it stands in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reusable => "reusable",
            Self::Once => "once",
            Self::SameBrowser { .. } => "same-browser",
        }
    }
}

/// Shortest lifetime of a token. Below it a browser hardly has the time to open the page.
pub const TOKEN_TTL_MIN: Duration = Duration::from_secs(10);

impl IssueSettings {
    /// How long a token of this access lives, if its caller asks for `wanted`.
    ///
    /// # Errors
    ///
    /// The longest lifetime, if it is not between [`TOKEN_TTL_MIN`] and that one.
    pub(super) fn ttl(
        &self,
        access: Access,
        wanted: Option<Duration>,
    ) -> Result<Duration, Duration> {
        let most = match access {
            Access::Control => self.token_ttl,
            Access::View => self.view_ttl_max.max(self.token_ttl),
        };
        let ttl = wanted.unwrap_or(self.token_ttl);
        if (TOKEN_TTL_MIN..=most).contains(&ttl) { Ok(ttl) } else { Err(most) }
    }
}

/// The URL of a console page, with a placeholder for the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageUrl {
    before_token: String,
    after_token: String,
}

/// The authority's own page, which reads the token from the fragment alone.
const OWN_PAGE: &str = "/console.html";

/// Stands for the token in a configured URL.
const TOKEN_PLACEHOLDER: &str = "{token}";

impl PageUrl {
    /// Reads `https://HOST/PATH#token={token}`. Without `{token}`, appends `?token=TOKEN`, as nova does. Refuses a URL
    /// whose page would not find the token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parse = |text: &str| Url::parse(text).map_err(|error| format!("is not a URL: {error}"));
        let (before, after) = match text.split_once(TOKEN_PLACEHOLDER) {
            Some((before, after)) => (before.to_owned(), after.to_owned()),
            None => {
                let url = parse(text)?;
                if url.query().is_some() || url.fragment().is_some() {
                    return Err(format!("must say by {TOKEN_PLACEHOLDER} where the token goes"));
                }
                (format!("{text}?token="), String::new())
            }
        };
        if after.contains(TOKEN_PLACEHOLDER) {
            return Err(format!("has {TOKEN_PLACEHOLDER} twice"));
        }
        let token = Uuid::nil().to_string();
        let url = parse(&format!("{before}{token}{after}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with https:// or http://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or password".to_owned());
        }
        if url.port() == Some(0) {
            return Err("must not have port 0".to_owned());
        }
        if url.host_str().is_some_and(|host| host.contains(&token)) {
            return Err(format!("must have {TOKEN_PLACEHOLDER} after the host"));
        }
        let own_page = url.path().ends_with(OWN_PAGE);
        // As the page does, take the first of several.
        let mut parameters = form_urlencoded::parse(url.fragment().unwrap_or_default().as_bytes());
        let read =
            parameters.find(|(name, _)| name == "token").is_some_and(|(_, read)| read == token);
        if own_page && !read {
            return Err(format!(
                "must end with {OWN_PAGE}#token={TOKEN_PLACEHOLDER}: that page reads the token from the fragment"
            ));
        }
        Ok(Self { before_token: before, after_token: after })
    }

    /// Whether it is the authority's own page, which alone makes a secret for its browser.
    pub fn is_own(&self) -> bool {
        self.with_no_token().is_some_and(|url| url.path().ends_with(OWN_PAGE))
    }

    /// Scheme, host and port: the gateway's.
    pub fn origin(&self) -> String {
        self.with_no_token().map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    fn with_no_token(&self) -> Option<Url> {
        let text = format!("{}{}{}", self.before_token, Uuid::nil(), self.after_token);
        Url::parse(&text).ok()
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
            (
                "https://x/consoles/console.html#view_only=true&token={token}&resize=off",
                format!(
                    "https://x/consoles/console.html#view_only=true&token={revealed}&resize=off"
                ),
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
            // Our page does not read these.
            "https://x/console.html",
            "https://x/console.html?token={token}",
            "https://x/console.html#{token}",
            "https://x/console.html#/token={token}",
            "https://x/console.html#TOKEN={token}",
            "https://x/console.html#token=&token={token}",
            "https://x/console.html#path=websockify%3Ftoken%3D{token}",
            "https://x/novnc/../console.html?token={token}",
            // nova's `?token=` would go into the fragment, or be a part of another parameter.
            "https://x/vnc_auto.html#top",
            "https://x/vnc_auto.html?resize=scale",
            "https://x:0/console.html#token={token}",
            "https://{token}.x/console.html#token=1",
            "https://user:{token}@x/vnc.html",
            "https://user@x/console.html#token={token}",
        ] {
            assert!(PageUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
