//! The proxy-wasm shell: carries Envoy's events into [`crate::session`] and its commands out.
//!
//! - [`entry`]: the functions that Envoy calls
//! - [`root`]: the plugin as a whole, once per worker
//! - [`stream`]: one request, step by step
//! - [`timer`]: what happens to a stream outside of its own callbacks
//! - [`wake_ups`]: being called again as soon as a callback is over
//! - [`metrics`]: counters and gauges
//! - [`host`]: every call to Envoy, each with its failure as a value

mod entry;
mod host;
mod metrics;
mod root;
mod stream;
mod timer;
mod wake_ups;
