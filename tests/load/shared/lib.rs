//! What the two load programs share. `vncgate-bench` measures the gateway beside other proxies; `vncgate-soak`
//! keeps thousands of sessions open while parts of the gateway fail.
//!
//! | module | job |
//! |---|---|
//! | [`connection`] | a client's way to a console: TCP, TLS, WebSocket and tunnel, over HTTP/1.1 and HTTP/2 |
//! | [`pattern`] | the bytes that sessions carry, and the check that they arrived |
//! | [`usage`] | what processes use: CPU, memory, descriptors |
//! | [`results`] | the results file, and what a run ran on |

pub mod connection;
pub mod pattern;
pub mod results;
pub mod usage;
