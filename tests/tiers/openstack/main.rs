//! OpenStack's own clients against the whole gateway.
//!
//! Real parts: Keystone, novaclient, openstackclient, Chromium, QEMU, Envoy with the built filter, the built
//! authority. vCenter is govmomi's simulator.

mod api;
mod bad_input;
mod clients;
mod disabled;
mod doctor;
mod identity;
mod power;
