//! The authority against a real (simulated) vCenter, by its own interfaces: the console API as callers use
//! it, the check API as the filter uses it, its commands, its log.

mod check;
mod command;
mod fake;
mod faults;
mod fixture;
mod issue;
mod outage;
mod service;
mod session;
mod size;
mod two_vcenters;
