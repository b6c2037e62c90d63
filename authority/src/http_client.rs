//! HTTP requests to other services: vCenter, Keystone, another authority.

use crate::text::printable;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, Response};
use rustls::ClientConfig;
use std::error::Error as _;

/// Builds an HTTP client that verifies servers as `tls` says. The client follows no redirect and takes no proxy
/// from the environment: it connects to no server but the one in the request's URL.
///
/// Each request asks for `identity`: without `Accept-Encoding` a server or a proxy before it may compress its
/// response (RFC 9110 12.5.3), and no caller of this module could read that.
pub fn builder(tls: ClientConfig) -> ClientBuilder {
    let identity = (ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Client::builder()
        .default_headers(HeaderMap::from_iter([identity]))
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

/// Why a response's body could not be read.
pub enum ResponseBodyError {
    /// The connection broke.
    Broken(reqwest::Error),
    /// It is larger than the limit.
    TooLarge,
}

impl ResponseBodyError {
    /// The reason, as [`explain`] has it.
    pub fn explain(self) -> String {
        match self {
            Self::Broken(error) => explain(error),
            Self::TooLarge => "the response is too large".to_owned(),
        }
    }
}

/// Reads the whole body, of at most `limit` bytes. Without a limit a broken server could fill the memory.
pub async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, ResponseBodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ResponseBodyError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(ResponseBodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error with all its causes, fit for a log line, and without the URL, which the caller logs itself.
pub fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    printable(&text)
}
