//! The filter in a real Envoy with the shipped configuration, a real authority and a simulated vCenter.
//!
//! `ENVOY_VERSION` chooses the Envoy; `just test-envoy-versions` runs all of this on each supported one.

mod authority;
mod browser_bytes;
mod buffers;
mod fixture;
mod http;
mod http2;
mod keep_alive;
mod limits;
mod log;
mod malformed;
mod target;
mod upgrade;
