//! The documentation says what the code says: every link leads to a file, every name is one that exists, and every
//! table of keys and codes is complete. Nothing is started and nothing has to be built but this test.
//!
//! - [`references`]: links, paths, recipes and names of tests in every page;
//! - [`configuration`]: docs/configuration.md has every key of authority and filter, with default and range;
//! - [`errors`]: docs/errors.md has every refusal and close code, with its status;
//! - [`log_lines`]: docs/operations.md has the log lines that tell who opened what, with their fields;
//! - [`architecture`]: docs/architecture.md has the budget of a session;
//! - [`metrics`]: docs/operations.md has every metric;
//! - [`envoy_configuration`]: the shipped Envoy files against each other;
//! - [`chart`]: the Helm chart's schema has every key of the authority.

mod architecture;
mod chart;
mod configuration;
mod envoy_configuration;
mod errors;
mod log_lines;
mod metrics;
mod pages;
mod references;
