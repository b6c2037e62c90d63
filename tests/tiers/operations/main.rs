//! A day of operation: vncgate beside another application in one Envoy, rotated credentials and certificates, reloads,
//! replicas, a full disk, and an operator who reads logs. `docs/operations.md` is that day in words.
//!
//! | module | what it shows |
//! |---|---|
//! | `audit` | the audit trail: a record of each thing, rotated, and with nowhere to write |
//! | `clock` | the authority's clock jumps |
//! | `dashboards` | the alert rules fire when they have to; each metric of rules and dashboard exists |
//! | `doctor` | `doctor` and `check-config` find each fault by its name |
//! | `full_disk` | the log's disk is full |
//! | `host_certificates` | two authorities tell two Envoys which ESXi hosts to accept |
//! | `mutual_tls` | TLS between Envoy and the authority's listeners |
//! | `proxy_in_front` | nginx before Envoy |
//! | `redis_password` | the password of the token store is changed |
//! | `reload` | SIGHUP with good and bad configurations |
//! | `replicas` | two authorities behind one Envoy, one of them killed |
//! | `restarts` | Envoy drained and restarted hot under open consoles |
//! | `rotation` | passwords, tokens and certificates change under live consoles |
//! | `second_serve` | a second authority with the same configuration |
//! | `shared_listener` | vncgate and another application in an Envoy, each with a filter chain of its own |
//! | `shared_manager` | vncgate and another application in one connection manager |
//! | `traces` | a browser's trace goes on in the authority |
//! | `two_vncgates` | two vncgates in one connection manager |
//! | `vcenter_metrics` | a vCenter that does not answer is down in the metrics |
//! | `who` | who had which console, and why a user failed, from the logs alone |
//!
//! `beside` has the other application, `site` an authority and its vCenter for tests without Envoy.
//!
//! Real parts: Envoy with the shipped configurations, the built authority, memcached, Redis, openssl, nginx, promtool.
//! vCenter is govmomi's simulator.

mod audit;
mod beside;
mod clock;
mod dashboards;
mod doctor;
mod full_disk;
mod host_certificates;
mod mutual_tls;
mod proxy_in_front;
mod redis_password;
mod reload;
mod replicas;
mod restarts;
mod rotation;
mod second_serve;
mod shared_listener;
mod shared_manager;
mod site;
mod traces;
mod two_vncgates;
mod vcenter_metrics;
mod who;
