//! What a session wants done with the bodies of its stream.

use crate::websocket::FrameHeader;
use std::borrow::Cow;

/// What to do with a stream's bodies.
#[derive(Debug, Default)]
pub struct Outputs {
    /// What to do with the response body.
    pub to_browser: Edit,
    /// What to do with the request body.
    pub to_server: Edit,
    /// Why the console cannot be opened, for the log. Printable characters only.
    pub failure: Option<Cow<'static, str>>,
    /// Wake the session up as soon as Envoy allows, outside of this stream's callbacks.
    pub wake_up: bool,
    /// The browser's time to answer our Close begins. End the stream on both sides when it is over.
    pub awaits_close: bool,
    /// End the stream on both sides.
    pub reset: bool,
}

impl Outputs {
    /// Drops what the server has sent after our Close. Its end is held, because Envoy would end the browser's stream with it.
    pub(crate) fn drop_server_bytes() -> Self {
        let to_browser = Edit { discard: true, hold: true, ..Edit::default() };
        Self { to_browser, ..Self::default() }
    }
}

/// What to do with the bytes of a body that Envoy holds, in this order.
#[derive(Debug, Default)]
pub struct Edit {
    /// Drop them.
    pub discard: bool,
    /// Put this header before them.
    pub header: Option<FrameHeader>,
    /// Append these bytes.
    pub append: Vec<u8>,
    /// Let all of them go.
    pub resume: bool,
    /// In a callback for this body: hold it from here on.
    pub hold: bool,
}
