//! HTTP calls that the filter makes with `proxy_http_call`, and what Envoy answers to them.

use crate::headers::HeaderMap;
use std::time::Duration;

/// A call that the filter has made and that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Connects the answer with the call.
    pub(crate) token: u32,
    /// The cluster that the call goes to.
    pub cluster: String,
    /// Request headers, `:method`, `:path`, `:authority` and `content-length` among them.
    pub headers: HeaderMap,
    /// Request body.
    pub body: Vec<u8>,
    /// How long Envoy waits for the whole answer. Zero: without a limit.
    pub timeout: Duration,
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallAnswer {
    /// Headers and a body, from the upstream or from Envoy itself.
    Response {
        /// Response headers with `:status`.
        headers: HeaderMap,
        /// Response body.
        body: Vec<u8>,
    },
    /// The stream was reset. The filter sees a response without headers.
    Reset,
}

impl CallAnswer {
    /// The upstream's answer, with a JSON body.
    pub fn json(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::response(status, "application/json", body)
    }

    /// Envoy's own answer when the call's timeout has passed: a `504`, not a failure.
    pub fn timed_out() -> Self {
        Self::response(504, "text/plain", "upstream request timeout")
    }

    /// Envoy's own answer when it cannot connect: a `503`, not a failure.
    pub fn connection_refused() -> Self {
        let reason = "upstream connect error or disconnect/reset before headers. \
            reset reason: remote connection failure";
        Self::response(503, "text/plain", reason)
    }

    fn response(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        Self::Response {
            headers: HeaderMap::from([
                (":status", status.to_string()),
                ("content-type", content_type.to_owned()),
                ("content-length", body.len().to_string()),
            ]),
            body,
        }
    }
}

/// The clusters that the host's imagined Envoy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterHealth {
    /// Calls go out.
    Healthy,
    /// No healthy host: a call fails at once with `InternalFailure`.
    NoHealthyHost,
}
