//! The Debian packages: installed, upgraded and removed in a root of the test's own, and the service as systemd starts it.
//!
//! Real parts: dpkg, apt and systemd's tools in a small Debian (`tests/setup/debian-root`), and the packages of
//! `./justw packages`. A systemd that runs is not among them: CI's machines have none. The service is started as the unit
//! would start it, and the test is its supervisor. vCenter is govmomi's simulator.

mod fixture;
mod package;
mod service;
