//! Step 3: from a browser's request to an [`Upgrade`], or a reason to refuse it.
//!
//! The rules are those of RFC 6455 section 4.2 for a server, plus the two questions that are this
//! gateway's own: where the token is, and whether the page that opened the WebSocket may.

use crate::config::Config;
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};

/// Longest `:path` of an upgrade, in bytes. A path and a token take less than 200; a tenth of
/// Envoy's default limit for all headers is plenty.
pub const PATH_LEN_MAX: usize = 6 * 1024;

/// Longest console token, in bytes. The authority's are UUIDs of 36.
pub const TOKEN_LEN_MAX: usize = 128;

/// The one subprotocol that the tunnel speaks: RFB bytes in binary messages.
pub const SUBPROTOCOL: &str = "binary";

/// A subprotocol that carries the token: `vncgate.token.TOKEN`. Unlike a query it appears in no URL.
pub const TOKEN_SUBPROTOCOL_PREFIX: &str = "vncgate.token.";

/// RFC 6455 1.3: what a server appends to the key before it hashes it.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request's headers, pseudo-headers included, with lower-case names.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that may stand there only once; `None` if absent.
    fn single<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Repeated> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Repeated),
        }
    }

    /// The first value of a header.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }
}

/// A header stands there twice that must not.
struct Repeated;

/// How the browser reached Envoy. Over HTTP/2 and HTTP/3 an upgrade is an extended CONNECT (RFC 8441),
/// which has no key and no accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1 with `Upgrade` and `Sec-WebSocket-Key`.
    Http1,
    /// HTTP/2 or later, extended CONNECT.
    Http2OrLater,
}

/// A WebSocket upgrade that may be put to the authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The console token. A password, hence no `Debug`.
    pub token: String,
    /// What to answer once the console is connected.
    pub handshake: Handshake,
    /// The request's path without the token, for the access log.
    pub path: String,
}

/// The server's half of the opening handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Accept`; none over HTTP/2 and later.
    pub accept: Option<String>,
    /// `Sec-WebSocket-Protocol`; none if the browser offered none.
    pub subprotocol: Option<&'static str>,
}

/// Whether the request is a console's upgrade at all; others pass untouched.
pub fn is_console_upgrade(upgrade_header: Option<&str>, path: &str, config: &Config) -> bool {
    upgrade_header.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        && path.starts_with(&config.path_prefix)
}

/// Reads an upgrade.
///
/// # Errors
///
/// The first rule that the request breaks. The origin is checked before the token is looked at, so
/// that a foreign page learns nothing about a token.
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
        HttpVersion::Http1 => Some(accept_key(headers)?),
        HttpVersion::Http2OrLater => None,
    };
    if !host_is_ours(headers, config) {
        return Err(Refusal::Host);
    }
    if !origin_is_allowed(headers, config) {
        return Err(Refusal::Origin);
    }
    let (subprotocol, subprotocol_token) = read_subprotocols(headers)?;
    let (path, query_token) = split_token(path);
    let token = subprotocol_token
        .or(query_token)
        .or_else(|| cookie_token(headers, &config.cookie_name))
        .ok_or(Refusal::TokenMissing)?;
    if !is_token(&token) {
        return Err(Refusal::TokenMalformed);
    }
    Ok(Upgrade { token, handshake: Handshake { accept, subprotocol }, path })
}

/// RFC 6455 4.2.2: base64 of SHA-1 over key and GUID; the key must decode to 16 bytes (4.2.1).
fn accept_key(headers: &Headers) -> Result<String, Refusal> {
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

/// The subprotocol to answer, and the token if one of those offered carries it.
fn read_subprotocols(headers: &Headers) -> Result<(Option<&'static str>, Option<String>), Refusal> {
    let mut offered = headers
        .all("sec-websocket-protocol")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .peekable();
    if offered.peek().is_none() {
        return Ok((None, None));
    }
    let mut binary = false;
    let mut token = None;
    for name in offered {
        if name == SUBPROTOCOL {
            binary = true;
        } else if let Some(carried) = name.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX) {
            token = Some(carried.to_owned());
        }
    }
    // A browser fails a WebSocket whose server picks none of the subprotocols that it offered, and
    // shows no reason; so refuse where a reason can be given.
    if binary { Ok((Some(SUBPROTOCOL), token)) } else { Err(Refusal::Subprotocol) }
}

