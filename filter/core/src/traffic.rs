//! What a session has done, as counts that cost an addition for each chunk.

/// Bytes of a session, without WebSocket's headers where the filter removes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the browser to the console.
    pub from_browser: u64,
    /// From the console to the browser.
    pub to_browser: u64,
}

/// What a session has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Bytes from its opening on.
    pub bytes: Bytes,
    /// The user has pressed a key, used the pointer or sent a clipboard since the last look. Known only where the browser's
    /// messages are read.
    pub has_new_input: bool,
}

impl Bytes {
    pub(crate) fn add_from_browser(&mut self, len: usize) {
        self.from_browser = self.from_browser.wrapping_add(len as u64);
    }

    pub(crate) fn add_to_browser(&mut self, len: usize) {
        self.to_browser = self.to_browser.wrapping_add(len as u64);
    }
}
