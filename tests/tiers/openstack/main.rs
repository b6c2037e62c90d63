//! OpenStack's own clients and the real Keystone against the whole gateway.

mod api;
mod bad_input;
mod clients;
mod fixture;
mod identity;