/// The path without its `token` parameters, and the last of these, as nova-novncproxy takes it.
fn split_token(path: &str) -> (String, Option<String>) {
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

fn cookie_token(headers: &Headers, cookie_name: &str) -> Option<String> {
    headers
        .all("cookie")
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie_name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Whether the text has the form of a token: not empty, short, and of the unreserved characters of
/// RFC 3986, so that it needs no escaping anywhere.
fn is_token(text: &str) -> bool {
    (1..=TOKEN_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// A page's origin (RFC 6454): scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads `http(s)://host` or `http(s)://host:port`. `None` for everything else: the opaque origin
    /// `null`, other schemes, a path, user information.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        Self::new(scheme, authority)
    }

    fn new(scheme: &str, authority: &str) -> Option<Self> {
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = host_name(authority)?;
        let port = match authority.strip_prefix(host)?.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None => default_port,
        };
        Some(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

/// The host of `host` or `host:port`; the colons of an IPv6 literal stand in brackets.
pub fn host_name(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (!host.is_empty() && host.bytes().all(valid)).then_some(host)
}

/// Whether consoles are opened at the name that the request is for.
fn host_is_ours(headers: &Headers, config: &Config) -> bool {
    let host = headers.first(":authority").and_then(host_name);
    config.hosts.is_empty()
        || host.is_some_and(|host| config.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)))
}

/// RFC 6455 10.2 and nova-novncproxy's rule: no origin is no browser page; else it must be the
/// gateway's own, with the scheme that the browser used, or one that the configuration allows.
fn origin_is_allowed(headers: &Headers, config: &Config) -> bool {
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
        .and_then(|(scheme, authority)| Origin::new(scheme, authority));
    own == Some(origin)
}

/// Whether a header is about the handshake, the page or what the browser would like to be answered: the token
/// may be among these. None of it concerns a VNC server, nor an access log.
pub fn is_browser_s_alone(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "cookie",
        "origin",
        "pragma",
        "priority",
    ];
    // Fetch metadata and client hints begin with it, too.
    name.starts_with("sec-") || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "7b3d2f6e-0a41-4c8e-9d57-3f1f0b8a6c21";

    fn config() -> Config {
        Config::parse(
            br#"{"authority": {"cluster": "a"}, "allowed_origins": ["https://Portal.example.com"]}"#,
        )
        .unwrap()
    }

    fn request(extra: &[(&str, &str)]) -> Headers {
        let base = [
            (":method", "GET"),
            (":path", "/websockify"),
            (":authority", "consoles.example.com"),
            (":scheme", "https"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let replaced = |name: &str| extra.iter().any(|(other, _)| *other == name);
        let mut headers: Vec<_> = base.iter().filter(|(name, _)| !replaced(name)).collect();
        headers.extend(extra.iter().filter(|(_, value)| !value.is_empty()));
        Headers(headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect())
    }

    fn read_http1(extra: &[(&str, &str)]) -> Result<Upgrade, Refusal> {
        read(&request(extra), HttpVersion::Http1, &config())
    }

    fn refusal(extra: &[(&str, &str)]) -> Refusal {
        read_http1(extra).map(|_| ()).unwrap_err()
    }

    fn token_path() -> String {
        format!("/websockify?token={TOKEN}")
    }

    #[test]
    fn the_accept_key_is_that_of_rfc_6455_section_1_3() {
        let upgrade = read_http1(&[(":path", &token_path())]).map_err(|r| r.code()).ok().unwrap();
        assert_eq!(upgrade.handshake.accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(upgrade.handshake.subprotocol, None);
    }

    #[test]
    fn extended_connect_has_no_key() {
        let headers = request(&[(":path", &token_path()), ("sec-websocket-key", "")]);
        let upgrade = read(&headers, HttpVersion::Http2OrLater, &config()).ok().unwrap();
        assert_eq!(upgrade.handshake.accept, None);
    }

    #[test]
    fn the_token_is_found_in_subprotocol_query_and_cookie_in_this_order() {
        let offer = format!("binary, vncgate.token.{TOKEN}");
        let cookie = format!("a=b; token={TOKEN}");
        let quoted = format!("token=\"{TOKEN}\"");
        for (headers, path, subprotocol) in [
            (vec![("sec-websocket-protocol", offer.as_str())], "/websockify", Some("binary")),
            (vec![(":path", "/websockify?token=no&x=1&token=TOKEN")], "/websockify?x=1", None),
            (vec![(":path", "/?token=TOKEN")], "/", None),
            (vec![(":path", "/vnc.html?token=TOKEN")], "/vnc.html", None),
            (vec![(":path", "/w?%74oken=TOKEN&y")], "/w?y", None),
            (vec![("cookie", cookie.as_str())], "/websockify", None),
            (vec![("cookie", quoted.as_str())], "/websockify", None),
            (
                vec![
                    ("sec-websocket-protocol", offer.as_str()),
                    (":path", "/w?token=other"),
                    ("cookie", "token=third"),
                ],
                "/w",
                Some("binary"),
            ),
            (vec![(":path", "/w?token=TOKEN"), ("cookie", "token=third")], "/w", None),
        ] {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.replace("TOKEN", TOKEN)))
                .collect();
            let headers: Vec<_> = headers.iter().map(|(name, v)| (*name, v.as_str())).collect();
            let upgrade = read_http1(&headers).ok().unwrap();
            assert_eq!(upgrade.token, TOKEN, "{headers:?}");
            assert_eq!(upgrade.path, path, "{headers:?}");
            assert_eq!(upgrade.handshake.subprotocol, subprotocol, "{headers:?}");
        }
    }

    #[test]
    fn a_token_of_another_form_is_refused() {
        let long = format!("/?token={}", "a".repeat(TOKEN_LEN_MAX + 1));
        for path in ["/?token=", "/?token", "/?token=a%20b", "/?token=a%00", "/?token=ä", &long] {
            assert_eq!(refusal(&[(":path", path)]), Refusal::TokenMalformed, "{path}");
        }
        for headers in [("cookie", "token"), ("cookie", "Token=x"), (":path", "/?tok=x")] {
            assert_eq!(refusal(&[headers]), Refusal::TokenMissing, "{headers:?}");
        }
    }

    #[test]
    fn broken_handshakes_are_refused() {
        let path = token_path();
        let with = |header: (&'static str, &'static str)| refusal(&[(":path", &path), header]);
        assert_eq!(with((":method", "POST")), Refusal::MethodNotGet);
        assert_eq!(with(("sec-websocket-version", "")), Refusal::WebSocketVersion);
        assert_eq!(with(("sec-websocket-version", "8")), Refusal::WebSocketVersion);
        assert_eq!(with(("sec-websocket-version", "13, 8")), Refusal::WebSocketVersion);
        for key in
            ["", "c2hvcnQ=", "not base64", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZQ"]
        {
            assert_eq!(with(("sec-websocket-key", key)), Refusal::WebSocketKey, "{key}");
        }
        assert_eq!(with(("sec-websocket-protocol", "base64")), Refusal::Subprotocol);
        assert_eq!(with(("sec-websocket-protocol", "vncgate.token.x")), Refusal::Subprotocol);
        let long = format!("/{}?token={TOKEN}", "a".repeat(PATH_LEN_MAX));
        assert_eq!(refusal(&[(":path", &long)]), Refusal::PathTooLong);
    }

    #[test]
    fn the_origin_is_absent_or_our_own_or_allowed() {
        let path = token_path();
        let allowed = |authority, scheme, origin| {
            read_http1(&[
                (":path", &path),
                (":authority", authority),
                (":scheme", scheme),
                ("origin", origin),
            ])
            .is_ok()
        };
        let host = "consoles.example.com";
        assert!(allowed(host, "https", ""));
        assert!(allowed(host, "https", "https://consoles.example.com"));
        assert!(allowed(host, "https", "https://CONSOLES.example.com:443"));
        assert!(allowed("consoles.example.com:8443", "https", "https://consoles.example.com:8443"));
        assert!(allowed("[::1]:8443", "https", "https://[::1]:8443"));
        assert!(allowed("[::1]", "https", "https://[::1]"));
        assert!(allowed(host, "https", "https://portal.example.com"));

        assert!(!allowed(host, "https", "http://consoles.example.com"));
        assert!(!allowed(host, "http", "https://consoles.example.com"));
        assert!(!allowed(host, "https", "https://consoles.example.com:8443"));
        assert!(!allowed(host, "https", "http://portal.example.com"));
        assert!(!allowed(host, "https", "https://portal.example.com.evil.example"));
        assert!(!allowed(host, "https", "https://evil.example"));
        assert!(!allowed(host, "https", "https://evil@consoles.example.com"));
        assert!(!allowed(host, "https", "null"));
        assert!(!allowed(host, "https", "file://"));
    }

    #[test]
    fn a_name_that_is_not_ours_makes_no_origin_ours() {
        let config = Config::parse(
            br#"{"authority": {"cluster": "a"}, "hosts": ["Consoles.example.com", "[::1]"]}"#,
        )
        .unwrap();
        let path = token_path();
        let refused = |host: &str| {
            let origin = format!("https://{host}");
            let headers = request(&[(":path", &path), (":authority", host), ("origin", &origin)]);
            read(&headers, HttpVersion::Http1, &config).err()
        };
        assert_eq!(refused("consoles.example.com"), None);
        assert_eq!(refused("CONSOLES.example.com:8443"), None);
        assert_eq!(refused("[::1]:8443"), None);
        assert_eq!(refused("evil.example"), Some(Refusal::Host));
        assert_eq!(refused("consoles.example.com.evil.example"), Some(Refusal::Host));
    }

    #[test]
    fn the_scheme_is_the_one_that_the_browser_used() {
        let headers = [
            (":path", &*token_path()),
            (":scheme", "http"),
            ("x-forwarded-proto", "https"),
            ("origin", "https://consoles.example.com"),
        ];
        assert!(read_http1(&headers).is_ok());
    }

    #[test]
    fn only_upgrades_to_websocket_below_the_prefix_are_consoles() {
        let config =
            Config::parse(br#"{"authority": {"cluster": "a"}, "path_prefix": "/console/"}"#)
                .unwrap();
        assert!(is_console_upgrade(Some("WebSocket"), "/console/x", &config));
        assert!(!is_console_upgrade(Some("websocket"), "/other", &config));
        assert!(!is_console_upgrade(Some("h2c"), "/console/x", &config));
        assert!(!is_console_upgrade(None, "/console/x", &config));
    }
}
