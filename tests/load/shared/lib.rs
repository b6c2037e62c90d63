//! What the load programs share. `vncgate-bench` measures the gateway beside other proxies; `vncgate-growth` measures
//! what a larger installation costs, and `vncgate-fleet` a day of a large one; `vncgate-soak` keeps thousands of sessions
//! open while parts of the gateway fail.
//!
//! | module | job |
//! |---|---|
//! | [`caller`] | a caller of the authority alone |
//! | [`connection`] | a client's way to a console: TCP, TLS, WebSocket and tunnel, over HTTP/1.1 and HTTP/2 |
//! | [`cores`] | which part runs on which core |
//! | [`session`] | a client's session on it: [`frame`] |
//! | [`echo`] | messages that come back, sent at a steady rate: [`latency`] |
//! | [`gateway`] | what Envoy's configuration lets the load do |
//! | [`metrics`] | what the authority has counted |
//! | [`pattern`] | the bytes that sessions carry, and the check that they arrived |
//! | [`plot`] | what pictures have in common |
//! | [`worker`] | a simulated gateway worker; [`orders`]: what the workers were ordered |
//! | [`usage`] | what processes use: CPU, memory, descriptors |
//! | [`results`] | the results file, and what a run ran on |

pub mod caller;
pub mod connection;
pub mod cores;
pub mod echo;
pub mod frame;
pub mod gateway;
pub mod latency;
pub mod metrics;
pub mod orders;
pub mod pattern;
pub mod plot;
pub mod results;
pub mod session;
pub mod usage;
pub mod worker;
