//! An unmodified Horizon over the whole gateway: everything that it is told is in Keystone's catalog.
//!
//! Real parts: Horizon on Django's own server, Keystone, Chromium, QEMU, Envoy with the built filter, the built authority.
//! vCenter is govmomi's simulator; the network service is a script that has nothing.

mod clients;
mod consoles;
mod fixture;
mod instances;
mod nova;
mod plugin;
mod regions;
