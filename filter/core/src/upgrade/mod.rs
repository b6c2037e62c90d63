//! Step 3: turns a browser's request into an [`Upgrade`], or finds the reason to refuse it.
//!
//! The rules are those of RFC 6455 section 4.2 for a server, plus the gateway's own: at which host names consoles are
//! opened, which pages may open them ([`crate::origin`]), and where the token is (`token`).

mod token;

use crate::config::{Config, OtherHosts};
use crate::headers::{Headers, Repeated};
use crate::origin::{Origin, normalize_host};
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};
use token::Subprotocols;
pub use token::{
    BROWSER_DIGEST_SUBPROTOCOL_PREFIX, BROWSER_SECRET_SUBPROTOCOL_PREFIX, Browser, SUBPROTOCOL,
    TOKEN_LEN_MAX, TOKEN_SUBPROTOCOL_PREFIX,
};

/// Longest `:path` of an upgrade, in bytes. A path and a token take less than 200; a tenth of
/// Envoy's default limit for all headers is plenty.
pub const PATH_LEN_MAX: usize = 6 * 1024;

/// RFC 6455 1.3: what a server appends to the key before it hashes it.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How the browser reached Envoy. Over HTTP/2 and HTTP/3 an upgrade is an extended CONNECT (RFC 8441),
/// which has no key and no accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1 with `Upgrade` and `Sec-WebSocket-Key`.
    Http1,
    /// HTTP/2 or later, extended CONNECT.
    Http2OrLater,
}

/// A valid WebSocket upgrade whose token the authority has yet to check.
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The console token. A password, hence no `Debug`.
    pub token: String,
    /// What tells the browser from others that have the same token, if its page says it.
    pub browser: Option<Browser>,
    /// What to answer once the console is connected.
    pub handshake: Handshake,
    /// The request's path without the token, for the access log.
    pub path: String,
}

/// The server's half of the opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Accept`; `None` over HTTP/2 and later.
    pub accept: Option<String>,
    /// `Sec-WebSocket-Protocol`; `None` if the browser offered none.
    pub subprotocol: Option<&'static str>,
}

/// Whether the request upgrades to a console's WebSocket. All other requests pass untouched.
pub fn is_console_upgrade(headers: &Headers, config: &Config) -> bool {
    headers.first("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        && headers.first(":path").unwrap_or_default().starts_with(&config.path_prefix)
        && !(config.other_hosts == OtherHosts::Pass
            && is_for_other_host(headers.first(":authority"), config))
}

/// Reads an upgrade.
///
/// # Errors
///
/// The first rule that the request breaks. The origin is checked before the token, so that a foreign page
/// learns nothing about a token.
pub fn read(
    headers: &Headers,
    http_version: HttpVersion,
    config: &Config,
) -> Result<Upgrade, Refusal> {
    if headers.first(":method") != Some("GET") {
        return Err(Refusal::MethodNotGet);
    }
    let path = headers.first(":path").unwrap_or_default();
    if path.len() > PATH_LEN_MAX {
        return Err(Refusal::PathTooLong);
    }
    if !matches!(headers.single("sec-websocket-version"), Ok(Some("13"))) {
        return Err(Refusal::WebSocketVersion);
    }
    let accept = match http_version {
        HttpVersion::Http1 => Some(compute_accept(headers)?),
        HttpVersion::Http2OrLater => None,
    };
    if !is_own_host(headers, config) {
        return Err(Refusal::Host);
    }
    if !is_origin_allowed(headers, config) {
        return Err(Refusal::Origin);
    }
    let Subprotocols { answer: subprotocol, token, browser } = token::read_subprotocols(headers)?;
    let (path, query_token) = token::split_query(path);
    let token = token
        .or(query_token)
        .or_else(|| token::read_cookie(headers, &config.cookie_name))
        .ok_or(Refusal::TokenMissing)?;
    if !token::is_token(&token) {
        return Err(Refusal::TokenMalformed);
    }
    Ok(Upgrade { token, browser, handshake: Handshake { accept, subprotocol }, path })
}

/// RFC 6455 4.2.2: base64 of SHA-1 over key and GUID; the key must decode to 16 bytes (4.2.1).
fn compute_accept(headers: &Headers) -> Result<String, Refusal> {
    let Ok(Some(key)) = headers.single("sec-websocket-key") else {
        return Err(Refusal::WebSocketKey);
    };
    match BASE64.decode(key) {
        Ok(nonce) if nonce.len() == 16 => {
            Ok(BASE64.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize()))
        }
        _ => Err(Refusal::WebSocketKey),
    }
}

/// Whether the request is for a host name that consoles are opened at.
fn is_own_host(headers: &Headers, config: &Config) -> bool {
    let host = headers.first(":authority").and_then(normalize_host);
    config.hosts.is_empty() || host.is_some_and(|host| config.hosts.contains(&host))
}

/// Whether a request with this `:authority` is for a host name that consoles are surely not opened at. Without a
/// host that can be read it is not.
pub fn is_for_other_host(authority: Option<&str>, config: &Config) -> bool {
    let host = authority.and_then(normalize_host);
    !config.hosts.is_empty() && host.is_some_and(|host| !config.hosts.contains(&host))
}

/// RFC 6455 10.2 and nova-novncproxy's rule: a request without an origin comes from no browser page. An origin
/// must be the gateway's own, with the scheme that the browser used, or one that the configuration allows.
fn is_origin_allowed(headers: &Headers, config: &Config) -> bool {
    let origin = match headers.single("origin") {
        Ok(None) => return true,
        Ok(Some(origin)) => Origin::parse(origin),
        Err(Repeated) => None,
    };
    let Some(origin) = origin else { return false };
    if config.allowed_origins.contains(&origin) {
        return true;
    }
    // Envoy writes x-forwarded-proto itself unless it trusts the hop before it, which then knows
    // better than Envoy what the browser used.
    let scheme = headers.first("x-forwarded-proto").or_else(|| headers.first(":scheme"));
    let own = scheme
        .zip(headers.first(":authority"))
        .and_then(|(scheme, authority)| Origin::from_parts(scheme, authority));
    own == Some(origin)
}

#[cfg(test)]
mod tests;
