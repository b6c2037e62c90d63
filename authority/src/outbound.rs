//! HTTP requests to other services: vCenter, Keystone, another authority.

use reqwest::{Client, ClientBuilder, Response};
use rustls::ClientConfig;
use std::error::Error as _;

/// An HTTP client that verifies servers as `tls` says. It follows no redirect and takes no proxy from the
/// environment: it talks to the server that it is told to and to no other.
pub fn client(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

/// Why a response's body is not here.
pub enum NoBody {
    /// The connection broke.
    Broken(reqwest::Error),
    /// It is larger than it may be.
    TooLarge,
}

/// The whole body, if it has at most `limit` bytes. Without a limit a broken server could fill the memory.
pub async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, NoBody> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(NoBody::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(NoBody::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error with all its causes, and without the URL, which the caller knows better.
pub fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
