//! Reads the body of a request within limits of size and time.

use axum::body::{Body, Bytes, to_bytes};
use http_body_util::LengthLimitError;
use std::error::Error;
use std::time::Duration;
use tokio::time::timeout;

/// Largest body of a request, in bytes. The largest that either API takes is a few hundred bytes; nova's schemas bound
/// every field.
pub const BODY_LIMIT: usize = 16 * 1024;

/// How long a body may take. A body that small arrives at once, and each one that does not holds one of the requests that
/// Envoy lets wait for the authority.
const BODY_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a request's body could not be read.
pub(super) enum RequestBodyError {
    TooLarge,
    Incomplete,
}

/// Reads the whole body, within [`BODY_LIMIT`] and [`BODY_TIMEOUT`].
pub(super) async fn read_body(body: Body) -> Result<Bytes, RequestBodyError> {
    read_body_up_to(BODY_LIMIT, body).await
}

/// Reads the whole body, within so many bytes and [`BODY_TIMEOUT`].
pub(super) async fn read_body_up_to(limit: usize, body: Body) -> Result<Bytes, RequestBodyError> {
    match timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // The limit is the one error that `to_bytes` adds to those of the connection.
        Ok(Err(error)) if error.source().is_some_and(|e| e.is::<LengthLimitError>()) => {
            Err(RequestBodyError::TooLarge)
        }
        Ok(Err(_)) | Err(_) => Err(RequestBodyError::Incomplete),
    }
}
