//! The headers of a request, as Envoy hands them over.

/// A request's headers, pseudo-headers included, with lower-case names.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Every value of a header, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that may be sent only once; `None` if absent.
    ///
    /// # Errors
    ///
    /// [`Repeated`] if it was sent more than once.
    pub(crate) fn single<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Repeated> {
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

/// A header that may be sent only once was sent more than once.
pub(crate) struct Repeated;

/// Whether a header describes the browser, its page or the handshake rather than the tunnel. Such a header may
/// carry the token, and neither a VNC server nor an access log needs any of them.
pub fn is_for_browser_only(name: &str) -> bool {
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
    // `sec-` also covers fetch metadata and client hints.
    name.starts_with("sec-") || NAMES.contains(&name)
}
