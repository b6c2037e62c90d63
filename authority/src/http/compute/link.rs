//! Links in documents: where the API is, as the caller reached it.

use axum::http::HeaderMap;
use axum::http::header::HOST;

/// Envoy says in it how the caller reached it; the authority itself is reached by plain HTTP.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The API's address as the caller wrote it. What a caller sends as its host stands in that caller's answer
/// and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseUrl(String);

impl BaseUrl {
    /// Where this request was sent to.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = match text(FORWARDED_PROTO) {
            Some("https") => "https",
            _ => "http",
        };
        // Without a host the links are relative ones.
        Self(text(HOST.as_str()).map_or_else(String::new, |host| format!("{scheme}://{host}")))
    }

    /// The URL of a path, which begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}
