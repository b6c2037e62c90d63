//! Token stores: one set of tests on memory, memcached and Redis, outages of the two on the network, and two
//! authorities that share one.

mod contract;
mod fixture;
mod network;
mod replicas;
