//! Where a request carries its console token: a subprotocol, the query, or a cookie.

use crate::headers::Headers;
use crate::refusal::Refusal;

/// Longest console token, in bytes. The authority's are UUIDs of 36.
pub const TOKEN_LEN_MAX: usize = 128;

/// The one subprotocol that the tunnel speaks: RFB bytes in binary messages.
pub const SUBPROTOCOL: &str = "binary";

/// A subprotocol that carries the token: `vncgate.token.TOKEN`. Unlike a query it appears in no URL.
pub const TOKEN_SUBPROTOCOL_PREFIX: &str = "vncgate.token.";

/// A subprotocol that carries the SHA-256 of the page's secret, at its first connect.
pub const BROWSER_DIGEST_SUBPROTOCOL_PREFIX: &str = "vncgate.browser-digest.";

/// A subprotocol that carries the page's secret, at each later one.
pub const BROWSER_SECRET_SUBPROTOCOL_PREFIX: &str = "vncgate.browser-secret.";

/// What a browser's subprotocols say.
#[derive(Default)]
pub(super) struct Subprotocols {
    /// The one to answer.
    pub(super) answer: Option<&'static str>,
    pub(super) token: Option<String>,
    pub(super) browser: Option<Browser>,
}

/// What tells a browser from others that have the same token; see [`vncgate_api::BrowserProof`]. A password, hence no
/// `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Browser {
    /// The SHA-256 of its secret.
    Digest(String),
    /// Its secret.
    Secret(String),
}

/// Reads the subprotocols that the browser offers.
///
/// # Errors
///
/// [`Refusal::Subprotocol`] if some are offered and `binary` is not among them. [`Refusal::BrowserMalformed`] if what
/// tells the browser from others is there twice, or has a form that no page makes.
pub(super) fn read_subprotocols(headers: &Headers) -> Result<Subprotocols, Refusal> {
    let mut offered = headers
        .all("sec-websocket-protocol")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .peekable();
    if offered.peek().is_none() {
        return Ok(Subprotocols::default());
    }
    let mut binary = false;
    let mut token = None;
    let mut browser = None;
    for name in offered {
        if name == SUBPROTOCOL {
            binary = true;
        } else if let Some(carried) = name.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX) {
            token = Some(carried.to_owned());
        } else if let Some(shown) = read_browser(name) {
            let is_first = browser.replace(shown?).is_none();
            if !is_first {
                return Err(Refusal::BrowserMalformed);
            }
        }
    }
    // A browser fails a WebSocket whose server picks none of the offered subprotocols, and shows no reason.
    // A refusal before that can give one.
    if !binary {
        return Err(Refusal::Subprotocol);
    }
    Ok(Subprotocols { answer: Some(SUBPROTOCOL), token, browser })
}

/// Reads what tells the browser from others. `None`: the subprotocol is another.
fn read_browser(name: &str) -> Option<Result<Browser, Refusal>> {
    let (text, browser): (_, fn(String) -> Browser) =
        match name.strip_prefix(BROWSER_DIGEST_SUBPROTOCOL_PREFIX) {
            Some(text) => (text, Browser::Digest),
            None => (name.strip_prefix(BROWSER_SECRET_SUBPROTOCOL_PREFIX)?, Browser::Secret),
        };
    Some(if is_token(text) { Ok(browser(text.to_owned())) } else { Err(Refusal::BrowserMalformed) })
}

/// Splits the `token` parameters off a path. Returns the rest and the last token, which is the one that
/// nova-novncproxy takes.
pub(super) fn split_query(path: &str) -> (String, Option<String>) {
    let Some((before, query)) = path.split_once('?') else {
        return (path.to_owned(), None);
    };
    let mut token = None;
    let mut kept = String::with_capacity(path.len());
    kept.push_str(before);
    let mut separator = '?';
    for parameter in query.split('&') {
        match form_urlencoded::parse(parameter.as_bytes()).next() {
            Some((name, value)) if name == "token" => token = Some(value.into_owned()),
            _ => {
                kept.push(separator);
                kept.push_str(parameter);
                separator = '&';
            }
        }
    }
    (kept, token)
}

/// Reads the token from the cookie of this name.
pub(super) fn read_cookie(headers: &Headers, cookie_name: &str) -> Option<String> {
    headers
        .all("cookie")
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie_name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Whether the text can be a token: 1 to [`TOKEN_LEN_MAX`] unreserved characters of RFC 3986, which need no
/// escaping anywhere.
pub(super) fn is_token(text: &str) -> bool {
    (1..=TOKEN_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}
