//! The vncgate filter without Envoy: opens the consoles of virtual machines over WebSocket.
//!
//! # One console session
//!
//! The whole product serves six steps; `docs/architecture.md` follows them file by file. The filter is steps 3, 4
//! and 6.
//!
//! ```text
//! caller ──1 issue──▶ authority ──2 look up──▶ vCenter          (console URL with a token)
//! browser ──3 WebSocket upgrade──▶ Envoy
//!                      Envoy/filter ──4 check──▶ authority ──5 validate──▶ vCenter
//!                      Envoy/filter ──6 tunnel: WebSocket ⇄ raw RFB──▶ ESXi
//! ```
//!
//! 3. A browser asks for a WebSocket. [`upgrade`] reads method, version, key, origin, subprotocol and the
//!    console token, or refuses the request with a status and a reason ([`refusal`]). A request that is not a
//!    WebSocket upgrade passes untouched. A client or token that already has its share of sessions
//!    ([`session_limits`]) is refused.
//! 4. The filter asks the authority whether the token is valid and where the console is ([`check`]). The
//!    target in the answer becomes Envoy filter state, and the router dials exactly that address.
//! 6. Envoy has connected. The filter answers `101` and turns WebSocket frames into raw bytes one way and raw
//!    bytes into WebSocket frames the other way ([`tunnel`], [`websocket`]), until either side ends. It begins
//!    when the console has said that it speaks RFB. If the console has a VNC password, the filter first logs in
//!    itself ([`rfb`]). A console that is a WebSocket
//!    already (WebMKS) is passed through ([`relay`]).
//!
//! # How to read it
//!
//! [`session::Session`] is the one state machine: it is told what happened and answers what to do. It knows
//! neither Envoy nor time, does no I/O, and is tested natively. The crate `vncgate-filter` is the shell around
//! it: compiled for WebAssembly only, it carries events in and commands out, and it alone knows Envoy.
//!
//! | module | job |
//! |---|---|
//! | [`session`] | the state machine of a session |
//! | [`upgrade`] | step 3: reads the browser's request |
//! | [`check`] | step 4: the authority's API |
//! | [`trace_context`] | step 4: the trace that the request belongs to |
//! | [`tunnel`] | step 6: both directions of an open console |
//! | [`relay`] | step 6 for a console that is a WebSocket already |
//! | [`client_messages`] | what of the browser's messages may pass to the console |
//! | [`rfb`] | the beginning of a VNC console, and the login to one that has a password |
//! | [`websocket`] | frames |
//! | [`reports`] | what the authority is told of open sessions, and its orders |
//! | [`end`], [`traffic`] | why a session ended, and how many bytes it had |
//! | [`outputs`] | what a session wants done with Envoy's bodies |
//! | [`session_limits`] | how many sessions each client, token and machine has |
//! | [`config`] | the plugin configuration |
//! | [`refusal`] | why a request is refused, and what the browser is told |
//! | [`access_log`] | host and path of a request as the access log shows them |
//! | [`headers`], [`origin`] | values of a request |
//!
//! # What it never does
//!
//! - It never panics: a trap would end every session on the Envoy worker. Panicking operations are
//!   denied by lint.
//! - It never connects to an address that a client named: targets come from the authority only.
//! - It never copies a byte of a screen: a frame header is put before what Envoy has buffered. It reads the
//!   server's bytes only until the server has said that it speaks RFB, and while it logs in.
//! - It never sends a byte of the browser to a target that has not said so.
//! - It never lets a token into a log, a metric, an error or the path that the access log shows.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unreachable,
        clippy::todo
    )
)]

pub mod access_log;
pub mod check;
pub mod client_messages;
pub mod config;
pub mod end;
pub mod headers;
pub mod origin;
pub mod outputs;
pub mod refusal;
pub mod relay;
pub mod reports;
pub mod rfb;
pub mod session;
pub mod session_limits;
pub mod trace_context;
pub mod traffic;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;
