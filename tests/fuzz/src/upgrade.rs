//! An upgrade request: an accepted one must be an upgrade by RFC 6455, from an allowed page, and its token must
//! not be left in the path.

use arbitrary::Arbitrary;
use std::sync::LazyLock;
use tungstenite::handshake::derive_accept_key;
use url::Url;
use vncgate_filter_core::config::Config;
use vncgate_filter_core::headers::Headers;
use vncgate_filter_core::origin::Origin;
use vncgate_filter_core::upgrade::{HttpVersion, Upgrade, read};

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let json =
        br#"{"authority": {"cluster": "a"}, "allowed_origins": ["https://portal.example.com"]}"#;
    Config::parse(json).unwrap_or_else(|_| panic!("the configuration is valid"))
});

/// The browser's HTTP version, and its headers as lines of `name: value`.
#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    http1: bool,
    headers: &'a str,
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    // Pseudo-headers begin with a colon, so the first ": " ends the name.
    let lines = input.headers.lines().filter_map(|line| line.split_once(": "));
    let headers = Headers(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let version = if input.http1 { HttpVersion::Http1 } else { HttpVersion::Http2OrLater };
    match read(&headers, version, &CONFIG) {
        Ok(upgrade) => assert_valid(&upgrade, &headers, version),
        Err(refusal) => assert!((400..600).contains(&refusal.status())),
    }
}

fn assert_valid(upgrade: &Upgrade, headers: &Headers, version: HttpVersion) {
    assert_eq!(headers.first(":method"), Some("GET"));
    assert_eq!(headers.first("sec-websocket-version"), Some("13"));
    let key = headers.first("sec-websocket-key").filter(|_| version == HttpVersion::Http1);
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    assert_eq!(upgrade.handshake.accept, accept, "accept key");
    assert_origin_allowed(headers);

    let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    assert!(!upgrade.token.is_empty() && upgrade.token.bytes().all(url_safe));
    let query = upgrade.path.split_once('?').map_or("", |(_, query)| query);
    let mut names = query.split('&').filter_map(decode_name);
    assert!(names.all(|name| name != "token"), "a token left in {}", upgrade.path);
}

fn decode_name(parameter: &str) -> Option<String> {
    url::form_urlencoded::parse(parameter.as_bytes()).next().map(|(name, _)| name.into_owned())
}

/// Holds the origin (RFC 6454) to what the URL standard's parser reads.
fn assert_origin_allowed(headers: &Headers) {
    let Some(origin) = headers.first("origin") else { return };
    assert!(Origin::parse(origin).is_some());
    let Ok(url) = Url::parse(origin) else { return };
    let scheme = headers.first("x-forwarded-proto").or_else(|| headers.first(":scheme"));
    let own = scheme.zip(headers.first(":authority"));
    let own =
        own.and_then(|(scheme, authority)| Url::parse(&format!("{scheme}://{authority}")).ok());
    let allowed = Url::parse("https://portal.example.com").expect("a URL");
    let same = |other: &Url| other.origin() == url.origin();
    assert!(same(&allowed) || own.as_ref().is_none_or(same), "{origin} is foreign");
}
