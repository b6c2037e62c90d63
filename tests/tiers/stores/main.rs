//! Token stores: one set of tests on memory, memcached and Redis (`contract`), outages of the two on the network
//! (`network`), and two authorities that share one (`replicas`).
//!
//! Real parts: memcached, Redis, the built authority. vCenter is govmomi's simulator. `contract` and `network`
//! call the authority's store types without an authority.

mod contract;
mod fixture;
mod network;
mod replicas;
