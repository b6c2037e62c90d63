//! Calls to the authority: who made one, and what came back.

use crate::hostcalls::{self, BufferType, MapType};
use vncgate_filter_core::check::Reply;
use vncgate_filter_core::reports::CallKind;

/// What made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The stream with this context: a check.
    Stream(u32),
    /// The worker: a report of its sessions.
    Reports(CallKind),
}

/// The status and the body of an answer.
pub(crate) struct Answer(Option<(u16, Vec<u8>)>);

impl Answer {
    /// Reads the answer that Envoy calls back for. `headers` is the number of its headers: 0 if there is no answer. One of
    /// more than `len_max` bytes counts as none.
    pub(crate) fn read(headers: usize, body_len: usize, len_max: usize) -> Self {
        if headers == 0 || body_len > len_max {
            return Self(None);
        }
        Self(Self::read_parts(body_len))
    }

    fn read_parts(body_len: usize) -> Option<(u16, Vec<u8>)> {
        let status = hostcalls::read_header(MapType::CallResponse, ":status").ok()??;
        let body = match body_len {
            0 => Vec::new(),
            len => hostcalls::read_buffer(BufferType::HttpCallResponseBody, len).ok()?,
        };
        Some((status.parse().ok()?, body))
    }

    pub(crate) fn as_reply(&self) -> Reply<'_> {
        match &self.0 {
            Some((status, body)) => Reply::Answer { status: *status, body },
            None => Reply::Failed,
        }
    }
}
