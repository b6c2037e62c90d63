//! The filter in Envoy: upgrades, bytes both ways, limits and log of the gateway with the shipped configuration.
//!
//! Real parts: Envoy with the built filter, the built authority. vCenter is govmomi's simulator, and consoles
//! are TCP servers in the test's hands.
//!
//! `ENVOY_VERSION` chooses the Envoy; `just test-envoy-versions` runs all of this on each supported one.
//!
//! | module | what it shows |
//! |---|---|
//! | `upgrade`, `http`, `http2` | the opening handshake, plain requests, consoles over HTTP/2 |
//! | `browser_bytes`, `malformed`, `buffers` | frames and bytes, good and bad, and more than fits |
//! | `closing` | what a Close of the filter waits for |
//! | `authority`, `target` | an authority and a console host that misbehave |
//! | `limits`, `keep_alive` | stalled and silent clients |
//! | `log` | the access log has every session, and no token |

mod authority;
mod browser_bytes;
mod buffers;
mod closing;
mod fixture;
mod http;
mod http2;
mod keep_alive;
mod limits;
mod log;
mod malformed;
mod other_hosts;
mod target;
mod upgrade;
