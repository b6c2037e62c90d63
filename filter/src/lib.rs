//! The proxy-wasm shell: carries Envoy's events into [`vncgate_filter_core::session`] and its commands out.
//!
//! - `exports`: the functions that Envoy calls
//! - `root`: the plugin as a whole, once per worker
//! - `stream`: one request, step by step
//! - `timer`: what happens to a stream outside of its own callbacks
//! - `self_queue`: being called again as soon as a callback is over
//! - `metrics`: counters and gauges
//! - `hostcalls`: every call to Envoy, each with its failure as a value
#![cfg(target_arch = "wasm32")]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unreachable,
    clippy::todo
)]

mod exports;
mod hostcalls;
mod metrics;
mod root;
mod self_queue;
mod stream;
mod timer;
