//! A small proxy-wasm host that runs the built filter as Envoy does, in one thread and without a
//! network.
//!
//! [`Filter`] is the compiled module, [`Host`] an imagined Envoy worker that has started it, and
//! [`Stream`] one HTTP stream through it. A test plays the rest: the client, the upstream, and
//! the server that answers the filter's calls.
//!
//! ```text
//! client ── Stream::client_sends ──▶ ┌────────┐ ──▶ returned ────────── upstream
//!        ◀── returned ────────────── │ filter │ ◀── Stream::upstream_sends
//!                                    └───┬────┘
//!                    Stream::take_call ◀─┴─▶ Host::answer
//! ```
//!
//! The host keeps Envoy's semantics wherever a filter can tell the difference: which header maps and
//! buffers exist in which callback, what pausing holds back and what resuming lets go, that replies
//! pass the response callbacks, that a trap takes every stream of the VM along. Each rule was read
//! in Envoy's `source/extensions/common/wasm/context.cc`, its `http/filter_manager.cc`, or
//! proxy-wasm-cpp-host. It also counts: host calls, bytes copied in and instructions of every
//! callback are the same on every machine, so tests can hold them to exact values.
//!
//! Left out, because the filter uses none of it: trailers, TCP filters, gRPC, foreign functions, other
//! workers.
//!
//! | module | job |
//! |---|---|
//! | `vm` | compiles and instantiates the module, calls its exports |
//! | `imports` | the host functions: arguments in, results out |
//! | `context` | what the host functions mean |
//! | `filter_manager` | how a stream moves through the filter |
//! | `half` | one direction of a stream |
//! | `headers`, `metrics`, `call`, `abi` | values |
//! | `trace` | counts, and injected faults |
//! | `artifact` | where the built filter is |
//! | `host` | what tests drive |

mod abi;
mod artifact;
mod call;
mod context;
mod filter_manager;
mod half;
mod headers;
mod host;
mod imports;
mod metrics;
mod trace;
mod vm;

pub use abi::{BufferType, LogLevel, Status};
pub use artifact::{built_filter, built_filter_path};
pub use call::{Call, CallAnswer, ClusterHealth};
pub use context::{End, LogLine, NODE_ID};
pub use half::BUFFER_LIMIT;
pub use headers::HeaderMap;
pub use host::{CLIENT_ADDRESS, Host, Response, Setup, Stream};
pub use trace::{Callback, Counts, Fault, HostCall};
pub use vm::{Filter, LoadError, StartError};
