//! Who is calling the console API.

pub mod api_token;

/// Somebody who may ask for consoles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name for logs.
    pub name: String,
}
