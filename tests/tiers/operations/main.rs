//! A day of operation: vncgate beside another application in one Envoy, rotated credentials and certificates, reloads,
//! replicas, a full disk, and an operator who reads logs. `docs/operations.md` is that day in words.
//!
//! | module | what it tells |
//! |---|---|
//! | `replicas` | two authorities behind one Envoy, one of them killed |
//!
//! Real parts: Envoy with the shipped configurations, the built authority, memcached, Redis, nginx. vCenter is govmomi's
//! simulator.
//!
//! | module | what it shows |
//! |---|---|
//! | `who` | who had which console, and why a user failed, from the logs alone |

mod who;

mod replicas;
