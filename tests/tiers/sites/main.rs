//! Two sites, each with an authority and a vCenter of its own, and one token store: a token of one site opens its
//! console at the other's gateway, and what happens when the other site is down, hostile or not one at all.
//!
//! Real parts: the built authorities, Redis, memcached, Envoy with the built filter, the `openssl`
//! commands of `docs/sites.md`. Each vCenter is govmomi's simulator.

mod certificates;
mod consoles;
mod fixture;
mod floods;
mod hostile;
mod outages;
