//! Token stores: one set of tests on memory, memcached, Redis, Redis with Sentinels and Redis Cluster (`contract`), outages
//! of those on the network (`network`), connecting again (`reconnect`), failover (`failover`), and two authorities that
//! share one (`replicas`), and the register of live sessions (`sessions`).
//!
//! Real parts: memcached, Redis, Sentinel, the built authority. vCenter is govmomi's simulator. `contract`, `network` and
//! `reconnect` call the authority's store types without an authority.

mod contract;
mod failover;
mod fixture;
mod network;
mod reconnect;
mod replicas;
mod sessions;
