//! Carries out what a session wants done with Envoy's bodies. Only this module adds frames to them, holds them and
//! resumes them; the stream replaces a chunk that it has read.

use crate::handle::SessionHandle;
use crate::hostcalls::{self, Action, BufferType, HostError, LogLevel};
use crate::self_queue::SelfQueue;
use vncgate_filter_core::outputs::{Edit, Outputs};
use vncgate_filter_core::websocket::FrameHeader;

/// What Envoy calls the module for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    RequestBody,
    ResponseBody,
    /// A tick or a wake-up, outside of the stream's own callbacks.
    Timer,
}

/// Carries out `outputs` on the stream of this session, which must be Envoy's current one. Returns what the
/// callback of `event` returns to Envoy. A stream on which a call fails is ended.
pub(crate) fn carry_out(
    outputs: Outputs,
    event: Event,
    session: &SessionHandle,
    self_queue: &SelfQueue,
) -> Action {
    let hold = match event {
        Event::RequestBody => outputs.to_server.hold,
        Event::ResponseBody => outputs.to_browser.hold,
        Event::Timer => false,
    };
    match write(outputs, session, self_queue) {
        Ok(()) if !hold => Action::Continue,
        Ok(()) => Action::Pause,
        Err(error) => {
            session.abort("body", error);
            Action::Pause
        }
    }
}

/// Each edit may end the stream, if it makes a body larger than Envoy's limit. Nothing follows then.
fn write(
    outputs: Outputs,
    session: &SessionHandle,
    self_queue: &SelfQueue,
) -> Result<(), HostError> {
    if let Some(why) = &outputs.failure {
        session.log(LogLevel::Warn, why);
    }
    edit(BufferType::HttpResponseBody, &outputs.to_browser, session)?;
    if session.has_ended() {
        return Ok(());
    }
    if outputs.to_browser.resume {
        hostcalls::resume_response()?;
    }
    edit(BufferType::HttpRequestBody, &outputs.to_server, session)?;
    if session.has_ended() {
        return Ok(());
    }
    if outputs.to_server.resume {
        hostcalls::resume_request()?;
    }
    if outputs.wake_up {
        self_queue.request_wake_up(session.context_id())?;
    }
    if outputs.reset {
        hostcalls::reset_stream()?;
    }
    Ok(())
}

fn edit(body: BufferType, edit: &Edit, session: &SessionHandle) -> Result<(), HostError> {
    if edit.discard {
        hostcalls::replace_buffer(body, &[])?;
    }
    if let Some(header) = edit.header {
        hostcalls::prepend_buffer(body, header.encode(&mut [0; FrameHeader::LEN_MAX]))?;
    }
    if !edit.append.is_empty() && !session.has_ended() {
        hostcalls::append_buffer(body, &edit.append)?;
    }
    Ok(())
}
