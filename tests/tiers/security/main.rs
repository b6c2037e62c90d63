//! Each hole that a proxy of this kind has had, tried on the whole gateway.
//!
//! Real parts: Envoy with the shipped configuration and the built filter, the built authority. vCenter is
//! govmomi's simulator.
//!
//! A test is named after its hole, by the number under which it was published:
//!
//! - [`wrong_console`]: a token opens the console that it was issued for, or none;
//! - [`cross_site`]: pages of others open no console, and choose no server for ours;
//! - [`secrets`]: tokens are in no log, no metric, no cookie and no redirect;
//! - [`console_secrets`]: nor are WebMKS tickets and VNC passwords;
//! - [`shared_ports`]: two machines never have one console;
//! - [`floods`]: stalled, many and endless requests and sessions leave room for the others;
//! - [`slow_readers`]: so do clients that do not read what they asked for;
//! - [`unfinished_requests`]: and those that do not send what they announced;
//! - [`frames`]: frames that no browser sends, consoles that are no VNC servers;
//! - [`http2`]: floods of frames, and requests that name a target, over HTTP/2;
//! - [`portals`]: the users of a portal are many;
//! - [`targets`]: no request chooses where Envoy connects, or reaches the internal listener;
//! - [`trap`]: a filter that traps admits no client, and the next request is served.
//!
//! `SECURITY.md` lists them beside the threats. Other tiers try more of each; here is what has to hold
//! whatever else changes.

mod console_secrets;
mod cross_site;
mod fixture;
mod floods;
mod frames;
mod http2;
mod portals;
mod secrets;
mod shared_ports;
mod slow_readers;
mod targets;
mod trap;
mod unfinished_requests;
mod wrong_console;
