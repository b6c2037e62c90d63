//! Fuzz targets on everything that reads what others send: the browser, the console's server, the
//! authority, vCenter.
//!
//! | target | reads | is held to |
//! |---|---|---|
//! | [`tunnel`] | a browser's frames | what tungstenite reads from them, and the same in any split |
//! | [`session`] | events of one session in any order | what a browser and a server may see of it |
//! | [`rfb`] | both sides of a login | the handshake of RFC 6143, and the same in any split |
//! | [`client_messages`] | what a browser tells its console | a second reader, and the same in any split |
//! | [`upgrade`] | an upgrade's headers | the rules of RFC 6455, and another parser's idea of an origin |
//! | [`check`] | both bodies of the check API | the contract |
//! | [`reports`] | the authority's answers and orders; reports of open sessions | the contract, and orders for open sessions alone |
//! | [`soap`] | vCenter's replies; strings for requests | what another XML reader reads |
//!
//! A target is a module with an `Input` and a function `run` that panics on a finding, so that an input is a
//! test as it is: `cargo fuzz run TARGET FILE`. `just fuzz` runs all of them for a while, `just test-fuzz`
//! for seconds each.

pub mod check;
pub mod client_messages;
mod console;
mod envoy;
pub mod reports;
pub mod rfb;
pub mod session;
pub mod soap;
/// The authority's own source, which its vSphere codec uses.
#[path = "../../../authority/src/text.rs"]
#[allow(dead_code)] // It reads files for the command line as well.
mod text;
pub mod tunnel;
pub mod upgrade;
mod vcenter;

use std::io::{Read, Result, Write};
use tungstenite::WebSocket;
use tungstenite::protocol::{Role, WebSocketConfig};

/// A WebSocket of tungstenite that reads these bytes; what it answers goes nowhere.
pub fn peer(role: Role, bytes: &[u8]) -> WebSocket<Incoming<'_>> {
    // Small buffers: there is a peer for each input.
    let config = WebSocketConfig::default().read_buffer_size(1024);
    WebSocket::from_raw_socket(Incoming(bytes), role, Some(config))
}

/// See [`peer`].
pub struct Incoming<'a>(&'a [u8]);

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Incoming<'_> {
    fn write(&mut self, buffer: &[u8]) -> Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
