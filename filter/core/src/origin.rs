//! Origins (RFC 6454) and the host names in them.

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
        let host = parse_host(authority)?;
        let port = match authority.strip_prefix(host)?.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None => default_port,
        };
        Some(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

/// The host of `host` or `host:port`. An IPv6 literal keeps its brackets.
pub(crate) fn parse_host(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (!host.is_empty() && host.bytes().all(valid)).then_some(host)
}
