//! Origins (RFC 6454) and the host names in them.

use std::net::Ipv6Addr;

/// A page's origin (RFC 6454): scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads `http(s)://host` or `http(s)://host:port`. Returns `None` for everything else: the opaque origin
    /// `null`, other schemes, a path, user information.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        Self::from_parts(scheme, authority)
    }

    /// The origin of a scheme and a `host` or `host:port`, under the same rules as [`Origin::parse`].
    pub(crate) fn from_parts(scheme: &str, authority: &str) -> Option<Self> {
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = split_host(authority)?;
        let port = match authority.strip_prefix(host)?.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None => default_port,
        };
        Some(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

/// The host of `host` or `host:port` as it is compared: in lower case, without the dot that ends a fully qualified
/// name, an IPv6 literal in its one canonical form (RFC 5952) and with its brackets.
pub(crate) fn normalize_host(authority: &str) -> Option<String> {
    let host = split_host(authority)?;
    if let Some(literal) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return Some(format!("[{}]", literal.parse::<Ipv6Addr>().ok()?));
    }
    let name = host.trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// The host of `host` or `host:port`. An IPv6 literal keeps its brackets.
pub(crate) fn split_host(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let of_literal = |byte: u8| byte.is_ascii_hexdigit() || b".:".contains(&byte);
    let valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(literal) => literal.bytes().all(of_literal),
        None => host.bytes().all(of_name),
    };
    (!host.is_empty() && valid).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_form() {
        for (text, normal) in [
            ("a.example", Some("a.example")),
            ("A.Example:8443", Some("a.example")),
            ("a.example.", Some("a.example")),
            ("a.example.:443", Some("a.example")),
            ("a.example..", Some("a.example")),
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("[2001:DB8:0::1]:443", Some("[2001:db8::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (".", None),
            (":443", None),
            ("a.example:80:90", None),
            ("user@a.example", None),
            ("a.example/x", None),
            ("a%2eexample", None),
            ("a example", None),
            ("[a.example]", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(normalize_host(text).as_deref(), normal, "{text:?}");
        }
    }
}
