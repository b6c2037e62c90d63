//! A day of operation: vncgate beside another application in one Envoy, rotated credentials and certificates, reloads,
//! replicas, a full disk, and an operator who reads logs. `docs/operations.md` is that day in words.
//!
//! | module | what it tells |
//! |---|---|
//! | `replicas` | two authorities behind one Envoy, one of them killed |
//! | `shared_listener` | vncgate and another application in an Envoy, each with a filter chain of its own |
//! | `shared_manager` | vncgate and another application in one connection manager |
//!
//! Real parts: Envoy with the shipped configurations, the built authority, memcached, Redis, nginx. vCenter is govmomi's
//! simulator.
//!
//! | module | what it shows |
//! |---|---|
//! | `vcenter_metrics` | a vCenter that does not answer is down in the metrics |
//! | `who` | who had which console, and why a user failed, from the logs alone |

mod vcenter_metrics;
mod who;

mod beside;
mod replicas;
mod shared_listener;
mod shared_manager;

mod host_certificates;

mod mutual_tls;
//! - `redis_password`: the password of the token store is changed.

mod redis_password;
