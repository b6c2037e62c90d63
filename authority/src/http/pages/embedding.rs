//! Which sites may show our pages in a frame: those of `[console] embed_origins`, and no others.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::Response;
use std::fmt;
use url::Url;

/// The directive of a page's policy that forbids framing (Content Security Policy Level 3, section 6.4.2).
const FORBIDDEN: &str = "frame-ancestors 'none'";

/// The origin of a site that may show our pages in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbedOrigin(String);

impl EmbedOrigin {
    /// Reads `https://host` or `https://host:port`, or the same with `http`. It goes into a policy's directive, so nothing
    /// is accepted that means something else there: a wildcard, a path, an IPv6 address, which policies do not know, or what
    /// ends the directive.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "must be an origin such as https://dashboard.example.com, without wildcard, path or user";
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        let origin = url.origin().ascii_serialization();
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let host = url.host_str().unwrap_or_default();
        let is_origin = matches!(url.scheme(), "http" | "https")
            && !host.is_empty()
            && host.bytes().all(is_host)
            && text.eq_ignore_ascii_case(&origin);
        if is_origin { Ok(Self(origin)) } else { Err(EXPECTED) }
    }
}

impl fmt::Display for EmbedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directive that lets pages of these sites show ours.
pub(super) fn frame_ancestors(origins: &[EmbedOrigin]) -> String {
    if origins.is_empty() {
        return FORBIDDEN.to_owned();
    }
    origins.iter().fold("frame-ancestors".to_owned(), |list, origin| format!("{list} {origin}"))
}

/// Puts the directive into the policy of a page.
pub(super) fn allow(directive: &str, mut response: Response) -> Response {
    let policy = response.headers().get(CONTENT_SECURITY_POLICY);
    let policy = policy.and_then(|policy| policy.to_str().ok());
    let changed = policy.map(|policy| policy.replace(FORBIDDEN, directive));
    if let Some(Ok(changed)) = changed.map(|policy| HeaderValue::from_str(&policy)) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, changed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_in_a_policy_too() {
        for (text, origin) in [
            ("https://dashboard.example.com", "https://dashboard.example.com"),
            ("HTTPS://Dashboard.Example.com", "https://dashboard.example.com"),
            ("https://dashboard.example.com:8443", "https://dashboard.example.com:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(EmbedOrigin::parse(text), Ok(EmbedOrigin(origin.to_owned())), "{text}");
        }
        for text in [
            "",
            "*",
            "https:",
            "https://",
            "https://*",
            "https://*.example.com",
            "https://example.com:*",
            "https://example.com/",
            "https://example.com/horizon",
            "https://example.com?x",
            "https://example.com#x",
            "https://user@example.com",
            "https://example.com;script-src *",
            "https://example.com; script-src *",
            "https://example.com https://evil.example",
            "https://example.com,https://evil.example",
            "https://[2001:db8::1]",
            "https://a_b.example.com",
            "https://example.com:443",
            "https://bücher.example",
            "ftp://example.com",
            "data:text/html,x",
            "null",
            "'self'",
            "dashboard.example.com",
        ] {
            assert!(EmbedOrigin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_names_each_origin() {
        assert_eq!(frame_ancestors(&[]), "frame-ancestors 'none'");
        let origins = ["https://a.example", "https://b.example:8443"];
        let origins = origins.map(|text| EmbedOrigin::parse(text).unwrap());
        assert_eq!(
            frame_ancestors(&origins),
            "frame-ancestors https://a.example https://b.example:8443"
        );
    }
}
