//! The wire of step 6: WebSocket frames (RFC 6455 section 5) to raw bytes and back.
//!
//! From the browser, [`Deframer`] takes chunks in any split and leaves the payload of binary messages in
//! their place. It buffers only the up to 14 bytes of an incomplete header and the up to 125 bytes of an
//! incomplete control frame, so a frame may announce any length. Fragmented messages need no joining: to a
//! byte stream a fragment is bytes like any other.
//!
//! To the browser, [`FrameHeader`] makes a chunk one binary message.
//!
//! | module | job |
//! |---|---|
//! | `boundary` | where frames begin in a stream that passes |
//! | `control` | control frames, both ways, and close codes |
//! | `header` | reads the header of a frame from the browser |
//! | `deframer` | unwraps the browser's frames |
//! | `reframer` | unwraps the browser's frames and frames them again |
//! | `frame` | writes the header of a frame to the browser |

mod boundary;
mod control;
mod deframer;
mod frame;
mod header;
mod reframer;

pub use boundary::FrameBoundaries;
pub use control::{
    CLOSE_REASON_LEN_MAX, CloseCode, End, PENDING_PONGS_MAX, PING_FRAME, close_frame,
    ordered_close_frame,
};
pub use deframer::{Deframed, Deframer};
pub use frame::FrameHeader;
pub use reframer::{Failure, Reframer};

#[cfg(test)]
mod tests;
