//! Links in documents: where the API is, as the caller reached it.

use axum::http::HeaderMap;
use axum::http::header::HOST;

/// The scheme by which the caller reached Envoy; Envoy reaches the authority by plain HTTP.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The API's address as the caller wrote it. The host that a caller sends appears in that caller's response and
/// nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseUrl(String);

impl BaseUrl {
    /// The address that this request was sent to.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = match text(FORWARDED_PROTO) {
            Some("https") => "https",
            _ => "http",
        };
        // Without a host the links are relative.
        Self(text(HOST.as_str()).map_or_else(String::new, |host| format!("{scheme}://{host}")))
    }

    /// The URL of a path, which begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}
