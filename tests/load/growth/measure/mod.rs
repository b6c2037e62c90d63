//! How each growth is measured: a function from its steps to the figures of each.

pub(crate) mod authorities;
pub(crate) mod consoles;
pub(crate) mod host;
pub(crate) mod machines;
pub(crate) mod sessions;
pub(crate) mod tenants;
pub(crate) mod tokens;
pub(crate) mod workers;
