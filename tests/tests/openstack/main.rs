//! OpenStack's own clients and the real Keystone against the whole gateway.

mod api;
mod clients;
mod fixture;
mod identity;
