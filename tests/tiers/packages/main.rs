//! The Debian packages: installed, upgraded and removed in a root of the test's own, with a systemd that runs there and
//! without one.
//!
//! Real parts: dpkg, apt and systemd in a small Debian (`tests/setup/debian-root`), booted by systemd-nspawn; lintian; Envoy
//! with the shipped configuration; and the packages of `./justw packages`. In `service` the test is in systemd's place, to
//! hear what the service says to it. vCenter is govmomi's simulator.

mod fixture;
mod package;
mod service;
mod systemd;
