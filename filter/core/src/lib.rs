//! The vncgate filter: opens the consoles of virtual machines over WebSocket, inside Envoy.
//!
//! # One console session
//!
//! The whole product serves six steps; this crate is steps 3, 4 and 6.
//!
//! ```text
//! caller ──1 issue──▶ authority ──2 look up──▶ vCenter          (console URL with a token)
//! browser ──3 WebSocket upgrade──▶ Envoy
//!                      Envoy/filter ──4 check──▶ authority ──5 validate──▶ vCenter
//!                      Envoy/filter ──6 tunnel: WebSocket ⇄ raw RFB──▶ ESXi
//! ```
//!
//! 3. A browser asks for a WebSocket ([`upgrade`]): method, version, key, origin, subprotocol and
//!    the console token are read, or the request is refused ([`refusal`]) with a status and a reason.
//!    What is not a WebSocket upgrade passes untouched. A client that has its share of sessions
//!    ([`clients`]) is refused.
//! 4. The filter asks the authority whether the token is good and where the console is ([`check`]).
//!    The answer, a target, becomes Envoy filter state: the router dials exactly that address.
//! 6. Envoy has connected. The filter answers `101` and turns WebSocket frames into raw bytes one way
//!    and raw bytes into WebSocket frames the other way ([`tunnel`], [`websocket`]), until either side
//!    ends. Where the console has a VNC password, the filter first logs in itself ([`rfb`]). A console
//!    that is a WebSocket already (WebMKS) is passed through.
//!
//! # How to read it
//!
//! [`session::Session`] is the one state machine: it is told what happened and answers what to do.
//! It knows neither Envoy nor time, does no I/O, and is tested natively. The `shell` (compiled for
//! WebAssembly only) carries events in and commands out, and is the only place that knows Envoy.
//!
//! # What it never does
//!
//! - It never panics: a trap would end every session on the Envoy worker. Panicking operations are
//!   denied by lint.
//! - It never connects to an address that a client named: targets come from the authority only.
//! - It never copies a byte of a screen: a frame header is put before what Envoy has buffered. (Of the
//!   server's bytes it reads those of its own login only.)
//! - It never lets a token into a log, a metric, an error or the `:path` that the access log shows.
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

pub mod check;
pub mod clients;
pub mod config;
pub mod refusal;
pub mod rfb;
pub mod session;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;
