//! The proxy-wasm shell of the filter: carries Envoy's events into [`vncgate_filter_core::session`] and its
//! commands out.
//!
//! # One console session
//!
//! These are the callbacks of one stream, in their order; `docs/architecture.md` follows the whole path, file by file.
//!
//! 1. Envoy creates a context for the stream (`exports`), and `stream` reads the request's headers. The
//!    session has the authority asked, and the request waits.
//! 2. The reply comes to the root context, which finds the stream that made the call. A grant becomes filter
//!    state, and the request goes on to the target.
//! 3. The target has answered. The session is open: the worker adds it to the `registry`, starts its `keepalive` and its
//!    time to begin, and tells the authority (`reporting`); the stream makes the response a `101`.
//! 4. Bytes come in both directions. The session says what to do with them, and `body` does it. If a session
//!    has to act outside of its own callbacks, the `worker` lets it: at a tick, or at a wake-up that the
//!    `self_queue` requested.
//! 5. The stream is gone: Envoy calls `proxy_on_done` and `proxy_on_delete`, perhaps within a call of the stream
//!    to Envoy.
//!
//! # How to read it
//!
//! Each module imports only modules that stand below it.
//!
//! | module | job |
//! |---|---|
//! | `exports` | the functions that Envoy calls |
//! | `root` | the plugin as a whole, once per worker |
//! | `stream` | one request, step by step |
//! | `worker` | what the streams of one worker share, and the owner of its one tick |
//! | `reporting` | what the authority is told of open sessions, and its orders |
//! | `registry` | the open sessions |
//! | `keepalive` | when the open sessions get a keepalive tick |
//! | `deadlines` | when a console that has not begun is given up, or a session that has to end |
//! | `call` | what made a call to the authority, and what came back |
//! | `body` | adds frames to Envoy's bodies, holds them and resumes them |
//! | `handle` | a session, its stream, and its name in the log |
//! | `self_queue` | has Envoy call again as soon as the running callback is over |
//! | `metrics` | counters and gauges |
//! | `hostcalls` | every call to Envoy, each with its failure as a value |
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

mod body;
mod call;
mod deadlines;
mod exports;
mod handle;
mod hostcalls;
mod keepalive;
mod metrics;
mod registry;
mod reporting;
mod root;
mod self_queue;
mod stream;
mod worker;
