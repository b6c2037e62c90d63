//! One direction of a stream: what Envoy's filter manager and the filter's context keep of it.

use crate::abi::Status;
use crate::headers::HeaderMap;

/// Bytes of a body that may be held back: `per_connection_buffer_limit_bytes` of a listener, whose
/// default is 1 MiB.
pub const BUFFER_LIMIT: usize = 1024 * 1024;

/// Where the filter manager stands with the filter in this direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Iteration {
    /// What arrives goes to the filter, and on from there.
    #[default]
    Continue,
    /// A body callback returned `Pause`: what arrives goes to the filter and stops there.
    StoppedBody,
    /// The headers callback returned `Pause`: what arrives waits and the filter is not told.
    StoppedAll,
}

/// Headers and body of one direction.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) headers: HeaderMap,
    /// Whether host functions may use the headers now.
    pub(crate) headers_readable: bool,
    /// Whether the headers have left the filter.
    pub(crate) headers_continued: bool,
    pub(crate) iteration: Iteration,
    /// Body bytes that the filter manager holds back. It exists, empty, after they were let go.
    pub(crate) held: Option<Vec<u8>>,
    /// The body bytes of the callback that runs now.
    pub(crate) chunk: Vec<u8>,
    /// Whether host functions may use them.
    pub(crate) chunk_readable: bool,
    /// Whether host functions see `held` as the body, not `chunk`: so after a body callback
    /// returned `Pause`, until the next one returns.
    pub(crate) buffering: bool,
    /// The sender has sent everything.
    pub(crate) end_seen: bool,
    /// Body bytes that left the filter and have not been taken.
    pub(crate) out: Vec<u8>,
    /// Everything has left the filter.
    pub(crate) out_ended: bool,
}

impl Half {
    pub(crate) fn new(headers: HeaderMap, end: bool) -> Self {
        Self { headers, end_seen: end, ..Self::default() }
    }

    /// The bytes that host functions see as the body now.
    pub(crate) fn body(&mut self) -> Option<&mut Vec<u8>> {
        if self.buffering {
            self.held.as_mut()
        } else {
            self.chunk_readable.then_some(&mut self.chunk)
        }
    }

    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.get_or_insert_default().extend(bytes);
    }

    /// More is held back than may be.
    pub(crate) fn overflows(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.len() > BUFFER_LIMIT)
    }

    pub(crate) fn pass_on(&mut self, bytes: &[u8], end: bool) {
        self.out.extend(bytes);
        self.out_ended |= end;
    }
}

/// Replaces part of a body as Envoy's `Buffer::copyFrom` does: at the start, `length` bytes are
/// dropped and `data` is put before the rest; at or after the end `data` is appended.
///
/// # Errors
/// [`Status::BadArgument`] for a position in the middle.
pub(crate) fn replace(
    body: &mut Vec<u8>,
    start: usize,
    length: usize,
    data: &[u8],
) -> Result<(), Status> {
    if start == 0 {
        let dropped = length.min(body.len());
        body.splice(..dropped, data.iter().copied());
        Ok(())
    } else if start >= body.len() {
        body.extend(data);
        Ok(())
    } else {
        Err(Status::BadArgument)
    }
}

/// The part of a body that a host function reads; what lies beyond its end is left off.
pub(crate) fn slice(body: &[u8], start: usize, length: usize) -> &[u8] {
    let start = start.min(body.len());
    let end = start.saturating_add(length).min(body.len());
    &body[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(start: usize, length: usize, data: &[u8]) -> Result<Vec<u8>, Status> {
        let mut body = b"body".to_vec();
        replace(&mut body, start, length, data)?;
        Ok(body)
    }

    #[test]
    fn a_body_changes_at_its_ends_only() {
        assert_eq!(replaced(0, 0, b"new ").unwrap(), b"new body");
        assert_eq!(replaced(0, 2, b"BO").unwrap(), b"BOdy");
        assert_eq!(replaced(0, 4, b"new").unwrap(), b"new");
        assert_eq!(replaced(0, usize::MAX, b"new").unwrap(), b"new");
        assert_eq!(replaced(4, 0, b" end").unwrap(), b"body end");
        assert_eq!(replaced(9, 9, b" end").unwrap(), b"body end");
        assert_eq!(replaced(1, 1, b"x"), Err(Status::BadArgument));
    }

    #[test]
    fn a_read_beyond_the_end_is_shortened() {
        assert_eq!(slice(b"body", 1, 2), b"od");
        assert_eq!(slice(b"body", 2, 9), b"dy");
        assert_eq!(slice(b"body", 9, 1), b"");
    }
}
